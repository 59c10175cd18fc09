"""Arrays whose rows share a sorted time axis: a session's spikes, or one of its behaviors.

They are held whole, or, where a session is too large for that, chunk by chunk as windows need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Array = NDArray[Any]
Pair = tuple[FloatArray, Array]  # times (n,) in seconds, and what is at them (n, …)


class Located(NamedTuple):
    """Window k is rows `first[k]:last[k]` of `times` (n,) and of `data` (n, …)."""

    times: FloatArray
    data: Array
    first: NDArray[np.int64]
    last: NDArray[np.int64]


class TimedRows(Protocol):
    """Rows by time. All arrays are read-only."""

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take in memory, as far as this holds them itself."""
        ...

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        ...

    def locate(self, starts: FloatArray, stops: FloatArray) -> Located:
        """The rows of many windows."""
        ...

    def whole(self) -> Pair:
        """Every row."""
        ...


class WholeRows:
    """Rows that are in memory; windows are views of them."""

    __slots__ = ("_data", "_find", "_times", "nbytes")

    def __init__(self, times: FloatArray, data: Array) -> None:
        self._times = times
        self._data = data
        self._find = times.searchsorted
        self.nbytes = times.nbytes + data.nbytes

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        find = self._find
        first, last = find(t0), find(t1)
        return self._times[first:last], self._data[first:last]

    def locate(self, starts: FloatArray, stops: FloatArray) -> Located:
        """The rows of many windows, found in one pass."""
        return Located(self._times, self._data, self._find(starts), self._find(stops))

    def whole(self) -> Pair:
        """Every row."""
        return self._times, self._data


class ChunkedRows:
    """Rows of which `load` reads a chunk; `starts` (chunks,) are the chunks' first times.

    A window within one chunk is a view, one that spans several a copy.
    """

    def __init__(
        self, starts: FloatArray, load: Callable[[int], Pair], load_all: Callable[[], Pair]
    ) -> None:
        self.nbytes = starts.nbytes  # what is loaded is in the cache under keys of its own
        self._starts = starts
        self._load = load
        self._load_all = load_all

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        # The chunk before the first that starts at t0 may end with rows at t0, too.
        first = max(0, int(self._starts.searchsorted(t0)) - 1)
        last = max(first + 1, int(self._starts.searchsorted(t1)))
        found = [WholeRows(*self._load(k)).window(t0, t1) for k in range(first, last)]
        kept = [pair for pair in found if len(pair[0])] or found[:1]
        if len(kept) == 1:
            return kept[0]
        times, data = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        times.flags.writeable = data.flags.writeable = False
        return times, data

    def locate(self, starts: FloatArray, stops: FloatArray) -> Located:
        """The rows of many windows, read now."""
        edges = zip(starts.tolist(), stops.tolist(), strict=True)
        found = [self.window(t0, t1) for t0, t1 in edges]
        last = np.cumsum([len(times) for times, _ in found])
        times, data = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Located(times, data, np.concatenate([[0], last[:-1]]), last)

    def whole(self) -> Pair:
        """Every row, read now."""
        return self._load_all()
