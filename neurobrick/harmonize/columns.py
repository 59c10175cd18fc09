"""Raw tables → arrow tables: the units, one row a unit, and the interval tables by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.errors import listed
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import distinct_names, unused_name
from neurobrick.harmonize.restarts import Blocks
from neurobrick.intervals import Intervals
from neurobrick.readers.raw import RawColumn, RawTable, RawUnits
from neurobrick.readers.tree import too_long
from neurobrick.tables import array, ragged

FloatArray = NDArray[np.float64]

TIMES_OF_TABLES = {"start_time": "start", "stop_time": "stop"}  # name in the file → in the store
OBSERVED = "obs_intervals"
# Columns of the electrodes table that become columns of the units: name there → in the units table.
OF_ELECTRODES = {"location": "area", "group_name": "group_name"}
EXACT = 2**53  # float64 holds every whole number up to this one


def units_table(raw: RawUnits, electrodes: RawTable | None, ledger: Ledger) -> pa.Table:
    """The units table, one row a unit, with the area and the group of its electrodes."""
    columns = dict(raw.table.columns)
    if OBSERVED in columns and _same_for_all(columns[OBSERVED]):
        del columns[OBSERVED]  # the session's domain has them
    table = {name: _column(column) for name, column in columns.items()}
    if electrodes is not None:
        _add_electrodes(table, columns.get("electrodes"), electrodes, ledger)
    return pa.table(table or {"id": pa.array(np.arange(raw.table.n_rows))})


def _add_electrodes(
    table: dict[str, pa.Array], rows: RawColumn | None, electrodes: RawTable, ledger: Ledger
) -> None:
    """Add area and group of each unit's electrodes to the units `table`; leave the other columns.

    `rows` are the electrodes of each unit, as rows of the electrodes table.
    """
    if not _are_rows(rows):
        ledger.leave(electrodes.path, "no unit says on which electrodes it was recorded")
        return
    used = [name for name in OF_ELECTRODES if name in electrodes.columns]
    unused = [name for name in electrodes.columns if name not in ("id", *used)]
    if unused:
        kept = f"only {listed(used)} are kept, with the units" if used else "not kept"
        ledger.leave(electrodes.path, f"its columns {listed(unused)}: {kept}")
    for name in used:
        values = _of_electrodes(rows, electrodes.columns[name])
        in_store = OF_ELECTRODES[name]
        own = table.get(in_store)
        if own is None:
            table[in_store] = values
        elif own.to_pylist() != values.to_pylist():
            new = f"{in_store}_of_electrodes"
            new = unused_name(new, table) if new in table else new
            ledger.note(
                f"units have a column {in_store} of their own; the electrodes' {name} is called"
                f" {new}"
            )
            table[new] = values


def observed(raw: RawUnits, blocks: Blocks | None, ledger: Ledger) -> Intervals | None:
    """The union of the units' `obs_intervals`; None if there are none that can be used."""
    column = raw.table.columns.get(OBSERVED)
    if column is None or not len(column.values):
        return None
    if isinstance(column.values, list):
        ledger.note("obs_intervals are text; not used")
        return None
    pairs = column.values.astype(np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        ledger.note(f"obs_intervals have the shape {pairs.shape}, not (n, 2); not used")
        return None
    if blocks is not None:
        # Only a unit's own intervals are in the order of recording, so those of the first are used.
        first = pairs[: int(column.ends[0])] if column.ends is not None else pairs
        starts = blocks.lay(first[:, 0])
        if starts is None:
            ledger.note("obs_intervals do not fit the blocks of the clock; not used")
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
    """Every interval table by its name; its first columns are `start` and `stop`, in seconds."""
    names = distinct_names([table.path for table in tables])
    intervals = {}
    for raw, name in zip(tables, names, strict=True):
        if too_long(name):
            ledger.leave(raw.path, f"its name in the store would have {len(name)} letters")
            continue
        table = _interval_table(raw, name, blocks, ledger)
        if table is not None:
            intervals[name] = table
    return intervals


def _interval_table(
    raw: RawTable, name: str, blocks: Blocks | None, ledger: Ledger
) -> pa.Table | None:
    """One interval table; None, with the reason in the ledger, if it has no usable times."""
    if not TIMES_OF_TABLES.keys() <= raw.columns.keys():
        ledger.leave(raw.path, "its start or stop times are not readable")
        return None
    start, stop = (_times(raw.columns[column], name, ledger) for column in TIMES_OF_TABLES)
    if start is None or stop is None:
        ledger.leave(raw.path, "its start or stop times are not numbers, one a row")
        return None
    others = _other_columns(raw.columns, name, ledger)
    if blocks is not None:
        shift = _shift(start, blocks)
        if shift is None:
            ledger.leave(raw.path, "its rows do not fit the blocks of the clock")
            return None
        start, stop = start + shift, stop + shift
        others = {key: _moved(key, column, shift) for key, column in others.items()}
    _note_quality(name, start, stop, ledger)
    return pa.table(
        {"start": pa.array(start), "stop": pa.array(stop)}
        | {key: _column(column) for key, column in others.items()}
    )


def _other_columns(
    columns: Mapping[str, RawColumn], name: str, ledger: Ledger
) -> dict[str, RawColumn]:
    """All columns but start and stop times, by their names in the store.

    A column of the file that is itself called `start` or `stop` gets a new name.
    """
    others = {key: column for key, column in columns.items() if key not in TIMES_OF_TABLES}
    renamed: dict[str, str] = {}
    for key in TIMES_OF_TABLES.values():
        if key in others:
            renamed[key] = unused_name(key, [*others, *renamed.values()])
            ledger.note(f"{name}: the file's column {key} is called {renamed[key]} here")
    return {renamed.get(key, key): column for key, column in others.items()}


def _shift(start: FloatArray, blocks: Blocks) -> FloatArray | None:
    """Seconds by which each row (n,) of a table moves, NaN where its start is NaN; None if the rows
    do not fit the blocks in exactly one way."""
    known = np.isfinite(start)
    rows = blocks.assign(start[known])
    if rows is None:
        return None
    shift = np.full(len(start), np.nan)
    shift[known] = blocks.shift[rows]
    return shift


def _moved(name: str, column: RawColumn, shift: FloatArray) -> RawColumn:
    """A column moved by `shift` seconds a row, if its name ends in `time` and it holds floats."""
    values = column.values
    if not name.endswith("time") or column.ends is not None or isinstance(values, list):
        return column
    if values.dtype.kind != "f":
        return column
    return RawColumn(values + shift.reshape(-1, *[1] * (values.ndim - 1)))


def _note_quality(name: str, start: FloatArray, stop: FloatArray, ledger: Ledger) -> None:
    """Note rows whose times are odd. They are kept as they are."""
    unknown = int((np.isnan(start) | np.isnan(stop)).sum())
    if unknown:
        ledger.note(f"{name}: {unknown} of {len(start)} rows have a NaN start or stop; kept")
    if inverted := int((stop < start).sum()):
        ledger.note(f"{name}: {inverted} rows stop before they start; kept")
    steps = np.diff(start[~np.isnan(start)])
    if len(steps) and steps.min() < 0:
        ledger.note(f"{name}: rows are not in the order of their start times; kept so")
    order = np.argsort(start)
    ended = np.maximum.accumulate(np.nan_to_num(stop[order], nan=-np.inf))
    if len(start) > 1 and (overlaps := int((start[order][1:] < ended[:-1]).sum())):
        ledger.note(f"{name}: {overlaps} rows overlap an earlier one; kept")


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
    """For each unit, the value in a column of strings that its electrodes share; else null.

    `rows` are the electrodes of each unit, as rows of the electrodes table.
    """
    flat = np.asarray(rows.values, dtype=np.int64).reshape(-1)
    ends = rows.ends if rows.ends is not None else np.arange(1, len(flat) + 1)
    shared: list[str | None] = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        values = {column.values[k] for k in flat[start:end] if 0 <= k < len(column.values)}
        shared.append(str(values.pop()) if len(values) == 1 else None)
    return pa.array(shared, pa.string())


def _times(raw: RawColumn, name: str, ledger: Ledger) -> FloatArray | None:
    """A column of times as float64 (n,); None if it is no such column."""
    if isinstance(raw.values, list) or raw.ends is not None or raw.values.dtype.kind not in "iuf":
        return None
    values = raw.values.astype(np.float64)
    if raw.values.dtype.kind in "iu" and values.size and np.abs(values).max() > EXACT:
        ledger.note(f"{name}: whole numbers above 2^53 among its times are rounded to float64")
    return values.reshape(-1) if values.size == len(values) else None


def _column(raw: RawColumn) -> pa.Array:
    values = _flat(raw)
    for ends in (raw.inner_ends, raw.ends):
        if ends is not None:
            values = ragged(values, ends)
    return values


def _flat(raw: RawColumn) -> pa.Array:
    """The values of a column, without its row boundaries."""
    if isinstance(raw.values, list):
        return pa.array(raw.values, pa.string())
    values = raw.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # MATLAB has no vectors
    if values.dtype.kind == "f":
        values = values.astype(np.float64 if values.dtype.itemsize >= 8 else np.float32)
    return array(values)
