"""The catalogue as it is made: the tables of all stores under a root, put in place together."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neurobrick.catalog import seal
from neurobrick.catalog.schemas import BEHAVIOR, SCHEMAS, SESSIONS, TABLES, TIME_COLUMNS
from neurobrick.catalog.tables import FOLDER, GENERATION, VERSION
from neurobrick.errors import NeurobrickError, StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage.checksum import checksum
from neurobrick.store import MANIFEST, SUFFIX, SessionStore, put_in_place
from neurobrick.store.inventory import Inventory
from neurobrick.store.layout import STAGING

Tables = Mapping[str, pa.Table]

# How a store can fail to be described that is intact, but unlike any that neurobrick writes.
UNLISTED = (
    NeurobrickError,
    pa.ArrowException,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
)
CLASHES = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def stores(root: Path) -> dict[str, Path]:
    """The whole stores under `root`, by session id."""
    manifests = sorted(root.glob(f"*/*{SUFFIX}/{MANIFEST}"))
    return {
        f"{path.parts[-3]}/{path.parts[-2].removesuffix(SUFFIX)}": path.parent for path in manifests
    }


def build(root: Path) -> list[StoreError]:
    """Make the catalogue of every store under `root`, and put it in place of the old one.

    Returns an error for each store that is left out because it cannot be read or listed: it is of
    another format version, or damaged. One odd session never takes the catalogue down.

    Raises StoreError when the catalogue cannot be written.
    """
    described, faults = [], []
    for name, path in stores(root).items():
        try:
            described.append(describe(name, path))
        except StoreError as error:
            faults.append(error)
        except UNLISTED as error:
            reason = " ".join(str(error).split())[:200]
            faults.append(StoreError(f"{path} cannot be listed: {reason or type(error).__name__}"))
    put(root, join(described))
    return faults


def put(root: Path, tables: Tables) -> None:
    """Write `tables` as the catalogue of `root`, in place of the old one, all four at once.

    Raises StoreError when they cannot be written.
    """
    staging = root / f"{STAGING}{os.getpid()}-{FOLDER}"
    try:
        staging.mkdir(parents=True)
        files = {f"{name}.parquet": content for name, content in dump(tables).items()}
        for name, content in files.items():
            (staging / name).write_bytes(content)
        listed = {n: (len(c), checksum(c)) for n, c in files.items()}
        put_in_place(staging, root / FOLDER, Inventory(listed).dump())
    except OSError as error:
        raise StoreError(
            f"cannot write the catalogue to {root / FOLDER}: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def dump(tables: Tables) -> dict[str, bytes]:
    """The Parquet files of a catalogue, by table. Each names the generation of the catalogue."""
    about = {
        GENERATION: generation_of(tables).encode(),
        VERSION: str(FORMAT_VERSION).encode(),
        seal.KEY: seal.UNSEALED,
    }
    packed = {}
    for name in TABLES:
        table = tables[name]
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), **about}),
            sink,
            compression="zstd",
            write_page_checksum=True,
        )
        packed[name] = seal.sealed(sink.getvalue().to_pybytes())
    return packed


def generation_of(tables: Tables) -> str:
    """Tells one state of a corpus from another: a checksum of the stores and their versions."""
    sessions = tables["sessions"]
    stores = zip(sessions["store"].to_pylist(), sessions["manifest"].to_pylist(), strict=True)
    content = b"".join(store.encode() + manifest for store, manifest in stores)
    return format(google_crc32c.value(content), "08x")


def describe(session_id: str, path: Path) -> Tables:
    """One session's rows of each table. Raises StoreError when its store cannot be read."""
    store = SessionStore.at(path)
    counts, units, times = store.spike_counts(), store.units(), store.times()
    index, about = store.index, store.metadata
    start, stop = times["domain"].span
    series = [_series(session_id, store, name) for name in store.behavior_names()]
    trials = store.interval_table("trials") if "trials" in store.interval_names() else None
    areas = units["area"].to_pylist() if "area" in units.column_names else []
    row: dict[str, Any] = {
        "session": session_id,
        "dataset": about.dataset,
        "subject": about.subject.id,
        "species": about.subject.species,
        "sex": about.subject.sex,
        "age": about.subject.age,
        "lab": about.lab,
        "institution": about.institution,
        "session_start_time": about.session_start_time,
        "version": about.provenance.version,
        "units": units.num_rows,
        "spikes": store.n_spikes,
        "trials": trials.num_rows if trials is not None else 0,
        "start": start,
        "stop": stop,
        "duration": times["domain"].duration,
        "areas": sorted({area for area in areas if isinstance(area, str)}),
        "behavior": [attributes["name"] for attributes in series],
        "target": about.target,
        "bytes": index.inventory.size + len(index.manifest),
        **{name: _edges(times.get(name)) for name in TIME_COLUMNS},
        "store": f"{session_id}{SUFFIX}",
        "zarr": zlib.compress(index.metadata),
        "manifest": zlib.compress(index.manifest),
    }
    seconds = times["domain"].duration or float("nan")
    computed = {"spikes": pa.array(counts), "rate_hz": pa.array(counts / seconds)}
    tables = {
        "sessions": pa.Table.from_pylist([row], schema=SESSIONS),
        "units": _keyed(session_id, units, computed),
        "behavior": pa.Table.from_pylist(series, schema=BEHAVIOR),
    }
    if trials is not None:
        tables["trials"] = _keyed(session_id, trials, {})
    return tables


