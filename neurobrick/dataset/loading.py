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
from neurobrick.errors import StoreError
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
        self._bound_key: tuple[str, bytes] | None = None  # once rows have been given out

    def spikes(self) -> TimedRows:
        """The spikes: int32 rows of the units table at times in seconds."""
        key = self._spikes_key
        if self._bound_key is not None:
            return self._cache.get(self._bound_key + key, self._load_spikes)
        return self._first(key, self._load_spikes)

    def behavior(self, name: str) -> TimedRows:
        """The behavior called `name`: values in SI at timestamps in seconds."""
        key, load = ("behavior", name), partial(self._load_behavior, name)
        if self._bound_key is not None:
            return self._cache.get(self._bound_key + key, load)
        return self._first(key, load)

    def _first(self, key: tuple[Hashable, ...], load: Callable[[], TimedRows]) -> TimedRows:
        """The first rows that are given out. From then on the store reads no other version."""
        while True:
            version = self._store.version
            try:
                rows = self._cache.get(
                    (self._id, version, *key), partial(self._of_version, version, load)
                )
            except _Replaced:
                continue
            # If the cache had them, the store was not read, and has to be bound to this version.
            if self._store.bind(version):
                self._bound_key = (self._id, version)
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
        n_units = int(self._store.spike_counts().size)
        check_rows(self._units, n_units, self._id)
        new_row = np.full(n_units, -1, np.int32)
        new_row[self._units] = np.arange(len(self._units), dtype=np.int32)
        rows = new_row[units]
        selected = rows >= 0
        times, rows = times[selected], rows[selected]
        times.flags.writeable = rows.flags.writeable = False
        return times, rows


def check_rows(rows: NDArray[np.int64], count: int, session_id: str) -> None:
    """Raise StoreError unless all selected `rows` are rows of a table of `count` rows."""
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise StoreError(
            f"the catalogue does not fit {session_id}: any run of neurobrick prepare makes it anew"
        )


class _Replaced(Exception):
    """The store was replaced between the choice of a key and the reading of its rows."""
