"""The catalogue as it is read: its tables, filters on them, and the index of each store."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neurobrick.catalog import filters, seal
from neurobrick.catalog.schemas import INDEX_COLUMNS, SCHEMAS, TABLES, TIME_COLUMNS
from neurobrick.errors import StoreError, listed
from neurobrick.intervals import Intervals
from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage import Storage
from neurobrick.store import Index

FOLDER = "catalog"
GENERATION = b"neurobrick.generation"
VERSION = b"neurobrick.format_version"
# The most that a store's zarr.json or manifest.json can have when decompressed. The manifest has
# about 60 bytes for a chunk of 262,144 spikes: this is the manifest of a session of 10^11 spikes.
# zlib shrinks the metadata of a table of 3,000 columns 112 times, and zeros 1,000 times.
MOST_INDEX_BYTES = 2**25
MOST_RATIO = 250
FOREIGN = (pa.ArrowException, zlib.error)


def table_file(name: str, generation: str = "") -> str:
    """The path of a table below the root. Where files cannot be replaced together, `generation` is
    in its name."""
    return f"{FOLDER}/{name}{generation and '-'}{generation}.parquet"


class Catalog:
    """The tables of the corpus in `storage`, as pyarrow tables.

        ds.catalog.filter("units", 'area == "M1" and rate_hz > 1')

    sessions.parquet is read now, unless its `content` is given; each other table at its first use.

    Raises StoreError when there is no catalogue, or when it is damaged or of another version.
    """

    def __init__(self, storage: Storage, content: bytes | None = None) -> None:
        self.storage = storage
        self._narrowed: Mapping[str, pa.Table] = {}  # the tables that a selection has narrowed
        self._content = content or self._fetch("sessions")
        self._file = self._open("sessions", self._content)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, and without the tables that can be read again."""
        return {key: self.__dict__[key] for key in ("storage", "_narrowed", "_content")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = self._open("sessions", self._content)

    @cached_property
    def sessions(self) -> pa.Table:
        """One row a session: `session`, `dataset`, `subject`, `species`, `sex`, `age`, `lab`,
        `institution`, `session_start_time`, `version`, the numbers of `units`, `spikes`, `trials`
        and `bytes`, `start`, `stop` and `duration` in seconds, `areas`, `behavior`, `target`."""
        return self._table("sessions")

    @cached_property
    def units(self) -> pa.Table:
        """One row a unit: `session`, `row` of its units table, `spikes`, `rate_hz`, and the columns
        of that table."""
        return self._table("units")

    @cached_property
    def trials(self) -> pa.Table:
        """One row a trial: `session`, `row` of its trials table, and the columns of that table."""
        return self._table("trials")

    @cached_property
    def behavior(self) -> pa.Table:
        """One row a behavior: `session`, `name`, `samples`, `columns`, `rate_hz` (null if
        irregular), `unit`, `source`, `source_unit`, `description`."""
        return self._table("behavior")

    def dataset(self, name: str) -> pads.Dataset:
        """A table as a pyarrow dataset, for scanners and other query engines.

        Raises ValueError when there is no table called `name`.
        """
        return pads.dataset(self._named(name))

    def filter(self, name: str, where: str | pc.Expression) -> pa.Table:
        """The rows of a table that match: `filter("units", 'area == "M1" and rate_hz > 1')`.

        `name` is `sessions`, `units`, `trials` or `behavior`. The language of filters is in
        `neurobrick.catalog.filters`.

        Raises ValueError when there is no such table, FilterError for a filter that cannot be read
        or does not fit the table's columns.
        """
        return filters.apply(self._named(name), where)

    def select(self, **filters: str | pc.Expression | None) -> Catalog:
        """The part of the catalogue that matches a filter for each table, given by its name.

        Of a filtered table, the rows that match are kept. The sessions are kept that have a
        matching row in each filtered table.

        Raises ValueError when there is no such table, FilterError for a filter that cannot be read
        or does not fit the table's columns.
        """
        tables = dict(self._narrowed)
        ids = self.sessions["session"]
        for name, where in filters.items():
            if where is not None:
                tables[name] = self.filter(name, where)
                ids = ids.filter(_among(ids, tables[name]["session"]))
        tables.setdefault("sessions", self.sessions)
        tables = {
            name: table.filter(_among(table["session"], ids)) for name, table in tables.items()
        }
        selected = copy(self)
        for name in TABLES:  # cached for the whole
            selected.__dict__.pop(name, None)
        selected._narrowed = tables
        return selected

    def rows(self, name: str, session_id: str) -> NDArray[np.int64] | None:
        """The rows of a session's units or trials table that the selection kept; None means all."""
        if name not in self._narrowed:
            return None
        table = self._narrowed[name]
        return table.filter(pc.equal(table["session"], session_id))["row"].to_numpy()

    def names(self, session_id: str) -> list[str] | None:
        """The behaviors of a session that the selection kept; None means all."""
        if "behavior" not in self._narrowed:
            return None
        table = self._narrowed["behavior"]
        return table.filter(pc.equal(table["session"], session_id))["name"].to_pylist()

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._row

    def store(self, session_id: str) -> Index:
        """The index of a session's store.

        Raises KeyError when there is no such session, StoreError when the catalogue is damaged.
        """
        row = self._row[session_id]
        times = self.times(session_id)
        with _boundary(self.storage, "sessions"):
            path, *packed = (self._index[name][row].as_py() for name in INDEX_COLUMNS)
            metadata, manifest = (_decompressed(content) for content in packed)
            if not path:
                raise ValueError(f"{session_id} has no path")
            return Index(path, metadata, manifest, times)

    def times(self, session_id: str) -> dict[str, Intervals]:
        """A session's sets of time: `domain`, `evaluation`, and the splits that it has.

        Raises KeyError when there is no such session, StoreError when the catalogue is damaged.
        """
        row = self._row[session_id]
        with _boundary(self.storage, "sessions"):
            lists = {name: self._times[name][row].values for name in TIME_COLUMNS}
            edges = {
                name: values.to_numpy() for name, values in lists.items() if values is not None
            }
            times = {name: Intervals(flat[::2], flat[1::2]) for name, flat in edges.items()}
            if not times.keys() >= {"domain", "evaluation"}:
                raise ValueError(f"{session_id} has no domain")
            return times

    def everything(self) -> dict[str, pa.Table]:
        """Every table, with all columns."""
        with _boundary(self.storage, "sessions"):
            sessions = self._file.read()
        others = {name: self._named(name) for name in TABLES if name != "sessions"}
        return {"sessions": sessions, **others}

    @property
    def generation(self) -> bytes:
        """Tells the catalogue of one state of the corpus from that of another."""
        return _metadata(self._file, GENERATION)

    @cached_property
    def _index(self) -> pa.Table:
        return self._columns(INDEX_COLUMNS)

    @cached_property
    def _times(self) -> pa.Table:
        return self._columns(TIME_COLUMNS)

    @cached_property
    def _row(self) -> dict[str, int]:
        ids = self._columns(("session",))["session"].to_pylist()
        return {session_id: row for row, session_id in enumerate(ids)}

    def _named(self, name: str) -> pa.Table:
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; there is: {listed(TABLES)}")
        return getattr(self, name)

    def _table(self, name: str) -> pa.Table:
        if name in self._narrowed:
            return self._narrowed[name]
        if name == "sessions":
            hidden = {*INDEX_COLUMNS, *TIME_COLUMNS}
            names = self._file.schema_arrow.names
            return self._columns(tuple(n for n in names if n not in hidden))
        file = self._open(name, self._fetch(name, self.generation.decode()))
        if _metadata(file, GENERATION) != self.generation:
            raise StoreError(
                f"the corpus at {self.storage.url} was changed since it was opened: open it again"
            )
        with _boundary(self.storage, name):
            table = file.read()
        if not self._narrowed:
            return table
        return table.filter(_among(table["session"], self.sessions["session"]))

    def _fetch(self, name: str, generation: str = "") -> bytes:
        """The content of a table's file: of this generation, where each has files of its own."""
        url = self.storage.url
        try:
            if generation and self.storage.is_remote:
                with suppress(FileNotFoundError):
                    return self.storage.read(table_file(name, generation))
            return self.storage.read(table_file(name))
        except FileNotFoundError as error:
            raise StoreError(
                f"there is no corpus at {url}: run neurobrick prepare with --root, or neurobrick"
                " push, to make one"
                if name == "sessions"
                else f"the corpus at {url} was changed since it was opened: open it again"
            ) from error

    def _columns(self, names: tuple[str, ...]) -> pa.Table:
        with _boundary(self.storage, "sessions"):
            return self._file.read(columns=list(names), use_threads=False)

    def _open(self, name: str, content: bytes) -> pq.ParquetFile:
        url = self.storage.url
        with _boundary(self.storage, name):
            file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            version = _metadata(file, VERSION).decode()
            older = not version or int(version) < FORMAT_VERSION
        if version != str(FORMAT_VERSION):
            advice = (
                "neurobrick prepare makes its sessions anew"
                if older
                else "upgrade this neurobrick (pip install -U neurobrick)"
            )
            raise StoreError(
                f"the corpus at {url} has format version {version or 1}, this neurobrick reads"
                f" {FORMAT_VERSION}: {advice}"
            )
        if not seal.is_intact(content) or not _fits(file.schema_arrow, SCHEMAS[name]):
            raise _damaged(self.storage, name)
        return file


def _among(ids: pa.ChunkedArray, kept: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which of `ids` are in `kept`."""
    return pc.is_in(ids, value_set=pa.array(pc.unique(kept).to_pylist(), pa.string()))


def _metadata(file: pq.ParquetFile, key: bytes) -> bytes:
    """The value of `key` in the file's metadata; empty where there is none."""
    return (file.schema_arrow.metadata or {}).get(key, b"")


def _fits(schema: pa.Schema, required: pa.Schema) -> bool:
    """Whether a file has every required column once: with its type, or numbers for numbers."""
    for field in required:
        places = schema.get_all_field_indices(field.name)
        if len(places) != 1:
            return False
        kind = schema.field(places[0]).type
        if kind != field.type and not (_is_number(kind) and _is_number(field.type)):
            return False
    return True


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _decompressed(content: bytes) -> bytes:
    """The bytes that zlib compressed. Raises ValueError for more than an index can have."""
    most = min(MOST_INDEX_BYTES, MOST_RATIO * len(content))
    stream = zlib.decompressobj()
    whole = stream.decompress(content, most)
    if not stream.eof:
        raise ValueError(f"the index of a store breaks off, or has more than {most} bytes")
    return whole


@contextmanager
def _boundary(storage: Storage, name: str) -> Iterator[None]:
    """Exceptions of pyarrow and zlib, as StoreError."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, *FOREIGN) as error:
        raise _damaged(storage, name) from error


def _damaged(storage: Storage, name: str) -> StoreError:
    return StoreError(
        f"{storage.url}/{FOLDER}/{name}.parquet is damaged: any run of neurobrick prepare makes it"
        " anew"
    )