def join(described: Sequence[Tables]) -> Tables:
    """The tables of several sessions, one below the other."""
    return {
        name: _concatenated([tables[name] for tables in described if name in tables], SCHEMAS[name])
        for name in TABLES
    }


def _series(session_id: str, store: SessionStore, name: str) -> dict[str, Any]:
    attributes, shape, clock = store.behavior_info(name)
    return {
        "session": session_id,
        "name": name,
        "samples": shape[0],
        "columns": list(attributes["columns"]) or [str(k) for k in range(shape[1])],
        "rate_hz": clock.rate if clock else None,
        **{key: attributes[key] for key in ("unit", "source", "source_unit", "description")},
    }


def _edges(intervals: Intervals | None) -> list[float] | None:
    """A set of time as the catalogue holds it: `[start, stop, start, stop, …]`, in seconds."""
    if intervals is None:
        return None
    return np.stack([intervals.start, intervals.stop], axis=1).reshape(-1).tolist()


def _keyed(session_id: str, table: pa.Table, computed: Mapping[str, pa.Array]) -> pa.Table:
    """`table` behind the columns that every corpus has.

    A column of the file with the name of one of these is renamed: `row` becomes `row_in_file`.
    """
    columns = {
        "session": pa.array([session_id] * table.num_rows, pa.string()),
        "row": pa.array(range(table.num_rows), pa.int64()),
        **computed,
    }
    for name, column in zip(table.column_names, table.columns, strict=True):
        free = name
        while free in columns or (free != name and free in table.column_names):
            free = f"{free}_in_file"
        columns[free] = column
    return pa.table(columns)


def _concatenated(tables: Sequence[pa.Table], required: pa.Schema) -> pa.Table:
    """One table of all. A column that some tables lack is null there.

    A column becomes text where no type holds the values of all tables: numbers beside text, or
    int64 beside uint64 beyond 2^63.
    """
    if not tables:
        return required.empty_table()
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except CLASHES:
        names = dict.fromkeys(name for table in tables for name in table.column_names)
        return pa.table({name: _column(tables, name) for name in names})


def _column(tables: Sequence[pa.Table], name: str) -> pa.ChunkedArray:
    """One column of all tables, in one type."""
    pieces = [
        table.select([name])
        if name in table.column_names
        else pa.table({name: pa.nulls(table.num_rows)})
        for table in tables
    ]
    try:
        return pa.concat_tables(pieces, promote_options="permissive")[name]
    except CLASHES:
        return pa.chunked_array([_as_text(piece[name]) for piece in pieces], pa.string())


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    values = column.to_pylist()
    return pa.array([None if value is None else str(value) for value in values], pa.string())
