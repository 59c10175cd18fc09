"""The catalogue, made of the stores under a root, and put in place as a whole."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neurobrick.catalog import seal
from neurobrick.catalog.tables import FOLDER, GENERATION, TABLES, TIME_COLUMNS, VERSION
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage.checksum import checksum
from neurobrick.store import MANIFEST, SUFFIX, SessionStore, put_in_place
from neurobrick.store.inventory import Inventory
from neurobrick.store.layout import STAGING

Tables = Mapping[str, pa.Table]


def stores(root: Path) -> dict[str, Path]:
    """The whole stores under `root`, by session id, and those that may not be read."""
    return {
        f"{path.parent.name}/{path.name.removesuffix(SUFFIX)}": path
        for path in sorted(root.glob(f"*/*{SUFFIX}"))
        if _has_manifest(path)
    }


def _has_manifest(store: Path) -> bool:
    try:
        (store / MANIFEST).stat()
    except PermissionError:
        return True  # whoever opens the store gets the reason
    except OSError:
        return False
    return True


def build(root: Path) -> list[StoreError]:
    """Make the catalogue of every store under `root`, and put it in place of the old one.

    A store that cannot be read, as one of another format version, is left out, and said.
    """
    described, faults = [], []
    for name, path in stores(root).items():
        try:
            described.append(describe(name, path))
        except StoreError as error:
            faults.append(error)
    put(root, join(described))
    return faults


def put(root: Path, tables: Tables) -> None:
    """Write `tables` as the catalogue of `root`, in place of the old one, all four at once.

    Raises StoreError when the disk does not take it.
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
            f"cannot write {root / FOLDER}: {error.strerror or error}; free some space, then run"
            " the same command again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def dump(tables: Tables) -> dict[str, bytes]:
    """The Parquet files of a catalogue, by table. All tell the generation that they are of."""
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
    """What tells one state of a corpus from another: the stores that it has, and their versions."""
    sessions = tables["sessions"]
    stores = zip(sessions["store"].to_pylist(), sessions["manifest"].to_pylist(), strict=True)
    said = b"".join(store.encode() + manifest for store, manifest in stores)
    return format(google_crc32c.value(said), "08x")


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
        "behavior": [one["name"] for one in series],
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
        name: _concatenated([tables[name] for tables in described if name in tables], EMPTY[name])
        for name in TABLES
    }


_TIMES = pa.list_(pa.float64())
SESSIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("session", "dataset", "subject", "species", "sex")),
        *((name, pa.string()) for name in ("age", "lab", "institution")),
        *((name, pa.string()) for name in ("session_start_time", "version")),
        *((name, pa.int64()) for name in ("units", "spikes", "trials")),
        *((name, pa.float64()) for name in ("start", "stop", "duration")),
        *((name, pa.list_(pa.string())) for name in ("areas", "behavior")),
        ("target", pa.string()),
        ("bytes", pa.int64()),
        *((name, _TIMES) for name in TIME_COLUMNS),
        ("store", pa.string()),
        ("zarr", pa.binary()),
        ("manifest", pa.binary()),
    ]
)
BEHAVIOR = pa.schema(
    [
        ("session", pa.string()),
        ("name", pa.string()),
        ("samples", pa.int64()),
        ("columns", pa.list_(pa.string())),
        ("rate_hz", pa.float64()),
        *((name, pa.string()) for name in ("unit", "source", "source_unit", "description")),
    ]
)
_KEYS = [("session", pa.string()), ("row", pa.int64())]
EMPTY = {
    "sessions": SESSIONS,
    "units": pa.schema([*_KEYS, ("spikes", pa.int64()), ("rate_hz", pa.float64())]),
    "trials": pa.schema([*_KEYS, ("start", pa.float64()), ("stop", pa.float64())]),
    "behavior": BEHAVIOR,
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
    """`[start, stop, start, stop, …]`, as the catalogue holds a set of time."""
    if intervals is None:
        return None
    return np.stack([intervals.start, intervals.stop], axis=1).reshape(-1).tolist()


def _keyed(session_id: str, table: pa.Table, computed: Mapping[str, pa.Array]) -> pa.Table:
    """`table` under the columns that every corpus has; a file's own column never hides one."""
    keys = {
        "session": pa.array([session_id] * table.num_rows, pa.string()),
        "row": pa.array(range(table.num_rows), pa.int64()),
        **computed,
    }
    columns = dict(zip(table.column_names, table.columns, strict=True))
    renamed = {f"{name}_in_file" if name in keys else name: c for name, c in columns.items()}
    return pa.table({**keys, **renamed})


def _concatenated(tables: Sequence[pa.Table], empty: pa.Schema) -> pa.Table:
    """One table of all: columns that some lack are null there, types that differ become text."""
    if not tables:
        return empty.empty_table()
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        clashing = _clashing_columns(tables)
        return pa.concat_tables(
            [_as_text(table, clashing) for table in tables], promote_options="permissive"
        )


def _clashing_columns(tables: Sequence[pa.Table]) -> set[str]:
    schemas: dict[str, pa.Schema] = {}
    clashing = set()
    for table in tables:
        for field in table.schema:
            try:
                known = schemas.get(field.name, pa.schema([field]))
                schemas[field.name] = pa.unify_schemas(
                    [known, pa.schema([field])], promote_options="permissive"
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                clashing.add(field.name)
    return clashing


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    text: Callable[[Any], str | None] = lambda value: None if value is None else str(value)  # noqa: E731
    for name in names & set(table.column_names):
        values = [text(value) for value in table[name].to_pylist()]
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(values, pa.string()))
    return table
