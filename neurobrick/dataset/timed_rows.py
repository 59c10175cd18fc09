"""Arrays whose rows share a sorted time axis: the spikes of a session, or one of its behaviors.

`WholeRows` holds them in memory. `ChunkedRows` reads a chunk when a window needs it, for sessions
that are too large to be held whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Array = NDArray[Any]
Pair = tuple[FloatArray, Array]  # times (n,) in seconds, and the data (n, …) at these times


class WindowRows(NamedTuple):
    """The rows of many windows: window k is rows `first[k]:last[k]` of `times` and of `data`."""

    times: FloatArray  # (n,) float64, seconds, sorted
    data: Array  # (n, …)
    first: NDArray[np.int64]  # (windows,)
    last: NDArray[np.int64]  # (windows,)


class TimedRows(Protocol):
    """Rows by time. All arrays are read-only."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that this object itself holds."""
        ...

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        ...

    def windows(self, starts: FloatArray, stops: FloatArray) -> WindowRows:
        """The rows at times in `[starts[k], stops[k])`, for each k."""
        ...

    def whole(self) -> Pair:
        """Every row."""
        ...


class WholeRows:
    """Rows that are in memory. Windows are views of them."""

    __slots__ = ("_data", "_search", "_times", "nbytes")

    def __init__(self, times: FloatArray, data: Array) -> None:
        self._times = times
        self._data = data
        self._search = times.searchsorted
        self.nbytes = times.nbytes + data.nbytes

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        search = self._search
        first, last = search(t0), search(t1)
        return self._times[first:last], self._data[first:last]

    def windows(self, starts: FloatArray, stops: FloatArray) -> WindowRows:
        """The rows at times in `[starts[k], stops[k])`, for each k; one pass finds them all."""
        return WindowRows(self._times, self._data, self._search(starts), self._search(stops))

    def whole(self) -> Pair:
        """Every row."""
        return self._times, self._data


class ChunkedRows:
    """Rows that are read chunk by chunk.

    `starts` (chunks,) holds the first time of each chunk, in seconds. `load` reads one chunk by its
    number, `load_all` reads every row. A window within one chunk is a view, a window across several
    chunks is a copy.
    """

    def __init__(
        self, starts: FloatArray, load: Callable[[int], Pair], load_all: Callable[[], Pair]
    ) -> None:
        self.nbytes = starts.nbytes  # the cache holds loaded chunks under keys of their own
        self._starts = starts
        self._load = load
        self._load_all = load_all

    def window(self, t0: float, t1: float) -> Pair:
        """The rows at times in `[t0, t1)`."""
        # The chunk before the first that starts at t0 may end with rows at t0, too.
        first = max(0, int(self._starts.searchsorted(t0)) - 1)
        last = max(first + 1, int(self._starts.searchsorted(t1)))
        pairs = [WholeRows(*self._load(k)).window(t0, t1) for k in range(first, last)]
        filled = [pair for pair in pairs if len(pair[0])] or pairs[:1]
        if len(filled) == 1:
            return filled[0]
        times, data = (np.concatenate(arrays) for arrays in zip(*filled, strict=True))
        times.flags.writeable = data.flags.writeable = False
        return times, data

    def windows(self, starts: FloatArray, stops: FloatArray) -> WindowRows:
        """The rows at times in `[starts[k], stops[k])`, for each k."""
        edges = zip(starts.tolist(), stops.tolist(), strict=True)
        pairs = [self.window(t0, t1) for t0, t1 in edges]
        last = np.cumsum([len(times) for times, _ in pairs])
        times, data = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        return WindowRows(times, data, np.concatenate([[0], last[:-1]]), last)

    def whole(self) -> Pair:
        """Every row."""
        return self._load_all()
