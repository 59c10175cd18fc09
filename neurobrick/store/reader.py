"""Reading a store: each call decodes anew, whole arrays or some of their chunks.

Every byte that is read is compared with the inventory of the store. If a writer replaces the store
meanwhile, the new one is read, whole. Once data has been returned, a replaced store is an error:
two versions are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import SessionMetadata
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.per_process import PerProcess
from neurobrick.store.columns import ColumnArrays, from_arrays
from neurobrick.store.index import Index
from neurobrick.store.inventory import Mismatch
from neurobrick.store.layout import MANIFEST, behavior_key, column_key, decoded, intervals_key
from neurobrick.store.load import (
    Chunks,
    Load,
    array_load,
    chunk_starts,
    clock_of,
    fill,
    sample_ticks,
    times_load,
    values_load,
)
from neurobrick.store.zarr3 import METADATA

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
T = TypeVar("T")

# Exceptions that forged metadata with right checksums can cause.
FORGED = (TypeError, AttributeError, ArithmeticError, MemoryError)

BYTES_PER_SPIKE = 12  # in memory: float64 seconds and an int32 row


class SessionStore:
    """A store opened for reading. Opening reads the index alone; every call decodes anew.

    `path` is the name of the store below `storage`. `known` is its index, if a catalogue has it.
    `locate` returns the index of the session now: a store may move when it is replaced.

    The constructor and every method raise StoreError when a file is absent or damaged, may not be
    read, or is of a format version that this neurobrick does not read.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        known: Index | None = None,
        locate: Callable[[], Index] | None = None,
    ) -> None:
        self._storage = storage
        self._path = path
        self._locate = locate or self._load_index
        self._lock = PerProcess(RLock)  # a fork may happen while another thread holds it
        self._given = False  # whether data of this version has been returned
        with self._boundary():
            self._index = known or self._load_index()
            if known:
                known.check(self.name)

    @classmethod
    def at(cls, path: Path) -> SessionStore:
        """The store at `path`, a folder."""
        return cls(open_storage(path.parent), path.name)

    def __reduce__(
        self,
    ) -> tuple[type[SessionStore], tuple[Storage, str, Index], dict[str, bool]]:
        # Without `locate`: a copy in another process stays with this version if it is bound to it.
        arguments = (self._storage, self._path, self._index)
        return (SessionStore, arguments, {"_given": self._given})

    @property
    def name(self) -> str:
        """The path or URL of the store, for messages."""
        return f"{self._storage.url.rstrip('/')}/{self._path}"

    @property
    def metadata(self) -> SessionMetadata:
        """Everything about the session but its arrays."""
        return self._read(lambda index: SessionMetadata.model_validate(index.session))

    @property
    def index(self) -> Index:
        """The metadata of the nodes, and the inventory."""
        return self._read(lambda index: index)

    @property
    def version(self) -> bytes:
        """Tells the version of the store that is read now from any other; see `bind`."""
        return self._index.version

    def bind(self, version: bytes) -> bool:
        """Make later calls read `version` only. False if the store has been replaced meanwhile."""
        with self._lock.get():
            if self._index.version != version:
                return False
            self._given = True
            return True

    @property
    def n_spikes(self) -> int:
        """Spikes in the session."""
        return self._read(lambda index: index.array("spikes/time").shape[0])

    @property
    def is_remote(self) -> bool:
        """Whether the store is on another machine."""
        return self._storage.is_remote

    def spike_bytes(self) -> tuple[int, int]:
        """Bytes of all spikes in memory, and in the store."""

        def sizes(index: Index) -> tuple[int, int]:
            n = index.array("spikes/time").shape[0]
            return BYTES_PER_SPIKE * n, index.inventory.below("spikes/")

        return self._read(sizes, gives=False)

    def behavior_bytes(self, name: str) -> tuple[int, int]:
        """Bytes of a series in memory, and in the store."""
        key = behavior_key(name)

        def sizes(index: Index) -> tuple[int, int]:
            n, d = index.array(f"{key}/values").shape
            return 8 * n * (1 + d), index.inventory.below(f"{key}/")

        return self._read(sizes, gives=False)

    def spikes(self, chunks: Chunks = None) -> tuple[FloatArray, NDArray[np.int32]]:
        """Spike times (n,) in seconds, sorted, and rows (n,) of the units table; read-only."""
        times, units = self._arrays(
            lambda index: [
                times_load(index, "spikes/time", chunks),
                array_load(index, "spikes/unit", chunks, dtype=np.int32),
            ]
        )
        return times, units

    def spike_counts(self) -> NDArray[np.uint32]:
        """The number of spikes of each unit, (units,)."""
        return self._arrays(lambda index: [array_load(index, "spikes/count")])[0]

    def spike_chunks(self) -> FloatArray:
        """The first time (n_chunks,) in seconds of each chunk of the spikes."""
        return self._read(lambda index: chunk_starts(index, "spikes/time"))

    def behavior_names(self) -> list[str]:
        """The names of the series in the store."""
        return [decoded(name) for name in self._read(lambda index: index.children("behavior"))]

    def behavior_info(self, name: str) -> tuple[Mapping[str, Any], tuple[int, ...], Clock | None]:
        """A series' attributes, the shape (n, d) of its values, and its clock if it is regular."""
        key = behavior_key(name)

        def read(index: Index) -> tuple[Mapping[str, Any], tuple[int, ...], Clock | None]:
            shape = index.array(f"{key}/values").shape
            return index.nodes[key]["attributes"], shape, clock_of(index, f"{key}/segments")

        return self._read(read)

    def segments(self) -> dict[str, NDArray[np.int64]]:
        """First tick and length of the gap-free stretches, (k, 2), of each regular series."""
        keys = self._read(
            lambda index: {
                decoded(name): f"behavior/{name}/segments"
                for name in index.children("behavior")
                if f"behavior/{name}/segments" in index.nodes
            }
        )
        arrays = self._arrays(lambda index: [array_load(index, key) for key in keys.values()])
        return dict(zip(keys, arrays, strict=True))

    def behavior(self, name: str, chunks: Chunks = None) -> tuple[FloatArray, Array]:
        """A series' timestamps (n,) in seconds and values (n, d) in SI; read-only."""
        key = behavior_key(name)

        def loads(index: Index) -> list[Load]:
            values = values_load(index, f"{key}/values", chunks)
            if clock_of(index, f"{key}/segments"):
                return [array_load(index, f"{key}/segments"), values]
            return [times_load(index, f"{key}/timestamps", chunks), values]

        stamps, values = self._arrays(loads)
        _, shape, clock = self.behavior_info(name)
        if clock:
            with self._boundary():
                ticks = sample_ticks(stamps, shape[0])
            if chunks is not None:
                rows = self._read(lambda index: index.array(f"{key}/values").rows)
                ticks = ticks[chunks.start * rows : chunks.stop * rows]
            stamps = _frozen(clock.times(ticks))
        if len(stamps) != len(values):
            raise StoreError(f"{self.name}: {name} has {len(stamps)} times, {len(values)} samples")
        return stamps, values

    def behavior_chunks(self, name: str) -> FloatArray:
        """The first time (n_chunks,) in seconds of each chunk of a series."""
        key = behavior_key(name)
        _, shape, clock = self.behavior_info(name)
        if clock is None:
            return self._read(lambda index: chunk_starts(index, f"{key}/timestamps"))
        rows = self._read(lambda index: index.array(f"{key}/values").rows)
        (segments,) = self._arrays(lambda index: [array_load(index, f"{key}/segments")])
        with self._boundary():
            return clock.times(sample_ticks(segments, shape[0])[::rows])

    def units(self) -> pa.Table:
        """The units table, one row a unit."""
        return self._table("units")

    def interval_names(self) -> list[str]:
        """The names of the interval tables in the store."""
        return [decoded(name) for name in self._read(lambda index: index.children("intervals"))]

    def interval_table(self, name: str) -> pa.Table:
        """An interval table, with `start` and `stop` in seconds."""
        return self._table(intervals_key(name))

    def times(self) -> dict[str, Intervals]:
        """The sets of time: `domain` (recorded), `evaluation` (scored), and the splits."""
        known = self._read(lambda index: index.times)
        return dict(known) if known is not None else self._read_times()

    def _read_times(self) -> dict[str, Intervals]:
        keys = self._read(
            lambda index: {
                "domain": "domain",
                "evaluation": "evaluation",
                **{name: f"splits/{name}" for name in index.children("splits")},
            }
        )
        edges = self._arrays(
            lambda index: [
                array_load(index, f"{key}/{edge}")
                for key in keys.values()
                for edge in ("start", "stop")
            ]
        )
        pairs = zip(keys, edges[::2], edges[1::2], strict=True)
        return {name: Intervals(start, stop) for name, start, stop in pairs}

    def read_ahead(self) -> None:
        """Begin to fetch the spikes, the target and all segments of a remote store."""

        def chunks(index: Index) -> list[tuple[str, int]]:
            keys = ["spikes/time", "spikes/unit"]
            if target := index.session.get("target"):
                series = behavior_key(target)
                keys += [f"{series}/values", f"{series}/timestamps"]
            keys += [f"behavior/{name}/segments" for name in index.children("behavior")]
            nodes = [index.array(key) for key in keys if key in index.nodes]
            names = [chunk for node in nodes for chunk, _ in node.chunks()]
            return [(f"{index.path}/{name}", index.inventory.entry(name)[1]) for name in names]

        keys = self._read(chunks, gives=False)
        self._storage.read_ahead([name for name, _ in keys], [crc for _, crc in keys])

    def _table(self, key: str) -> pa.Table:
        def parts(index: Index) -> list[tuple[str, str]]:
            return [
                (name, role)
                for name in index.nodes[key]["attributes"]["columns"]
                for role in ("values", "offsets", "inner_offsets")
                if column_key(key, name, role) in index.nodes
            ]

        def attributes(index: Index) -> dict[str, Mapping[str, Any]]:
            columns = index.nodes[key]["attributes"]["columns"]
            return {
                name: index.array(column_key(key, name, "values")).attributes for name in columns
            }

        arrays = self._arrays(
            lambda index: [array_load(index, column_key(key, *part)) for part in parts(index)]
        )
        held: dict[str, dict[str, Array]] = {}
        for (name, role), array in zip(self._read(parts), arrays, strict=True):
            held.setdefault(name, {})[role] = array
        with self._boundary():
            return pa.table(
                {
                    name: from_arrays(ColumnArrays(held[name], found))
                    for name, found in self._read(attributes).items()
                }
            )

    def _arrays(self, loads: Callable[[Index], list[Load]]) -> list[Array]:
        def read(index: Index) -> list[Array]:
            filled = loads(index)
            fill(self._storage, index, filled)
            return [_frozen(load.out) for load in filled]

        return self._read(read)

    def _read(self, read: Callable[[Index], T], *, gives: bool = True) -> T:
        """The result of `read`, given the store's index; all of it is of one version of the store.

        `gives`: the result is returned to the caller, so later calls must read the same version.
        """
        with self._boundary():
            index = self._index
            try:
                result = read(index)
            except (Mismatch, FileNotFoundError):
                index = self._renewed(index)
                result = read(index)
            with self._lock.get():
                if index is not self._index:
                    raise self._replaced()
                self._given |= gives
            return result

    def _renewed(self, old: Index) -> Index:
        """The index of the store that has replaced the one with the index `old`.

        If none has, the store is damaged: the exception that is being handled is raised again.
        """
        with self._lock.get():
            if self._index is not old:  # another thread was here first
                return self._index
            new = self._locate()
            if new.manifest == old.manifest:
                raise
            if self._given:
                raise self._replaced()
            self._index = new
            return new

    def _replaced(self) -> StoreError:
        return StoreError(
            f"{self.name} was replaced while it was being read: open the Dataset again"
        )

    def _load_index(self) -> Index:
        """The index in the store's own two files, both of one version.

        Raises Mismatch when the files do not match and no writer has replaced them meanwhile.
        """
        names = [f"{self._path}/{MANIFEST}", f"{self._path}/{METADATA}"]
        before = b""
        while True:
            try:
                manifest, metadata = self._storage.read_many(names)
            except FileNotFoundError as error:
                raise StoreError(
                    f"there is no whole store at {self.name}: prepare the session again"
                ) from error
            index = Index(self._path, metadata, manifest)
            try:
                index.check(self.name)
            except Mismatch:
                if manifest == before:
                    raise
                before = manifest
            else:
                return index

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        """Turns exceptions of codecs, JSON and storage into StoreError."""
        try:
            yield
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.name} lacks {error.filename or error}: run neurobrick verify, then prepare"
                " the session again"
            ) from error
        except (OSError, ValueError, LookupError, RuntimeError, *FORGED) as error:
            raise StoreError(
                f"{self.name} is damaged ({' '.join(str(error).split())[:200]}): run neurobrick"
                " verify, then prepare the session again"
            ) from error


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
