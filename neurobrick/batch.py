"""Many windows at once: flat arrays and offsets, without a Python object for each window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Array = NDArray[Any]


class _Session(Protocol):
    def spike_arrays(self) -> tuple[FloatArray, NDArray[np.int32]]: ...

    def behavior_arrays(self, name: str) -> tuple[FloatArray, NDArray[np.floating]]: ...


@dataclass(frozen=True)
class SliceBatch:
    """Windows `[starts[k], starts[k] + length)` of `session_ids[k]`.

    Window k's spikes are rows `spike_offsets[k]:spike_offsets[k + 1]` of `spike_times`, in
    seconds on the session's clock, and `spike_units`, rows of the session's units table.
    """

    session_ids: Sequence[str]
    starts: FloatArray
    length: float
    spike_times: FloatArray
    spike_units: NDArray[np.int32]
    spike_offsets: NDArray[np.int64]
    _sessions: Mapping[str, _Session]

    def __len__(self) -> int:
        return len(self.starts)

    def behavior(self, name: str) -> tuple[FloatArray, Array, NDArray[np.int64]]:
        """Timestamps (n,), values (n, d) in SI, and offsets (windows + 1,) of one behavior.

        Raises KeyError when a session lacks it.
        """
        (stamps, values), offsets = _gather(
            self.session_ids,
            self.starts,
            self.length,
            lambda session_id: self._sessions[session_id].behavior_arrays(name),
        )
        return stamps, values, offsets


def cut(
    sessions: Mapping[str, _Session], session_ids: Sequence[str], starts: ArrayLike, length: float
) -> SliceBatch:
    """The windows of `length` seconds that begin at `starts` (n,), one in each of `session_ids`.

    Raises ValueError when there are not as many ids as starts, or the length is negative.
    """
    begin = np.asarray(starts, dtype=np.float64)
    if begin.shape != (len(session_ids),) or not length >= 0:
        raise ValueError(f"{len(session_ids)} sessions, {begin.shape} starts, length {length}")
    (times, units), offsets = _gather(
        session_ids, begin, length, lambda session_id: sessions[session_id].spike_arrays()
    )
    return SliceBatch(session_ids, begin, length, times, units, offsets, sessions)


def _gather(
    session_ids: Sequence[str],
    starts: FloatArray,
    length: float,
    load: Callable[[str], tuple[FloatArray, Array]],
) -> tuple[tuple[FloatArray, Array], NDArray[np.int64]]:
    """Rows of every window, in the order of the windows, and where each window's begin.

    The loop is over sessions; within one, all windows are found and copied by array operations.
    """
    names = list(dict.fromkeys(session_ids))
    code = {name: k for k, name in enumerate(names)}
    which = np.fromiter((code[name] for name in session_ids), np.int64, len(session_ids))
    counts = np.zeros(len(starts), np.int64)
    found = []
    for k, name in enumerate(names):
        mine = np.flatnonzero(which == k)
        arrays = load(name)
        first = np.searchsorted(arrays[0], starts[mine], side="left")
        last = np.searchsorted(arrays[0], starts[mine] + length, side="left")
        counts[mine] = last - first
        found.append((mine, first, arrays))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if not found:
        empty = np.zeros(0)
        return (empty, np.zeros(0, np.int32)), offsets
    sources = [arrays[1] for _, _, arrays in found]
    times = np.empty(offsets[-1])
    values = np.empty((int(offsets[-1]), *sources[0].shape[1:]), np.result_type(*sources))
    for mine, first, arrays in found:
        within = ranges(np.zeros(len(mine), np.int64), counts[mine])
        source = within + np.repeat(first, counts[mine])
        target = within + np.repeat(offsets[mine], counts[mine])
        times[target] = arrays[0][source]
        values[target] = arrays[1][source]
    return (times, values), offsets


def ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """`first[0], first[0] + 1, …` for `counts[0]` steps, then the next: one flat array."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - ends + counts, counts)
