"""Many windows at once: flat arrays and offsets, without a Slice for each window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurobrick.samples import Samples

FloatArray = NDArray[np.float64]
Array = NDArray[Any]


class _Session(Protocol):
    def spike_samples(self) -> Samples: ...

    def behavior_samples(self, name: str) -> Samples: ...


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
    spike_offsets: NDArray[np.int64]
    _sessions: Mapping[str, _Session]

    def __len__(self) -> int:
        return len(self.starts)

    def behavior(self, name: str) -> tuple[FloatArray, Array, NDArray[np.int64]]:
        """Timestamps (n,), values (n, d) in SI, and offsets (windows + 1,) of one behavior.

        Raises KeyError when a session lacks it.
        """
        return _gather(
            self.session_ids,
            self.starts,
            self.starts + self.lengths,
            lambda session_id: self._sessions[session_id].behavior_samples(name),
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
    times, units, offsets = _gather(
        session_ids,
        begin,
        begin + lengths,
        lambda session_id: sessions[session_id].spike_samples(),
    )
    return SliceBatch(session_ids, begin, lengths, times, units, offsets, sessions)


def _gather(
    session_ids: Sequence[str],
    starts: FloatArray,
    stops: FloatArray,
    load: Callable[[str], Samples],
) -> tuple[FloatArray, Array, NDArray[np.int64]]:
    """Rows of every window, in the order of the windows, and where each window's begin.

    All windows of a session are found in one pass, and every window is copied once, as a block.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(session_ids):
        rows.setdefault(name, []).append(row)
    if not rows:
        return np.zeros(0), np.zeros(0, np.int32), np.zeros(1, np.int64)
    first, last = np.empty((2, len(starts)), np.int64)
    found = {}
    for name, mine in rows.items():
        located = found[name] = load(name).locate(starts[mine], stops[mine])
        first[mine], last[mine] = located.first, located.last
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(last - first, out=offsets[1:])
    times = _joined({name: one.times for name, one in found.items()}, session_ids, first, last)
    data = _joined({name: one.data for name, one in found.items()}, session_ids, first, last)
    return times, data, offsets


def _joined(
    arrays: Mapping[str, Array],
    session_ids: Sequence[str],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> Array:
    """Rows `first[k]:last[k]` of the array of `session_ids[k]`, for each k in turn, as one array.

    Joined as bytes, which takes half the time a window that np.concatenate does.
    """
    dtype = np.result_type(*arrays.values())
    shape = next(iter(arrays.values())).shape[1:]
    width = dtype.itemsize * int(np.prod(shape))
    content = {
        name: np.ascontiguousarray(array, dtype).data.cast("B") if array.size else memoryview(b"")
        for name, array in arrays.items()
    }
    edges = zip(
        map(content.__getitem__, session_ids),
        (first * width).tolist(),
        (last * width).tolist(),
        strict=True,
    )
    joined = bytearray().join([data[start:stop] for data, start, stop in edges])
    return np.frombuffer(joined, dtype).reshape(-1, *shape)
