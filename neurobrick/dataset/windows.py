"""Where windows lie: random ones for training, a walk through time for evaluation, whole trials.

Index arithmetic alone: `Dataset.windows` says in which stretches of time windows may lie, and
`Dataset.slices` cuts out what is in them. An epoch is a function of the seed, its number and the
sessions, and of nothing that was drawn before, so that a run that was broken off goes on exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Order = Literal["random", "sequential", "trials"]
Items = TypeVar("Items", list[IntArray], range, FloatArray, IntArray)
SLACK = 1e-9  # of a window: a stretch of 1 s holds ten windows of 0.1 s, whatever rounding says


@dataclass(frozen=True)
class Rank:
    """Which of `size` processes this is, each of which takes its share of every epoch."""

    index: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.size:
            raise ValueError(f"rank {self.index} is none of {self.size}")


@dataclass(frozen=True)
class WindowBatch:
    """Windows `[starts[k], starts[k] + lengths[k])`, in seconds, of `session_ids[k]`; (n,) each."""

    session_ids: Sequence[str]
    starts: FloatArray
    lengths: FloatArray

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Windows:
    """The windows of every epoch, in stretches `start`, `stop` (n,) in seconds of the sessions
    `sessions[row]`, `row` (n,).

    `random`: in each epoch as many as fit into the stretches side by side, shuffled; in a stretch
    each start is drawn from its own share of all the places that there are, so that they spread
    evenly. `sequential`: every `step` seconds from the start of each stretch, in order. `trials`:
    each stretch as it is.
    """

    sessions: Sequence[str]
    row: IntArray
    start: FloatArray
    stop: FloatArray
    order: Order
    length: float
    step: float
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
        """Windows in `stretches`, the starts and stops (n,) in seconds of each session's.

        Raises ValueError when a length is not positive, or no stretch is long enough.
        """
        step = length if step is None else step
        if not (0 < length < np.inf and 0 < step < np.inf):
            raise ValueError(f"a window's length and step are positive, not {length} and {step}")
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
        """All windows of an epoch that are this rank's, in their order.

        In random order every rank has as many as the others, and up to `size - 1` are left out of
        an epoch; otherwise every window is some rank's.
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
        """This rank's batches of an epoch, of `size` windows or, at the end, fewer; from the batch
        number `first` on, for a run that goes on.

        With `by_session` every batch is of one session, for decoders with a read-out of their own
        for each; ranks then share batches as they otherwise share windows.
        """
        if size < 1 or first < 0:
            raise ValueError(f"batches of {size} windows from batch {first} on")
        if by_session:
            whole = replace(self, rank=Rank()).epoch(epoch)
            parts = self._shared(self._by_session(whole, size, epoch))
        else:
            whole = self.epoch(epoch)
            parts = [np.arange(at, min(at + size, len(whole))) for at in range(0, len(whole), size)]
        for rows in parts[first:]:
            names = [whole.session_ids[k] for k in rows.tolist()]
            yield WindowBatch(names, whole.starts[rows], whole.lengths[rows])

    def __len__(self) -> int:
        """Windows of an epoch that are this rank's."""
        if self.order == "trials":
            return len(self._shared(self.row))
        step = self.length if self.order == "random" else self.step
        return len(self._shared(range(int(self._fit(step).sum()))))

    def _shared(self, items: Items) -> Items:
        """This rank's of `items`: every `size`-th. In random order all ranks have equally many, as
        they wait for each other, and what cannot be shared is left out."""
        mine = items[self.rank.index :: self.rank.size]
        return mine[: len(items) // self.rank.size] if self.order == "random" else mine

    def _fit(self, step: float) -> IntArray:
        """How many windows, one every `step` seconds, each stretch holds."""
        return _fit(self.start, self.stop, self.length, step)

    def _laid(self, step: float) -> tuple[IntArray, IntArray]:
        """The stretch of each window, and its number in it, for windows every `step` seconds."""
        count = self._fit(step)
        owner = np.repeat(np.arange(len(count)), count)
        return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)

    def _drawn(self, number: int) -> tuple[IntArray, FloatArray]:
        """The stretch and the start of each window of an epoch, before they are shuffled.

        A session's are drawn from its own generator: they are the same whatever others there are.
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
        """Starts and lengths, where a rounding would lead out of the stretch by the last bit less:
        a window from 17.1 s on in [17.1, 17.2) is a little shorter than 0.1 s."""
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
            np.array(mine[at : at + size])
            for mine in rows.values()
            for at in range(0, len(mine), size)
        ]
        if self.order == "random":
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(parts))
            parts = [parts[k] for k in order.tolist()]
        return parts


def _fit(start: FloatArray, stop: FloatArray, length: float, step: float) -> IntArray:
    """How many windows of `length`, one every `step` seconds, each stretch holds."""
    room = (stop - start - length) / step
    return np.maximum(np.floor(room + SLACK) + 1, 0).astype(np.int64)
