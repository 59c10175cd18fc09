"""Writing a store, whole or not at all.

A store is written beside its place. Once its inventory is written, it is exchanged with the old
store. So a store that exists is whole.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock, find_clock, runs, sampling_clock
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import Series, SessionData
from neurobrick.storage.exchange import exchange
from neurobrick.store.columns import to_arrays
from neurobrick.store.inventory import Inventory, write_manifest
from neurobrick.store.layout import (
    BEHAVIOR_CHUNK,
    MANIFEST,
    SPIKE_CHUNK,
    STAGING,
    behavior_key,
    column_key,
    intervals_key,
)
from neurobrick.store.quantize import quantize
from neurobrick.store.zarr3 import FolderWriter, chunk_rows

INT32 = np.iinfo(np.int32)


def write_store(session: SessionData, path: Path) -> int:
    """Write `session` to `path`, replacing what is there, and return the bytes on disk.

    Readers see the old store or the new one, whole. Raises StoreError when the disk does not
    take it; nothing is left behind then.
    """
    staging = path.with_name(f"{STAGING}{os.getpid()}-{path.stem}")
    try:
        staging.mkdir(parents=True)
        writer = FolderWriter(staging)
        _write(session, writer)
        inventory = Inventory(writer.files)
        manifest = inventory.dump()
        put_in_place(staging, path, manifest)
        return inventory.size + len(manifest)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another"
            " --root, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(staging: Path, path: Path, manifest: bytes) -> None:
    """Write the manifest of the store at `staging`, then exchange it with the store at `path`."""
    write_manifest(staging / MANIFEST, manifest)
    exchange(staging, path)


def sweep(root: Path) -> list[Path]:
    """Remove the folders that killed runs left below `root`. The caller holds the root's lock."""
    stale = sorted([*root.glob(f"{STAGING}*"), *root.glob(f"*/{STAGING}*")])
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return stale


def _write(session: SessionData, to: FolderWriter) -> None:
    ticks = session.spike_ticks or find_clock(session.spike_times)
    _write_times(to, "spikes/time", session.spike_times, ticks, SPIKE_CHUNK, "spike")
    n_units = session.units.num_rows
    rows = session.spike_units.astype(np.uint16 if n_units <= 2**16 else np.uint32)
    to.array("spikes/unit", rows, SPIKE_CHUNK, dims=("spike",))
    counts = np.bincount(session.spike_units, minlength=n_units).astype(np.uint32)
    to.array("spikes/count", counts, SPIKE_CHUNK, dims=("units.row",))
    _write_table(to, "units", session.units)
    for name, series in session.behavior.items():
        _write_series(to, name, series)
    for name, table in session.intervals.items():
        _write_table(to, intervals_key(name), table)
    _write_intervals(to, "domain", session.domain)
    _write_intervals(to, "evaluation", session.evaluation)
    for name, split in session.splits.items():
        _write_intervals(to, f"splits/{name}", split)
    to.root({"neurobrick": session.metadata.model_dump(mode="json")})


def _write_times(
    to: FolderWriter,
    key: str,
    times: NDArray[np.float64],
    ticked: tuple[Clock, NDArray[np.int64]] | None,
    rows: int,
    dim: str,
) -> None:
    """Write sorted `times` as the ticks of a clock where those fit in 32 bits, else as seconds.

    The attributes hold the first time of each chunk, by which readers find the chunks of a window.
    """
    firsts = times[:: chunk_rows(len(times), rows)].tolist()
    if ticked and len(times) and INT32.min <= ticked[1][0] and ticked[1][-1] <= INT32.max:
        clock, ticks = ticked
        attributes = {"rate": clock.rate, "offset": clock.offset, "chunk_starts": firsts}
        to.array(key, ticks.astype(np.int32), rows, attributes, dims=(dim,))
    else:
        to.array(key, times, rows, {"chunk_starts": firsts}, dims=(dim,))


def _write_series(to: FolderWriter, name: str, series: Series) -> None:
    key = behavior_key(name)
    to.group(
        key,
        {
            "unit": series.unit,
            "source": series.source,
            "source_unit": series.source_unit,
            "description": series.description,
            "columns": list(series.columns),
        },
    )
    quantized = quantize(series.values, series.scaling)
    values, attributes = series.values, {}
    if quantized:
        values, attributes = quantized[1], quantized[0].attributes()
    to.array(f"{key}/values", values, BEHAVIOR_CHUNK, attributes, dims=("sample", "column"))
    _write_timestamps(to, key, series)


def _write_timestamps(to: FolderWriter, key: str, series: Series) -> None:
    """Write regular timestamps as their gap-free segments, others one by one."""
    hints = [clock for clock in (series.clock, sampling_clock(series.timestamps)) if clock]
    for clock in hints:
        ticks = clock.ticks(series.timestamps)
        if ticks is None:
            continue
        segments = runs(ticks)
        if 4 * len(segments) <= len(ticks):  # otherwise the segments outweigh the timestamps
            dims = ("segment", "first_and_count")
            to.array(f"{key}/segments", segments, BEHAVIOR_CHUNK, asdict(clock), dims=dims)
            return
    ticks_found = find_clock(series.timestamps)
    _write_times(to, f"{key}/timestamps", series.timestamps, ticks_found, BEHAVIOR_CHUNK, "sample")


def _write_table(to: FolderWriter, key: str, table: pa.Table) -> None:
    to.group(key, {"columns": table.column_names})
    for name, column in zip(table.column_names, table.columns, strict=True):
        held = to_arrays(column)
        rows = "values" if "offsets" not in held.arrays else None
        for role, data in held.arrays.items():
            part = column_key(key, name, role)
            # The array that has an entry for each row of the table shares the table's dimension.
            segment = part.rpartition("/")[2]
            along = f"{key.rpartition('/')[2]}.row" if role == rows else f"{segment}.entry"
            dims = (along, *(f"{segment}.{axis}" for axis in range(1, data.ndim)))
            attributes = dict(held.attributes) if role == "values" else None
            to.array(part, data, SPIKE_CHUNK, attributes, dims=dims)


def _write_intervals(to: FolderWriter, key: str, intervals: Intervals) -> None:
    for name, edge in (("start", intervals.start), ("stop", intervals.stop)):
        to.array(f"{key}/{name}", edge, SPIKE_CHUNK, dims=("interval",))
