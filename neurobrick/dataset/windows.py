"""Where windows lie: random windows for training, a walk through time for evaluation, whole trials.

This module is index arithmetic alone. `Dataset.windows` gives the stretches of time in which
windows may lie, and `Dataset.slices` reads the windows. An epoch depends only on the seed, its
number and the sessions, so that an interrupted run continues with the same windows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import listed

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Order = Literal["random", "sequential", "trials"]
Items = TypeVar("Items", list[IntArray], range, FloatArray, IntArray)
ORDERS: tuple[str, ...] = get_args(Order)
SLACK = 1e-9  # in windows: a stretch of 1 s holds ten windows of 0.1 s, whatever rounding says


@dataclass(frozen=True)
class Rank:
    """Number `index` of `size` processes. Each takes its share of every epoch."""

    index: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.size:
            raise ValueError(f"rank {self.index} of {self.size}: ranks are 0 to size - 1")


@dataclass(frozen=True)
class WindowBatch:
    """Windows: window k is `[starts[k], starts[k] + lengths[k])` of `session_ids[k]`."""

    session_ids: Sequence[str]  # (windows,)
    starts: FloatArray  # (windows,) float64, seconds on the session's clock
    lengths: FloatArray  # (windows,) float64, seconds

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Windows:
    """The windows of every epoch. `Dataset.windows` makes it.

    Windows lie in stretches of time: stretch k is `[start[k], stop[k])` of session
    `sessions[row[k]]`. `order` says how:

    - `random`: each epoch has as many windows as fit side by side, shuffled. In a stretch, each
      start is drawn from its own equal share of the possible starts, so that they spread evenly.
    - `sequential`: a window every `step` seconds from the start of each stretch, in order.
    - `trials`: each stretch is one window.
    """

    sessions: Sequence[str]  # ids
    row: IntArray  # (stretches,) int64, numbers of sessions
    start: FloatArray  # (stretches,) float64, seconds
    stop: FloatArray  # (stretches,) float64, seconds
    order: Order
    length: float  # seconds of a window
    step: float  # seconds from a window to the next, in sequential order
    seed: int
    rank: Rank

    @classmethod
    def lay(
        cls,
        stretches: Mapping[str, tuple[FloatArray, FloatArray]],
        *,
        order: Order = "random",
        length: float = 1.0,
        step: float | None = None,
        seed: int = 0,
        rank: Rank | None = None,
    ) -> Windows:
        """Windows in `stretches`: starts and stops (n,) in seconds, by session id.

        Raises ValueError for an unknown order, a length or step that is not positive and finite, a
        negative seed, and when no stretch is long enough.
        """
        check_order(order)
        if not isinstance(stretches, Mapping):
            raise TypeError(f"stretches is a mapping, unlike {type(stretches).__name__}")
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, not {seed}")
        step = length if step is None else step
        if not (0 < length < np.inf and 0 < step < np.inf):
            raise ValueError(
                f"a window's length and step are positive seconds, not {length} and {step}"
            )
        sessions = list(stretches)
        sizes = [len(start) for start, _ in stretches.values()]
        empty = [np.zeros(0)]
        start = np.concatenate([*(start for start, _ in stretches.values()), *empty])
        stop = np.concatenate([*(stop for _, stop in stretches.values()), *empty])
        row = np.repeat(np.arange(len(sessions)), sizes)
        kept = stop > start if order == "trials" else _fit(start, stop, length, length) > 0
        if not kept.any():
            longest = float((stop - start).max(initial=0.0))
            raise ValueError(
                f"no stretch holds a window of {length:g} s: the longest of {len(start)} in"
                f" {len(sessions)} sessions has {longest:g} s"
            )
        return cls(
            sessions,
            row[kept],
            start[kept],
            stop[kept],
            order,
            float(length),
            float(step),
            seed,
            rank or Rank(),
        )

    def epoch(self, number: int = 0) -> WindowBatch:
        """This rank's windows of epoch `number`, in order.

        In random order all ranks have equally many windows; up to `world_size - 1` windows of an
        epoch are left out. In the other orders no window is left out.
        """
        if self.order == "random":
            owner, start = self._drawn(number)
            order = np.random.default_rng([self.seed, number]).permutation(len(start))
            owner, start = owner[order], start[order]
        elif self.order == "sequential":
            owner, within = self._laid(self.step)
            start = self.start[owner] + within * self.step
        else:
            owner, start = np.arange(len(self.row)), self.start
        length = np.inf if self.order == "trials" else self.length
        names = [self.sessions[k] for k in self._shared(self.row[owner]).tolist()]
        return WindowBatch(names, *map(self._shared, self._inside(owner, start, length)))

    def batches(
        self, size: int, *, epoch: int = 0, by_session: bool = False, first: int = 0
    ) -> Iterator[WindowBatch]:
        """This rank's batches of an epoch: `size` windows each, the last ones perhaps fewer.

        Begins with batch number `first`, for a run that continues. With `by_session`, each batch is
        of one session, and ranks share batches instead of windows.

        Raises ValueError when `size` is less than 1, or `epoch` or `first` is negative.
        """
        if size < 1 or first < 0 or epoch < 0:
            raise ValueError(
                f"a batch has 1 window or more, and epoch and first are 0 or more, not {size},"
                f" {epoch} and {first}"
            )
        return self._batches(size, epoch, by_session, first)

    def __len__(self) -> int:
        """The number of this rank's windows in an epoch."""
        if self.order == "trials":
            return len(self._shared(self.row))
        step = self.length if self.order == "random" else self.step
        return len(self._shared(range(int(self._fit(step).sum()))))

    def _batches(
        self, size: int, epoch: int, by_session: bool, first: int
    ) -> Iterator[WindowBatch]:
        if by_session:
            whole = replace(self, rank=Rank()).epoch(epoch)
            batches = self._shared(self._by_session(whole, size, epoch))
        else:
            whole = self.epoch(epoch)
            batches = [
                np.arange(at, min(at + size, len(whole))) for at in range(0, len(whole), size)
            ]
        for rows in batches[first:]:
            names = [whole.session_ids[k] for k in rows.tolist()]
            yield WindowBatch(names, whole.starts[rows], whole.lengths[rows])

    def _shared(self, items: Items) -> Items:
        """This rank's share of `items`: every `size`-th item.

        In random order, which is for training, ranks wait for each other. All shares are then
        equally long, and the rest is left out.
        """
        share = items[self.rank.index :: self.rank.size]
        return share[: len(items) // self.rank.size] if self.order == "random" else share

    def _fit(self, step: float) -> IntArray:
        """The number of windows (stretches,) that each stretch holds, one every `step` seconds."""
        return _fit(self.start, self.stop, self.length, step)

    def _laid(self, step: float) -> tuple[IntArray, IntArray]:
        """Windows every `step` seconds: the stretch of each, and its number in the stretch."""
        count = self._fit(step)
        owner = np.repeat(np.arange(len(count)), count)
        return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)

    def _drawn(self, number: int) -> tuple[IntArray, FloatArray]:
        """The stretch and the start of each window of an epoch, before they are shuffled.

        Each session has a random generator of its own, so that its windows do not depend on the
        other sessions.
        """
        owner, within = self._laid(self.length)
        drawn = np.empty(len(owner))
        bounds = np.searchsorted(self.row[owner], np.arange(len(self.sessions) + 1)).tolist()
        for name, (first, last) in zip(self.sessions, pairwise(bounds), strict=True):
            key = [self.seed, number, zlib.crc32(name.encode())]
            drawn[first:last] = np.random.default_rng(key).random(last - first)
        places = np.maximum(self.stop - self.start - self.length, 0)
        share = (within + drawn) / self._fit(self.length)[owner]
        return owner, self.start[owner] + share * places[owner]

    def _inside(
        self, owner: IntArray, start: FloatArray, length: float
    ) -> tuple[FloatArray, FloatArray]:
        """Starts and lengths of windows. No window leaves its stretch by rounding.

        A window of 0.1 s from 17.1 s on, in the stretch [17.1, 17.2), becomes one bit shorter.
        """
        stop = self.stop[owner]
        start = np.maximum(np.minimum(start, stop - length), self.start[owner])
        lengths = np.minimum(length, stop - start)
        over = start + lengths > stop
        return start, np.where(over, np.nextafter(lengths, 0), lengths)

    def _by_session(self, whole: WindowBatch, size: int, epoch: int) -> list[IntArray]:
        rows: dict[str, list[int]] = {}
        for k, name in enumerate(whole.session_ids):
            rows.setdefault(name, []).append(k)
        parts = [
            np.array(of_session[at : at + size])
            for of_session in rows.values()
            for at in range(0, len(of_session), size)
        ]
        if self.order == "random":
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(parts))
            parts = [parts[k] for k in order.tolist()]
        return parts


def check_order(order: str) -> None:
    """Raise ValueError unless `order` is an Order."""
    if order not in ORDERS:
        raise ValueError(f"there is no order {order!r}; there is: {listed(ORDERS)}")


def _fit(start: FloatArray, stop: FloatArray, length: float, step: float) -> IntArray:
    """The number of windows of `length` that each stretch holds, one every `step` seconds."""
    room = (stop - start - length) / step
    return np.maximum(np.floor(room + SLACK) + 1, 0).astype(np.int64)
