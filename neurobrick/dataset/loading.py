"""How the arrays of a session get into memory: read once, kept in the dataset's cache.

A writer may replace a store while it is open. Each key of the cache therefore names the version of
the store, and a session keeps to the version of the first arrays that it gave out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from neurobrick.dataset.cache import Cache
from neurobrick.dataset.timed_rows import ChunkedRows, FloatArray, Pair, TimedRows, WholeRows
from neurobrick.store import Chunks, SessionStore

# A remote series or spike train with more bytes than this in the store is fetched chunk by chunk,
# as windows need it: about 30 million spikes, or two seconds at 250 Mbit/s.
FETCHED_WHOLE = 2**26


class Loader:
    """Reads the spikes and the behavior of one session.

    `units` are the rows of the units table that a selection kept, None for all of them.
    """

    def __init__(
        self,
        session_id: str,
        store: SessionStore,
        cache: Cache,
        units: NDArray[np.int64] | None = None,
    ) -> None:
        self._id = session_id
        self._store = store
        self._cache = cache
        self._units = units
        self._spikes_key = ("spikes", None if units is None else units.tobytes())
        self._version: bytes | None = None  # the version of the rows that were given out

    def spikes(self) -> TimedRows:
        """The spikes: int32 rows of the units table at times in seconds."""
        return self._cached(self._spikes_key, self._load_spikes)

    def behavior(self, name: str) -> TimedRows:
        """The behavior called `name`: values in SI at timestamps in seconds."""
        return self._cached(("behavior", name), partial(self._load_behavior, name))

    def _cached(self, key: tuple[Hashable, ...], load: Callable[[], TimedRows]) -> TimedRows:
        if self._version is not None:  # the store now refuses to read any other version
            return self._cache.get((self._id, self._version, *key), load)
        while True:
            version = self._store.version
            try:
                rows = self._cache.get(
                    (self._id, version, *key), partial(self._of_version, version, load)
                )
            except _Replaced:
                continue
            # The cache may have answered: the store does not know yet that it is bound.
            if self._store.bind(version):
                self._version = version
                return rows

    def _of_version(self, version: bytes, load: Callable[[], TimedRows]) -> TimedRows:
        rows = load()
        if self._store.version != version:  # replaced since, so these rows have another key
            raise _Replaced
        return rows

    def _load_spikes(self) -> TimedRows:
        store = self._store
        if self._too_large(*store.spike_bytes()):
            return self._chunked(self._spikes_key, store.spike_chunks(), self._read_spikes)
        store.read_ahead()
        return WholeRows(*self._read_spikes(None))

    def _load_behavior(self, name: str) -> TimedRows:
        store, read = self._store, partial(self._store.behavior, name)
        if self._too_large(*store.behavior_bytes(name)):
            return self._chunked(("behavior", name), store.behavior_chunks(name), read)
        return WholeRows(*read())

    def _too_large(self, decoded: int, encoded: int) -> bool:
        """Whether arrays are read by chunks; `decoded` and `encoded` are their bytes in memory and
        in the store."""
        if decoded > self._cache.budget // 2:
            return True
        return self._store.is_remote and encoded > FETCHED_WHOLE

    def _chunked(
        self, key: tuple[Hashable, ...], starts: FloatArray, read: Callable[[Chunks], Pair]
    ) -> ChunkedRows:
        # `starts` were read, which bound the store: this is the version of every later chunk.
        version = self._store.version

        def load(k: int) -> Pair:
            return self._cache.get(
                (self._id, version, *key, k), lambda: WholeRows(*read(slice(k, k + 1)))
            ).whole()

        return ChunkedRows(starts, load, lambda: read(None))

    def _read_spikes(self, chunks: Chunks) -> Pair:
        """Times and unit rows of the selected units' spikes."""
        times, units = self._store.spikes(chunks)
        if self._units is None:
            return times, units
        new_row = np.full(int(self._store.spike_counts().size), -1, np.int32)
        new_row[self._units] = np.arange(len(self._units), dtype=np.int32)
        rows = new_row[units]
        selected = rows >= 0
        times, rows = times[selected], rows[selected]
        times.flags.writeable = rows.flags.writeable = False
        return times, rows


class _Replaced(Exception):
    """The store was replaced between the choice of a key and the reading of its rows."""
