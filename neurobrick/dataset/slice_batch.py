"""Many windows at once: flat arrays and offsets, without a Slice for each window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurobrick.dataset.slice import Recorded
from neurobrick.dataset.timed_rows import TimedRows

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Array = NDArray[Any]


class _SortedWindows:
    """The windows of a batch, sorted by session and start.

    Each session is then searched in one pass, in order. One search finds in the processor's cache
    the memory that the search before it has read.
    """

    def __init__(self, session_ids: Sequence[str], starts: FloatArray, stops: FloatArray) -> None:
        self.names = list(dict.fromkeys(session_ids))
        number = {name: k for k, name in enumerate(self.names)}
        self.session = np.fromiter(map(number.__getitem__, session_ids), np.int64, len(session_ids))
        self.order = np.lexsort((starts, self.session))
        bounds = np.searchsorted(self.session[self.order], np.arange(len(self.names) + 1)).tolist()
        self.ranges = list(pairwise(bounds))  # of the sorted windows, by session
        self.starts, self.stops = starts[self.order], stops[self.order]

    def gather(self, load: Callable[[str], TimedRows]) -> tuple[FloatArray, Array, IntArray]:
        """Times (n,) and data (n, …) of all windows, in the order of the batch, and the offsets
        (windows + 1,) at which each window's rows begin.

        Raises ValueError when the sessions' data differ in shape.
        """
        if not self.names:
            return np.zeros(0), np.zeros(0, np.int32), np.zeros(1, np.int64)
        edges = np.empty((2, len(self.order)), np.int64)
        sessions = []
        for name, (a, b) in zip(self.names, self.ranges, strict=True):
            rows = load(name).windows(self.starts[a:b], self.stops[a:b])
            edges[0, a:b], edges[1, a:b] = rows.first, rows.last
            sessions.append(rows)
        first, last = np.empty((2, len(self.order)), np.int64)
        first[self.order], last[self.order] = edges
        offsets = np.zeros(len(first) + 1, np.int64)
        np.cumsum(last - first, out=offsets[1:])
        self._check_shapes([rows.data for rows in sessions])
        times = self._joined([rows.times for rows in sessions], first, last)
        data = self._joined([rows.data for rows in sessions], first, last)
        return times, data, offsets

    def _check_shapes(self, arrays: Sequence[Array]) -> None:
        for name, array in zip(self.names, arrays, strict=True):
            if array.shape[1:] != arrays[0].shape[1:]:
                raise ValueError(
                    f"values of {self.names[0]} have the shape (n, {_shape(arrays[0])}), those of"
                    f" {name} (n, {_shape(array)}): read their windows in batches of their own"
                )

    def _joined(self, arrays: Sequence[Array], first: IntArray, last: IntArray) -> Array:
        """Rows `first[k]:last[k]` of the array of window k's session, for each k in turn.

        Joined as bytes: half the time per window that np.concatenate takes.
        """
        dtype, shape = np.result_type(*arrays), arrays[0].shape[1:]
        width = dtype.itemsize * int(np.prod(shape))
        content = [
            np.ascontiguousarray(array, dtype).data.cast("B") if array.size else memoryview(b"")
            for array in arrays
        ]
        edges = zip(
            self.session.tolist(), (first * width).tolist(), (last * width).tolist(), strict=True
        )
        joined = bytearray().join([content[k][start:stop] for k, start, stop in edges])
        return np.frombuffer(joined, dtype).reshape(-1, *shape)


@dataclass(frozen=True)
class SliceBatch:
    """Many windows: window k is `[starts[k], starts[k] + lengths[k])` of `session_ids[k]`.

    The spikes of window k are rows `spike_offsets[k]:spike_offsets[k + 1]` of `spike_times` and of
    `spike_units`. The windows are in the order in which they were asked for.
    """

    session_ids: Sequence[str]  # (windows,)
    starts: FloatArray  # (windows,) float64, seconds on the session's clock
    lengths: FloatArray  # (windows,) float64, seconds
    spike_times: FloatArray  # (n,) float64, seconds on the session's clock
    spike_units: NDArray[np.int32]  # (n,) int32, rows of the session's units table
    spike_offsets: IntArray  # (windows + 1,) int64
    _sessions: Mapping[str, Recorded]  # by id
    _windows: _SortedWindows

    def __len__(self) -> int:
        return len(self.starts)

    def behavior(self, name: str) -> tuple[FloatArray, Array, IntArray]:
        """One behavior in every window.

        Returns timestamps float64 (n,) in seconds, values (n, d) in SI, and offsets int64
        (windows + 1,): the samples of window k are rows `offsets[k]:offsets[k + 1]`. Where some
        sessions hold float32 values and others float64, all become float64.

        Raises KeyError when a session has no behavior called `name`, ValueError when two sessions
        differ in the number of its columns.
        """
        return self._windows.gather(lambda id: self._sessions[id].behavior_rows(name))


def slice_many(
    sessions: Mapping[str, Recorded],
    session_ids: Sequence[str],
    starts: ArrayLike,
    length: ArrayLike,
) -> SliceBatch:
    """The windows of `length` seconds that begin at `starts` (n,) in `session_ids` (n,).

    `length` is one for all windows, or one for each (n,).

    Raises ValueError when there are not as many ids as starts, or a window would end before it
    starts or has an edge that is NaN.
    """
    begins = np.asarray(starts, dtype=np.float64)
    lengths = np.asarray(length, dtype=np.float64)
    if begins.shape != (len(session_ids),) or lengths.shape not in ((), begins.shape):
        raise ValueError(
            f"there must be a start for each of {len(session_ids)} session ids, and one length or"
            f" one for each, not starts of shape {begins.shape} and lengths of {lengths.shape}"
        )
    lengths = np.broadcast_to(lengths, begins.shape)
    stops = begins + lengths
    valid = begins <= stops
    if not valid.all():
        k = int(np.argmin(valid))
        raise ValueError(
            f"window {k} is no window: it starts at {begins[k]} s, {lengths[k]} s long"
        )
    windows = _SortedWindows(session_ids, begins, stops)
    times, units, offsets = windows.gather(lambda id: sessions[id].spike_rows())
    return SliceBatch(session_ids, begins, lengths, times, units, offsets, sessions, windows)


def _shape(array: Array) -> str:
    return ", ".join(map(str, array.shape[1:]))
