"""Sets of time: half-open, sorted, disjoint intervals, and their algebra.

An instant `t` belongs to `[start, stop)` when `start <= t < stop`. Intervals that touch are merged
on construction, so that two sets that hold the same instants compare equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Intervals:
    """An immutable set of instants, held as `start` and `stop`, float64 (n,), in seconds.

    Overlapping and touching intervals given to the constructor are united, empty ones dropped.

    Raises ValueError for unequal lengths, NaN, or a stop before its start.
    """

    __slots__ = ("start", "stop")

    start: FloatArray
    stop: FloatArray

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
    def empty(cls) -> Intervals:
        """The set that holds no instant."""
        return cls()

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[float, float]]) -> Intervals:
        """The union of `(start, stop)` pairs."""
        array = np.array(list(pairs), dtype=np.float64).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.start.tolist(), self.stop.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return np.array_equal(self.start, other.start) and np.array_equal(self.stop, other.stop)

    def __hash__(self) -> int:
        return hash((self.start.tobytes(), self.stop.tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(f"[{a:g}, {b:g})" for a, b in list(self)[:4])
        return f"Intervals({shown}{', …' if len(self) > 4 else ''}; {self.duration:g} s)"

    @property
    def duration(self) -> float:
        """Total length in seconds."""
        return float(np.sum(self.stop - self.start))

    @property
    def span(self) -> tuple[float, float]:
        """First start and last stop; (0, 0) for the empty set."""
        return (float(self.start[0]), float(self.stop[-1])) if len(self) else (0.0, 0.0)

    def contains(self, times: ArrayLike) -> Mask:
        """Which of `times` (n,), in seconds and any order, belong to the set: bool (n,)."""
        times = np.asarray(times, dtype=np.float64)
        row = np.searchsorted(self.start, times, side="right") - 1
        inside = row >= 0
        inside[inside] = times[inside] < self.stop[row[inside]]
        return inside

    def __and__(self, other: Intervals) -> Intervals:
        """The instants in both."""
        return self._where(other, lambda mine, theirs: mine & theirs)

    def __or__(self, other: Intervals) -> Intervals:
        """The instants in either."""
        return Intervals(
            np.concatenate([self.start, other.start]), np.concatenate([self.stop, other.stop])
        )

    def __sub__(self, other: Intervals) -> Intervals:
        """The instants in this set and not in `other`."""
        return self._where(other, lambda mine, theirs: mine & ~theirs)

    def _where(self, other: Intervals, keep: Callable[[Mask, Mask], Mask]) -> Intervals:
        """Cut the time axis at every edge of both sets; `keep` chooses among the pieces."""
        edges = np.unique(np.concatenate([self.start, self.stop, other.start, other.stop]))
        left = edges[:-1]
        kept = keep(self.contains(left), other.contains(left))
        return Intervals(left[kept], edges[1:][kept])

    def dilate(self, before: float, after: float | None = None) -> Intervals:
        """Each interval widened by `before` seconds at its start and `after` at its end."""
        after = before if after is None else after
        return Intervals(self.start - before, self.stop + after)


def _united(start: FloatArray, stop: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sorted, merged where they overlap or touch, without the empty ones; always fresh arrays."""
    kept = start < stop
    order = np.argsort(start[kept], kind="stable")
    start, stop = start[kept][order], stop[kept][order]
    if not len(start):
        return start, stop
    reach = np.maximum.accumulate(stop)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return start[first], reach[last]
