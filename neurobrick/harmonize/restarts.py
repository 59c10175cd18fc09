"""The repair `clock_restarts`: a session recorded in blocks, each on a clock that begins anew.

Timestamps, trials and spikes then run backwards where a block begins. The blocks are found in the
array that shows them best, laid end to end, and every other time is put into the one block that it
can belong to. A series of times that fits the blocks in more than one way is not repaired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BETWEEN = 1.0  # seconds laid between two blocks: how long the pause was, no file says
SLACK = 1.0  # seconds that spikes may precede or outlast the times that show a block
JUMP = 1.0  # seconds back; clocks that waver fall by less, and clocks that restart by more


@dataclass(frozen=True)
class Blocks:
    """Blocks (k,) in the order of recording: `first` and `last` on their own clocks, in seconds,
    and the `shift` that lays each behind the one before it."""

    first: FloatArray
    last: FloatArray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def shift(self) -> FloatArray:
        lengths = self.last - self.first + BETWEEN
        starts = self.first[0] + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        return starts - self.first

    def lay(self, times: FloatArray) -> FloatArray | None:
        """`times` (n,), in the order of recording, on the one clock, NaN where they are NaN; None
        if it is not clear to which blocks they belong."""
        known = np.isfinite(times)
        blocks = self.assign(times[known])
        if blocks is None:
            return None
        laid = times.copy()
        laid[known] += self.shift[blocks]
        return laid

    def assign(self, times: FloatArray) -> NDArray[np.int64] | None:
        """The block of each of `times` (n,), if there is exactly one way to deal them out."""
        low, high = self.first - SLACK, self.last + SLACK
        earliest = _earliest(times, low, high)
        # The latest way is the earliest one of the mirrored problem.
        mirrored = _earliest(-times[::-1], -high[::-1], -low[::-1])
        if earliest is None or mirrored is None:
            return None
        latest = len(self) - 1 - mirrored[::-1]
        return earliest if np.array_equal(earliest, latest) else None


def find_blocks(
    candidates: Iterable[FloatArray], others: Iterable[FloatArray] = ()
) -> Blocks | None:
    """The blocks that the longest array of `candidates` with a restart shows; None without one.

    Those of `candidates` and `others` that show as many restarts widen the blocks: what falls once
    less often than there are blocks falls where each begins.
    """
    shown = [(times, rising_runs(times, JUMP)) for times in candidates]
    shown = [(times, runs) for times, runs in shown if len(runs) > 1]
    if not shown:
        return None
    _, best = max(shown, key=lambda pair: len(pair[0]))
    shown += [(times, rising_runs(times, JUMP)) for times in others]
    agreeing = [(times, runs) for times, runs in shown if len(runs) == len(best)]
    first = np.min([[times[a:b].min() for a, b in runs] for times, runs in agreeing], axis=0)
    last = np.max([[times[a:b].max() for a, b in runs] for times, runs in agreeing], axis=0)
    return Blocks(first, last)


def rising_runs(times: FloatArray, jump: float = 0.0) -> NDArray[np.int64]:
    """The stretches of `times` (n,) that do not fall by more than `jump` at once: (k, 2), first
    row and end of each."""
    if not len(times):
        return np.zeros((0, 2), np.int64)
    first = np.flatnonzero(np.concatenate([[True], np.diff(times) < -jump]))
    return np.stack([first, np.append(first[1:], len(times))], axis=1)


def _earliest(times: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.int64] | None:
    """The earliest block that each time can be in, given those before it; None if there is none."""
    found = np.empty(len(times), np.int64)
    block = -1
    for first, end in rising_runs(times):
        block += 1
        row = first
        while row < end:
            if block >= len(low):
                return None
            fits = low[block] <= times[row]
            stop = int(row + np.searchsorted(times[row:end], high[block], side="right"))
            if not fits or stop == row:
                block += 1
                continue
            found[row:stop] = block
            row = stop
            block += row < end
    return found
