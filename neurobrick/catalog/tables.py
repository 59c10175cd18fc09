"""The catalogue, read: tables, filters, and what is needed to open a session's store."""

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
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import READABLE_VERSIONS, SPLITS
from neurobrick.storage import Storage
from neurobrick.store import Index

FOLDER = "catalog"
TABLES = ("sessions", "units", "trials", "behavior")

# Of sessions.parquet: how a store is read and when the session was recorded, not for people.
INDEX_COLUMNS = ("store", "zarr", "manifest")
TIME_COLUMNS = ("domain", "evaluation", *SPLITS)
GENERATION = b"neurobrick.generation"
VERSION = b"neurobrick.format_version"


def table_file(name: str, generation: str = "") -> str:
    """Where a table lies below the root; of one generation, or of the only one there is."""
    return f"{FOLDER}/{name}{generation and '-'}{generation}.parquet"


class Catalog:
    """The tables of the corpus in `storage`; sessions.parquet is read now, unless its `content` is
    given, the others when they are asked for.

    Raises StoreError when there is no catalogue, or one that is damaged or of another version.
    """

    def __init__(self, storage: Storage, content: bytes | None = None) -> None:
        self.storage = storage
        self._narrowed: Mapping[str, pa.Table] = {}  # the tables that selections have narrowed
        self._content = content or self._fetch("sessions")
        self._file = self._open("sessions", self._content)

    def __getstate__(self) -> dict[str, Any]:
        """Without what pyarrow holds open, and what can be read again."""
        return {key: self.__dict__[key] for key in ("storage", "_narrowed", "_content")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = self._open("sessions", self._content)

    @cached_property
    def sessions(self) -> pa.Table:
        """One row a session: ids, subject, counts, span, bytes, areas, behavior, target."""
        return self._table("sessions")

    @cached_property
    def units(self) -> pa.Table:
        """One row a unit: `session`, `row` in its units table, spikes, `rate_hz`, its columns."""
        return self._table("units")

    @cached_property
    def trials(self) -> pa.Table:
        """One row a trial: `session`, `row`, and the columns of the session's trials table."""
        return self._table("trials")

    @cached_property
    def behavior(self) -> pa.Table:
        """One row a behavior: `session`, `name`, samples, columns, `rate_hz` (null if irregular),
        unit, source, source_unit."""
        return self._table("behavior")

    def dataset(self, name: str) -> pads.Dataset:
        """One of the tables as a pyarrow dataset, for scanners and other query engines."""
        return pads.dataset(self._named(name))

    def filter(self, name: str, where: str | pc.Expression) -> pa.Table:
        """The rows of a table that match: `filter("units", 'area == "M1" and rate_hz > 1')`.

        Its language: `neurobrick.catalog.filters`. Raises ValueError for what it cannot answer.
        """
        return filters.apply(self._named(name), where)

    def select(self, **wanted: str | pc.Expression | None) -> Catalog:
        """The part of the catalogue that matches a filter for each table that is named: of these
        tables the rows that match; of all tables the sessions that have such rows in each.

        Raises ValueError for a filter that cannot be answered, or a table that is none.
        """
        tables = dict(self._narrowed)
        ids = self.sessions["session"]
        for name, where in wanted.items():
            if where is not None:
                tables[name] = self.filter(name, where)
                ids = ids.filter(_among(ids, tables[name]["session"]))
        tables.setdefault("sessions", self.sessions)
        tables = {
            name: table.filter(_among(table["session"], ids)) for name, table in tables.items()
        }
        selected = copy(self)
        for name in TABLES:  # what was worked out for the whole does not hold for a part
            selected.__dict__.pop(name, None)
        selected._narrowed = tables
        return selected

    def rows(self, name: str, session_id: str) -> NDArray[np.int64] | None:
        """The rows of a session's own table that a selection kept; None where it kept all."""
        if name not in self._narrowed:
            return None
        table = self._narrowed[name]
        return table.filter(pc.equal(table["session"], session_id))["row"].to_numpy()

    def names(self, session_id: str) -> list[str] | None:
        """The behaviors of a session that a selection kept; None where it kept all."""
        if "behavior" not in self._narrowed:
            return None
        table = self._narrowed["behavior"]
        return table.filter(pc.equal(table["session"], session_id))["name"].to_pylist()

    def store(self, session_id: str) -> Index:
        """The index of a session's store. Raises KeyError when there is no such session."""
        row = self._row[session_id]
        path, *packed = (self._index[name][row].as_py() for name in INDEX_COLUMNS)
        metadata, manifest = (zlib.decompress(content) for content in packed)
        return Index(path, metadata, manifest, self.times(session_id))

    def times(self, session_id: str) -> dict[str, Intervals]:
        """A session's sets of time: domain, evaluation, and the splits that it has."""
        row = self._row[session_id]
        found = {name: self._times[name][row].values for name in TIME_COLUMNS}
        edges = {name: column.to_numpy() for name, column in found.items() if column is not None}
        return {name: Intervals(both[::2], both[1::2]) for name, both in edges.items()}

    def everything(self) -> dict[str, pa.Table]:
        """Every table, with all columns."""
        with _boundary(self.storage, "sessions"):
            sessions = self._file.read()
        return {"sessions": sessions, **{n: self._named(n) for n in TABLES if n != "sessions"}}

    @property
    def generation(self) -> bytes:
        """What tells the catalogue of one state of the corpus from that of another."""
        return _said(self._file, GENERATION)

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
            raise ValueError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        return getattr(self, name)

    def _table(self, name: str) -> pa.Table:
        if name in self._narrowed:
            return self._narrowed[name]
        if name == "sessions":
            hidden = {*INDEX_COLUMNS, *TIME_COLUMNS}
            names = self._file.schema_arrow.names
            return self._columns(tuple(n for n in names if n not in hidden))
        file = self._open(name, self._fetch(name, self.generation.decode()))
        if _said(file, GENERATION) != self.generation:
            raise StoreError(
                f"the corpus at {self.storage.url} was changed since it was opened: open it again"
            )
        with _boundary(self.storage, name):
            table = file.read()
        if not self._narrowed:
            return table
        return table.filter(_among(table["session"], self.sessions["session"]))

    def _fetch(self, name: str, generation: str = "") -> bytes:
        """A table's file. Where files cannot be replaced together, each generation has its own."""
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
            version = int(_said(file, VERSION) or 1)
        if version not in READABLE_VERSIONS:
            advice = (
                "neurobrick prepare makes its sessions anew"
                if version < min(READABLE_VERSIONS)
                else "upgrade this neurobrick (pip install -U neurobrick)"
            )
            known = " and ".join(map(str, READABLE_VERSIONS))
            raise StoreError(
                f"the corpus at {url} has format version {version}, this neurobrick reads {known}:"
                f" {advice}"
            )
        if not seal.is_intact(content):
            raise _damaged(self.storage, name)
        return file


def _among(ids: pa.ChunkedArray, kept: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which of `ids` are in `kept`."""
    return pc.is_in(ids, value_set=pa.array(pc.unique(kept).to_pylist(), pa.string()))


def _said(file: pq.ParquetFile, key: bytes) -> bytes:
    """What the file's metadata say under `key`."""
    return (file.schema_arrow.metadata or {}).get(key, b"")


@contextmanager
def _boundary(storage: Storage, name: str) -> Iterator[None]:
    """pyarrow's exceptions as StoreError."""
    try:
        yield
    except (OSError, ValueError, LookupError, AttributeError, pa.ArrowException) as error:
        raise _damaged(storage, name) from error


def _damaged(storage: Storage, name: str) -> StoreError:
    return StoreError(
        f"{storage.url}/{FOLDER}/{name}.parquet is damaged: any run of neurobrick prepare makes it"
        " anew"
    )
