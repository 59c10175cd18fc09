"""Sessions, units and trials of a whole corpus as Parquet, beside the stores they describe.

The catalogue is derived: `build` reads the stores and replaces it, one file at a time, so it can
always be made again. `Dataset` opens a corpus from it without touching a store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neurobrick.errors import StoreError
from neurobrick.store import MANIFEST, SessionStore

FOLDER = "catalog"
TABLES = ("sessions", "units", "trials")


@dataclass(frozen=True)
class Catalog:
    """The three tables of the corpus at `root`, read when first asked for."""

    root: Path

    @cached_property
    def sessions(self) -> pa.Table:
        """One row a session: ids, subject, counts, span, bytes, target, metadata as JSON."""
        return self._read("sessions")

    @cached_property
    def units(self) -> pa.Table:
        """One row a unit: `session`, `row` in its units table, spikes, rate, and its columns."""
        return self._read("units")

    @cached_property
    def trials(self) -> pa.Table:
        """One row a trial: `session`, `row`, and the columns of the session's trials table."""
        return self._read("trials")

    def _read(self, name: str) -> pa.Table:
        path = self.root / FOLDER / f"{name}.parquet"
        try:
            return pq.read_table(path)
        except FileNotFoundError as error:
            raise StoreError(
                f"there is no corpus at {self.root}: run neurobrick prepare with --root {self.root}"
            ) from error
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(
                f"{path} is damaged: any run of neurobrick prepare --root {self.root} makes it anew"
            ) from error


def stores(root: Path) -> dict[str, Path]:
    """The whole stores under `root`, by session id."""
    found = sorted(root.glob(f"*/*.zarr/{MANIFEST}"))
    return {
        f"{path.parts[-3]}/{path.parts[-2].removesuffix('.zarr')}": path.parent for path in found
    }


def build(root: Path) -> Catalog:
    """Make the catalogue of every store under `root`, and put it in place of the old one."""
    rows: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    for session_id, path in stores(root).items():
        for name, table in _describe(session_id, path).items():
            rows[name].append(table)
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in rows.items():
        staged = folder / f".{name}-{os.getpid()}.parquet"
        pq.write_table(_concatenated(tables), staged)
        staged.replace(folder / f"{name}.parquet")
    return Catalog(root)


def _describe(session_id: str, path: Path) -> dict[str, pa.Table]:
    """One session's rows of each table."""
    import numpy as np

    store = SessionStore(path)
    times, unit_rows = store.spikes()
    domain = store.domain()
    units = store.units()
    counts = np.bincount(unit_rows, minlength=units.num_rows)
    behavior = store.behavior_names()
    start, stop = domain.span
    row: dict[str, Any] = {
        "session": session_id,
        "dataset": store.metadata.dataset,
        "subject": store.metadata.subject.id,
        "units": units.num_rows,
        "spikes": len(times),
        "start": start,
        "stop": stop,
        "duration": domain.duration,
        "behavior": behavior,
        "target": store.metadata.target,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "metadata": store.metadata.model_dump_json(),
    }
    tables = {"sessions": pa.Table.from_pylist([row])}
    seconds = domain.duration or float("nan")
    tables["units"] = _keyed(
        session_id, units, {"spikes": pa.array(counts), "rate": pa.array(counts / seconds)}
    )
    if "trials" in store.interval_names():
        tables["trials"] = _keyed(session_id, store.interval_table("trials"), {})
    return tables


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


def _concatenated(tables: list[pa.Table]) -> pa.Table:
    """One table of all: columns that some lack are null there, types that differ become text."""
    if not tables:
        return pa.table({"session": pa.array([], pa.string())})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        clashing = _clashing_columns(tables)
        return pa.concat_tables(
            [_as_text(table, clashing) for table in tables], promote_options="permissive"
        )


def _clashing_columns(tables: list[pa.Table]) -> set[str]:
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
