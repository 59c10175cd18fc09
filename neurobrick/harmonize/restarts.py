"""The repair `clock_restarts`: a session recorded in blocks, each on a clock that starts again.

In such a file, timestamps, trials and spikes run backwards at the start of each block. The longest
array that runs backwards shows the blocks. They are laid end to end. Every other time is moved with
its block. A series of times that fits the blocks in more than one way is not repaired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BETWEEN = 1.0  # seconds laid between two blocks; no file says how long the pause was
SLACK = 1.0  # seconds; spikes may begin before, and last longer than, the array that shows a block
JUMP = 1.0  # seconds; a clock that restarts falls by more, a clock that wavers by less


@dataclass(frozen=True)
class Blocks:
    """The blocks of a session, in the order of recording."""

    first: FloatArray  # (k,) s, start of each block on its own clock
    last: FloatArray  # (k,) s, end of each block on its own clock

    def __len__(self) -> int:
        return len(self.first)

    @property
    def shift(self) -> FloatArray:
        """(k,) s, added to the times of each block: it then follows the block before it."""
        lengths = self.last - self.first + BETWEEN
        starts = self.first[0] + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        return starts - self.first

    def lay(self, times: FloatArray) -> FloatArray | None:
        """`times` (n,) s, in the order of recording, moved with their blocks; NaN stays NaN.

        None if it is not clear to which blocks they belong.
        """
        known = np.isfinite(times)
        blocks = self.assign(times[known])
        if blocks is None:
            return None
        laid = times.copy()
        laid[known] += self.shift[blocks]
        return laid

    def assign(self, times: FloatArray) -> NDArray[np.int64] | None:
        """The block (n,) of each of `times` (n,); None unless exactly one assignment is possible.

        A time may be in a block that covers it, within `SLACK`. Blocks rise: the block of a time is
        that of the time before it or a later one, and a later one if the time falls.
        """
        low, high = self.first - SLACK, self.last + SLACK
        earliest = _earliest(times, low, high)
        # The latest assignment is the earliest one of the mirrored problem.
        mirrored = _earliest(-times[::-1], -high[::-1], -low[::-1])
        if earliest is None or mirrored is None:
            return None
        latest = len(self) - 1 - mirrored[::-1]
        return earliest if np.array_equal(earliest, latest) else None


def find_blocks(candidates: Iterable[FloatArray], more: Iterable[FloatArray] = ()) -> Blocks | None:
    """The blocks that the longest of the `candidates` shows; None if no candidate runs backwards.

    Candidates and `more` arrays with as many restarts show the same blocks, and may widen them. An
    array with k restarts has k + 1 blocks: each restart is the start of a block.
    """
    restarting = [(times, rising_runs(times, JUMP)) for times in candidates]
    restarting = [(times, runs) for times, runs in restarting if len(runs) > 1]
    if not restarting:
        return None
    _, longest = max(restarting, key=lambda pair: len(pair[0]))
    restarting += [(times, rising_runs(times, JUMP)) for times in more]
    agreeing = [(times, runs) for times, runs in restarting if len(runs) == len(longest)]
    first = np.min([[times[a:b].min() for a, b in runs] for times, runs in agreeing], axis=0)
    last = np.max([[times[a:b].max() for a, b in runs] for times, runs in agreeing], axis=0)
    return Blocks(first, last)


def rising_runs(times: FloatArray, jump: float = 0.0) -> NDArray[np.int64]:
    """The stretches of `times` (n,) in which no time is more than `jump` below the one before it.

    Returns (k, 2): the first row of each stretch, and the row after its last.
    """
    if not len(times):
        return np.zeros((0, 2), np.int64)
    first = np.flatnonzero(np.concatenate([[True], np.diff(times) < -jump]))
    return np.stack([first, np.append(first[1:], len(times))], axis=1)


def without_small_falls(times: FloatArray) -> FloatArray:
    """`times` (n,), each raised to the largest before it since the last fall of more than `JUMP`.

    Raises no time by more than a clock wavers, so a series stays in its blocks.
    """
    runs = rising_runs(times, JUMP)
    risen = [np.maximum.accumulate(times[start:stop]) for start, stop in runs]
    return np.concatenate([np.zeros(0), *risen])


def _earliest(times: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.int64] | None:
    """The earliest block that each of `times` can be in, given those before it; None if there is
    none."""
    blocks = np.empty(len(times), np.int64)
    block = -1
    for first, end in rising_runs(times):
        block += 1
        row = first
        while row < end:
            if block >= len(low):
                return None
            begun = low[block] <= times[row]
            stop = int(row + np.searchsorted(times[row:end], high[block], side="right"))
            if not begun or stop == row:
                block += 1
                continue
            blocks[row:stop] = block
            row = stop
            block += row < end
    return blocks
