"""Raw tables as arrow tables: the units, one row a unit, and interval tables, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import distinct_names
from neurobrick.harmonize.restarts import Blocks
from neurobrick.intervals import Intervals
from neurobrick.readers.raw import RawColumn, RawTable, RawUnits
from neurobrick.readers.tree import too_long
from neurobrick.tables import array, ragged

TIMES_OF_TABLES = {"start_time": "start", "stop_time": "stop"}
OBSERVED = "obs_intervals"


def units_table(raw: RawUnits, electrodes: RawTable | None) -> pa.Table:
    """The units table, one row a unit, with what its electrodes have in common."""
    columns = dict(raw.table.columns)
    if OBSERVED in columns and _same_for_all(columns[OBSERVED]):
        del columns[OBSERVED]  # the session's domain says it once
    table = {name: _column(column) for name, column in columns.items()}
    if electrodes is not None and _are_rows(columns.get("electrodes")):
        for name, ours in (("location", "area"), ("group_name", "group_name")):
            if name in electrodes.columns:
                found = _of_electrodes(columns["electrodes"], electrodes.columns[name])
                table.setdefault(ours, found)
    return pa.table(table or {"id": pa.array(np.arange(raw.table.n_rows))})


def observed(raw: RawUnits, blocks: Blocks | None, ledger: Ledger) -> Intervals | None:
    """The union of the units' `obs_intervals`; None if they declare none that can be used."""
    column = raw.table.columns.get(OBSERVED)
    if column is None or not len(column.values):
        return None
    if isinstance(column.values, list):
        ledger.note("obs_intervals are text; not used")
        return None
    pairs = column.values.astype(np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        ledger.notes.append(f"obs_intervals have the shape {pairs.shape}, not (n, 2); not used")
        return None
    if blocks is not None:
        # All units have the intervals of the first, or none can be told apart.
        first = pairs[: int(column.ends[0])] if column.ends is not None else pairs
        starts = blocks.lay(first[:, 0])
        if starts is None:
            ledger.notes.append("obs_intervals do not fit the blocks of the clock; not used")
            return None
        pairs = np.stack([starts, starts + first[:, 1] - first[:, 0]], axis=1)
    usable = np.isfinite(pairs).all(axis=1) & (pairs[:, 0] < pairs[:, 1])
    if not usable.all():
        ledger.note(
            f"{int((~usable).sum())} of {len(pairs)} obs_intervals have no length; not used"
        )
    distinct = np.unique(pairs[usable], axis=0)
    return Intervals(distinct[:, 0], distinct[:, 1]) if len(distinct) else None


def interval_tables(
    tables: Sequence[RawTable], blocks: Blocks | None, ledger: Ledger
) -> dict[str, pa.Table]:
    """Every interval table by its name, `start` and `stop` in seconds first."""
    names = distinct_names([table.path for table in tables])
    found = {}
    for table, name in zip(tables, names, strict=True):
        if too_long(name):
            ledger.leave(table.path, f"its name in the store would have {len(name)} letters")
            continue
        if not TIMES_OF_TABLES.keys() <= table.columns.keys():
            ledger.leave(table.path, "its start or stop times are not readable")
            continue
        times = {column: _times(table.columns[column]) for column in TIMES_OF_TABLES}
        if any(column is None for column in times.values()):
            ledger.leave(table.path, "its start or stop times are not numbers, one a row")
            continue
        columns = {ours: times[theirs] for theirs, ours in TIMES_OF_TABLES.items()}
        others = {n: c for n, c in table.columns.items() if n not in TIMES_OF_TABLES}
        taken = [n for n in others if n in columns]
        others = {f"{n}_in_file" if n in taken else n: c for n, c in others.items()}
        if blocks is not None and not _lay(columns, others, blocks):
            ledger.leave(table.path, "its rows do not fit the blocks of the clock")
            continue
        ledger.notes.extend(
            _quality(name, np.asarray(columns["start"]), np.asarray(columns["stop"]))
        )
        found[name] = pa.table(
            {n: pa.array(c) for n, c in columns.items()}
            | {n: _column(column) for n, column in others.items()}
        )
    return found


def _lay(
    columns: dict[str, NDArray[np.float64] | None], others: dict[str, RawColumn], blocks: Blocks
) -> bool:
    """Lay a table's times end to end: start, stop, and every column whose name ends in `time`."""
    start = np.asarray(columns["start"])
    known = np.isfinite(start)
    found = blocks.assign(start[known])
    if found is None:
        return False
    shift = np.full(len(start), np.nan)
    shift[known] = blocks.shift[found]
    columns["start"], columns["stop"] = start + shift, np.asarray(columns["stop"]) + shift
    for name, column in others.items():
        timed = name.endswith("time") and column.ends is None
        if timed and isinstance(column.values, np.ndarray) and column.values.dtype.kind == "f":
            rows = shift.reshape(-1, *[1] * (column.values.ndim - 1))
            others[name] = RawColumn(column.values + rows)
    return True


def _quality(name: str, start: NDArray[np.float64], stop: NDArray[np.float64]) -> list[str]:
    """What is odd about the times of a table; its rows are kept as they are."""
    notes = []
    unknown = int((np.isnan(start) | np.isnan(stop)).sum())
    if unknown:
        notes.append(f"{name}: {unknown} of {len(start)} rows have a NaN start or stop; kept")
    if inverted := int((stop < start).sum()):
        notes.append(f"{name}: {inverted} rows stop before they start; kept")
    steps = np.diff(start[~np.isnan(start)])
    if len(steps) and steps.min() < 0:
        notes.append(f"{name}: rows are not in the order of their start times; kept so")
    order = np.argsort(start)
    ended = np.maximum.accumulate(np.nan_to_num(stop[order], nan=-np.inf))
    if len(start) > 1 and (overlaps := int((start[order][1:] < ended[:-1]).sum())):
        notes.append(f"{name}: {overlaps} rows overlap an earlier one; kept")
    return notes


def _same_for_all(column: RawColumn) -> bool:
    """Whether every unit has the same intervals."""
    if column.ends is None or isinstance(column.values, list) or column.inner_ends is not None:
        return False
    counts = np.diff(column.ends, prepend=0)
    if not len(counts) or np.any(counts != counts[0]):
        return False
    rows = column.values[: int(column.ends[-1])].reshape(len(counts), -1)
    return bool(np.array_equal(rows, np.broadcast_to(rows[0], rows.shape), equal_nan=True))


def _are_rows(column: RawColumn | None) -> TypeGuard[RawColumn]:
    """Whether a column holds rows of another table."""
    return (
        column is not None
        and not isinstance(column.values, list)
        and column.values.dtype.kind in "iu"
    )


def _of_electrodes(rows: RawColumn, column: RawColumn) -> pa.Array:
    """For each unit, what its electrodes have in common in a column of strings; else null."""
    flat = np.asarray(rows.values, dtype=np.int64).reshape(-1)
    ends = rows.ends if rows.ends is not None else np.arange(1, len(flat) + 1)
    found: list[str | None] = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        mine = {column.values[k] for k in flat[start:end] if 0 <= k < len(column.values)}
        found.append(str(mine.pop()) if len(mine) == 1 else None)
    return pa.array(found, pa.string())


def _times(raw: RawColumn) -> NDArray[np.float64] | None:
    if isinstance(raw.values, list) or raw.ends is not None or raw.values.dtype.kind not in "iuf":
        return None
    values = raw.values.astype(np.float64)
    return values.reshape(-1) if values.size == len(values) else None


def _column(raw: RawColumn) -> pa.Array:
    values = _flat(raw)
    for ends in (raw.inner_ends, raw.ends):
        if ends is not None:
            values = ragged(values, ends)
    return values


def _flat(raw: RawColumn) -> pa.Array:
    if isinstance(raw.values, list):
        return pa.array(raw.values, pa.string())
    values = raw.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # MATLAB has no vectors
    if values.dtype.kind == "f":
        values = values.astype(np.float64 if values.dtype.itemsize >= 8 else np.float32)
    return array(values)
