"""Sets of time: half-open, sorted, disjoint intervals, and their algebra.

An instant `t` belongs to `[start, stop)` when `start <= t < stop`. Intervals that touch are merged
on construction, so that two sets that hold the same instants compare equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Intervals:
    """An immutable set of instants: sorted, disjoint intervals `[start[k], stop[k])` in seconds.

        trials = Intervals([0.0, 2.0], [1.5, 3.0])
        (trials & session.domain).duration
        trials.contains(spikes.times)

    The constructor unites intervals that overlap or touch, and drops empty ones. Sets compare
    equal when they hold the same instants. `&`, `|` and `-` are those of sets; `len` and iteration
    go through the intervals, as `(start, stop)` pairs.

    Raises ValueError for unequal lengths, NaN, or a stop before its start.
    """

    __slots__ = ("start", "stop")

    start: FloatArray  # (n,) float64, seconds, sorted, read-only
    stop: FloatArray  # (n,) float64, seconds, sorted, read-only

    def __init__(self, start: ArrayLike = (), stop: ArrayLike = ()) -> None:
        starts = np.atleast_1d(np.asarray(start, dtype=np.float64))
        stops = np.atleast_1d(np.asarray(stop, dtype=np.float64))
        if starts.ndim != 1 or starts.shape != stops.shape:
            raise ValueError(f"start {starts.shape} and stop {stops.shape} must be equally long")
        if not np.all(starts <= stops):  # NaN fails the comparison too
            raise ValueError("each interval needs start <= stop, and neither may be NaN")
        starts, stops = _united(starts, stops)
        starts.flags.writeable = stops.flags.writeable = False
        object.__setattr__(self, "start", starts)
        object.__setattr__(self, "stop", stops)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Intervals are immutable")

    def __reduce__(self) -> tuple[type[Intervals], tuple[FloatArray, FloatArray]]:
        return (Intervals, (self.start, self.stop))

    @classmethod
    def _sorted(cls, start: FloatArray, stop: FloatArray) -> Intervals:
        """A set of edges that are known to be sorted, disjoint and without empty intervals."""
        intervals = cls.__new__(cls)
        start.flags.writeable = stop.flags.writeable = False
        object.__setattr__(intervals, "start", start)
        object.__setattr__(intervals, "stop", stop)
        return intervals

    @classmethod
    def empty(cls) -> Intervals:
        """The set that holds no instant."""
        return cls()

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[float, float]]) -> Intervals:
        """The union of `(start, stop)` pairs, in seconds.

        Raises ValueError for anything but pairs, NaN, or a stop before its start.
        """
        edges = np.array(list(pairs), dtype=np.float64)
        if edges.size == 0:
            return cls()
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise ValueError(f"pairs have the shape (n, 2), not {edges.shape}")
        return cls(edges[:, 0], edges[:, 1])

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.start.tolist(), self.stop.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return np.array_equal(self.start, other.start) and np.array_equal(self.stop, other.stop)

    def __hash__(self) -> int:
        # -0.0 equals 0.0, but its bytes differ. -0.0 + 0.0 has the bytes of 0.0.
        return hash(((self.start + 0.0).tobytes(), (self.stop + 0.0).tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(f"[{a:g}, {b:g})" for a, b in list(self)[:4])
        return f"Intervals({shown}{', …' if len(self) > 4 else ''}; {self.duration:g} s)"

    @property
    def duration(self) -> float:
        """The sum of the intervals' lengths, in seconds."""
        return float(np.sum(self.stop - self.start))

    @property
    def span(self) -> tuple[float, float]:
        """First start and last stop, in seconds; (0, 0) for the empty set."""
        return (float(self.start[0]), float(self.stop[-1])) if len(self) else (0.0, 0.0)

    def contains(self, times: ArrayLike) -> Mask:
        """Which of `times`, in seconds and any order, belong to the set: bool, in their shape."""
        times = np.asarray(times, dtype=np.float64)
        row = np.searchsorted(self.start, times, side="right") - 1
        return self._stops(times, row) > times

    def covers(self, start: ArrayLike, stop: ArrayLike) -> Mask:
        """Which of the intervals `[start, stop)`, in any order, lie wholly in an interval of the
        set: bool, in their shape. An interval without length lies nowhere.

        Raises ValueError when `start` and `stop` differ in shape.
        """
        starts = np.asarray(start, dtype=np.float64)
        stops = np.asarray(stop, dtype=np.float64)
        if starts.shape != stops.shape:
            raise ValueError(f"start {starts.shape} and stop {stops.shape} must be equally long")
        row = np.searchsorted(self.start, starts, side="right") - 1
        return (starts < stops) & (self._stops(starts, row) >= stops)

    def _stops(self, times: FloatArray, row: NDArray[np.int64]) -> FloatArray:
        """The stop of interval `row`, for each of `times`; -inf where there is none."""
        stops = np.append(self.stop, -np.inf)  # row -1 is the last
        return np.where(np.isnan(times), -np.inf, stops[row])

    def clip(self, start: float, stop: float) -> Intervals:
        """The instants in `[start, stop)`, in seconds. Quicker than `&` with that one interval.

        Raises ValueError for NaN, or a stop before the start.
        """
        if not start <= stop:
            raise ValueError(f"[{start}, {stop}) is no interval")
        first = self.stop.searchsorted(start, side="right")
        last = max(first, self.start.searchsorted(stop)) if start < stop else first
        starts, stops = self.start[first:last].copy(), self.stop[first:last].copy()
        if len(starts):
            starts[0], stops[-1] = max(starts[0], start), min(stops[-1], stop)
        return self._sorted(starts, stops)

    def __and__(self, other: Intervals) -> Intervals:
        """The instants in both sets."""
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._where(other, lambda in_self, in_other: in_self & in_other)

    def __or__(self, other: Intervals) -> Intervals:
        """The instants in either set."""
        if not isinstance(other, Intervals):
            return NotImplemented
        return Intervals(
            np.concatenate([self.start, other.start]), np.concatenate([self.stop, other.stop])
        )

    def __sub__(self, other: Intervals) -> Intervals:
        """The instants in this set and not in `other`."""
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._where(other, lambda in_self, in_other: in_self & ~in_other)

    def _where(self, other: Intervals, keep: Callable[[Mask, Mask], Mask]) -> Intervals:
        """Cut the time axis at every edge of both sets, and keep the pieces that `keep` chooses."""
        edges = np.unique(np.concatenate([self.start, self.stop, other.start, other.stop]))
        left = edges[:-1]
        kept = keep(self.contains(left), other.contains(left))
        return Intervals(left[kept], edges[1:][kept])

    def dilate(self, before: float, after: float | None = None) -> Intervals:
        """Each interval widened: by `before` seconds at its start, by `after` at its end.

        `after` is `before` if None. Intervals that then meet are united. Negative widths erode:
        each interval shrinks, and one with nothing left vanishes.

        Raises ValueError for a width that is not finite.
        """
        after = before if after is None else after
        if not np.isfinite([before, after]).all():
            raise ValueError(f"intervals widen by finite seconds, not by {before} and {after}")
        start, stop = self.start - before, self.stop + after
        left = start < stop
        return Intervals(start[left], stop[left])

    def coalesce(self, gap: float) -> Intervals:
        """The set with its gaps of at most `gap` seconds filled, to within rounding of the edges.

        Raises ValueError for a gap that is negative or NaN.
        """
        if not gap >= 0:
            raise ValueError(f"a gap is 0 s or longer, not {gap}")
        # In float64, 0.4 - 0.3 exceeds 0.1. It still has to count as a gap of 0.1 s.
        apart = self.start[1:] - self.stop[:-1] > gap + _rounding(self.stop[:-1], self.start[1:])
        first = np.concatenate([[True], apart])[: len(self)]
        return Intervals(self.start[first], self.stop[np.roll(first, -1)])

    def subdivide(
        self, length: float, *, step: float | None = None, partial: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Windows of `length` seconds, every `step` seconds from the start of each interval.

        Returns starts and stops, float64 (windows,) each, in seconds and in order. They are arrays
        and no Intervals, which would unite windows that touch. `step` is `length` if None.

        No window leaves its interval. A window that would overhang it by rounding, or by a
        billionth of its length, ends with the interval. `partial` adds one shorter window at the
        end of an interval, if that end is in no window yet. With `partial` and `step <= length`
        the windows cover the set. With `step == length`, the stop of a window is exactly the start
        of the next.

        Raises ValueError when `length` or `step` is not positive and finite, or is too short for
        float64 to tell apart at these times, and when the set is unbounded.
        """
        step = length if step is None else step
        if not (0 < length < np.inf and 0 < step < np.inf):
            raise ValueError(f"length and step are positive seconds, not {length} and {step}")
        self._need_bounds()
        length, step, partial = float(length), float(step), bool(partial)
        slack = 1e-9 * length + _rounding(self.start, self.stop)
        if np.any(slack >= min(length, step) / 2):
            raise ValueError(f"float64 cannot tell {min(length, step)} s apart at {self.span} s")
        duration = self.stop - self.start
        full = np.maximum(np.floor((duration - length + slack) / step) + 1, 0).astype(np.int64)
        # Not (full - 1) * step + length: with length == step this is exactly full * step.
        ends = (full > 0) & ((full - 1 + length / step) * step >= duration - slack)
        begins = (full == 0) | (full * step < duration - slack)
        counts = full + (partial & ~ends & begins)
        row = np.repeat(np.arange(len(self)), counts)
        k = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = self.start[row] + k * step
        stop = self.start[row] + (k + length / step) * step
        return start, np.where(k >= (full - ends)[row], self.stop[row], stop)

    def split(
        self, fractions: Sequence[float], *, seed: int, length: float | None = None
    ) -> tuple[Intervals, ...]:
        """The set divided at random into disjoint sets, one for each of `fractions`.

        `fractions` are shares of the duration and add up to 1. The sets together are the whole
        set. The same `seed` gives the same division.

        Intervals stay whole. With `length`, they are first cut into pieces of `length` seconds (see
        `subdivide`, with `partial`), and pieces stay whole. The duration of each set differs from
        its share by at most the longest interval, or piece.

        Raises ValueError when the fractions are negative or do not add up to 1, when the set is
        unbounded, and for lengths that `subdivide` refuses.
        """
        shares = np.asarray(fractions, dtype=np.float64)
        if shares.ndim != 1 or not (np.all(shares >= 0) and abs(shares.sum() - 1) < 1e-9):
            raise ValueError(f"fractions are 0 or more and add up to 1, unlike {fractions}")
        self._need_bounds()
        start, stop = self.start, self.stop
        if length is not None:
            start, stop = self.subdivide(length, partial=True)
        order = np.random.default_rng(seed).permutation(len(start))
        start, stop = start[order], stop[order]
        # Lay the pieces end to end in that order: a piece goes to the part that holds its middle.
        reach = np.cumsum(stop - start)
        middle = reach - (stop - start) / 2
        cuts = np.cumsum(shares)[:-1] * (reach[-1] if len(reach) else 0.0)
        part = np.searchsorted(cuts, middle, side="right")
        return tuple(Intervals(start[part == k], stop[part == k]) for k in range(len(shares)))

    def _need_bounds(self) -> None:
        if not np.isfinite(self.span).all():
            raise ValueError(f"a set with bounds is needed, and this one spans {self.span}")


def _rounding(start: FloatArray, stop: FloatArray) -> FloatArray:
    """The rounding error of a duration between two instants, in seconds: of both instants, and of
    each step of arithmetic between them."""
    return 8 * np.spacing(np.maximum(np.abs(start), np.abs(stop)))


def _united(start: FloatArray, stop: FloatArray) -> tuple[FloatArray, FloatArray]:
    """New arrays: sorted, merged where intervals overlap or touch, without empty intervals."""
    kept = start < stop
    order = np.argsort(start[kept], kind="stable")
    start, stop = start[kept][order], stop[kept][order]
    if not len(start):
        return start, stop
    reach = np.maximum.accumulate(stop)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return start[first], reach[last]
