"""Many windows at once: flat arrays and offsets, without a Slice for each window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurobrick.dataset.timed_rows import TimedRows

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Array = NDArray[Any]


class _Session(Protocol):
    def spike_samples(self) -> TimedRows: ...

    def behavior_samples(self, name: str) -> TimedRows: ...


class _Windows:
    """The windows of a batch, by session and start: so each session is searched in one pass, in
    order, where what one search has read of memory serves the next."""

    def __init__(self, session_ids: Sequence[str], starts: FloatArray, stops: FloatArray) -> None:
        self.names = list(dict.fromkeys(session_ids))
        code = {name: k for k, name in enumerate(self.names)}
        self.session = np.fromiter(map(code.__getitem__, session_ids), np.int64, len(session_ids))
        self.order = np.lexsort((starts, self.session))
        bounds = np.searchsorted(self.session[self.order], np.arange(len(self.names) + 1)).tolist()
        self.parts = list(pairwise(bounds))
        self.starts, self.stops = starts[self.order], stops[self.order]

    def gather(self, load: Callable[[str], TimedRows]) -> tuple[FloatArray, Array, IntArray]:
        """Rows of every window, in the order of the batch, and where each window's begin."""
        if not self.names:
            return np.zeros(0), np.zeros(0, np.int32), np.zeros(1, np.int64)
        rows = np.empty((2, len(self.order)), np.int64)
        found = []
        for name, (a, b) in zip(self.names, self.parts, strict=True):
            located = load(name).locate(self.starts[a:b], self.stops[a:b])
            rows[0, a:b], rows[1, a:b] = located.first, located.last
            found.append(located)
        first, last = np.empty((2, len(self.order)), np.int64)
        first[self.order], last[self.order] = rows
        offsets = np.zeros(len(first) + 1, np.int64)
        np.cumsum(last - first, out=offsets[1:])
        times = self._joined([one.times for one in found], first, last)
        data = self._joined([one.data for one in found], first, last)
        return times, data, offsets

    def _joined(self, arrays: Sequence[Array], first: IntArray, last: IntArray) -> Array:
        """Rows `first[k]:last[k]` of the array of window k's session, for each k in turn.

        Joined as bytes, which takes half the time a window that np.concatenate does.
        """
        dtype, shape = np.result_type(*arrays), arrays[0].shape[1:]
        width = dtype.itemsize * int(np.prod(shape))
        content = [
            np.ascontiguousarray(one, dtype).data.cast("B") if one.size else memoryview(b"")
            for one in arrays
        ]
        edges = zip(
            self.session.tolist(), (first * width).tolist(), (last * width).tolist(), strict=True
        )
        joined = bytearray().join([content[k][start:stop] for k, start, stop in edges])
        return np.frombuffer(joined, dtype).reshape(-1, *shape)


@dataclass(frozen=True)
class SliceBatch:
    """Windows `[starts[k], starts[k] + lengths[k])` of `session_ids[k]`.

    Window k's spikes are rows `spike_offsets[k]:spike_offsets[k + 1]` of `spike_times`, in
    seconds on the session's clock, and `spike_units`, rows of the session's units table.
    """

    session_ids: Sequence[str]
    starts: FloatArray
    lengths: FloatArray
    spike_times: FloatArray
    spike_units: NDArray[np.int32]
    spike_offsets: IntArray
    _sessions: Mapping[str, _Session]
    _windows: _Windows

    def __len__(self) -> int:
        return len(self.starts)

    def behavior(self, name: str) -> tuple[FloatArray, Array, IntArray]:
        """Timestamps (n,), values (n, d) in SI, and offsets (windows + 1,) of one behavior.

        Raises KeyError when a session lacks it.
        """
        return self._windows.gather(
            lambda session_id: self._sessions[session_id].behavior_samples(name)
        )


def cut(
    sessions: Mapping[str, _Session],
    session_ids: Sequence[str],
    starts: ArrayLike,
    length: ArrayLike,
) -> SliceBatch:
    """The windows that begin at `starts` (n,), one in each of `session_ids`, of `length` seconds,
    one for all or one for each (n,).

    Raises ValueError when there are not as many ids as starts, or a length is negative.
    """
    begin = np.asarray(starts, dtype=np.float64)
    lengths = np.asarray(length, dtype=np.float64)
    matches = begin.shape == (len(session_ids),) and lengths.shape in ((), begin.shape)
    if not matches or not np.all(lengths >= 0):
        raise ValueError(
            f"{len(session_ids)} sessions, starts of shape {begin.shape}, length {lengths}: there"
            " must be a start for each session, and one length, or one for each; none is negative"
        )
    lengths = np.broadcast_to(lengths, begin.shape)
    windows = _Windows(session_ids, begin, begin + lengths)
    times, units, offsets = windows.gather(lambda name: sessions[name].spike_samples())
    return SliceBatch(session_ids, begin, lengths, times, units, offsets, sessions, windows)
