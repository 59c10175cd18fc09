"""NWB's dynamic tables → RawTable: plain, ragged and doubly ragged columns, of numbers or text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile
from neurobrick.readers.raw import RawColumn, RawTable, RawUnits
from neurobrick.readers.tree import Array, Group, too_long

MAX_COLUMNS = 5000  # of one table; NWB's own have some 50
MAX_NAMED = 20  # entries beside the columns that are listed by name

ROLES = ("", "_index", "_index_index", "_elements")  # endings of the arrays that make up a column

Values = NDArray[Any] | list[str]
Leave = Callable[[str, str], None]  # takes the path of an object and the reason


def read_table(
    group: Group, path: str, leave: Leave, skipped: Collection[str] = frozenset()
) -> RawTable:
    """The table in `group`, without the columns in `skipped`.

    A column is left, with its reason, when it is absent, holds references, or has other rows than
    the table. Arrays and groups of the table that belong to no column are left too.
    """
    columns: dict[str, RawColumn] = {}
    for name in ["id", *column_names(group)]:
        if name in skipped or name in columns or (name == "id" and "id" not in group):
            continue
        if too_long(name):
            leave(f"{path}/{name[:40]}…", f"its name has {len(name):,} letters")
            continue
        column = _column(group, f"{path}/{name}", name, leave)
        if column is not None:
            columns[name] = column
    n_rows = n_rows_of(columns["id"]) if "id" in columns else _most_rows(columns)
    for name, column in list(columns.items()):
        if n_rows_of(column) != n_rows:
            leave(f"{path}/{name}", f"{n_rows_of(column)} rows, the table has {n_rows}")
            del columns[name]
    _leave_the_rest(group, path, leave)
    return RawTable(path=path, n_rows=n_rows, columns=columns)


def column_names(group: Group) -> list[str]:
    """The columns that a table lists, each once. Raises CorruptFile when no table has as many."""
    names = list(dict.fromkeys(group.attributes("colnames")))
    if len(names) > MAX_COLUMNS:
        raise CorruptFile(f"{group.path} claims {len(names):,} columns: no table has as many")
    return names


def column_arrays(group: Group, names: Collection[str]) -> list[Array]:
    """The arrays that the columns `names` of a table are kept in."""
    parts = [f"{name}{role}" for name in names for role in ROLES]
    return [array for part in parts if (array := group.array(part)) is not None]


def row_ends(group: Group, name: str, length: int | None) -> NDArray[np.int64] | None:
    """Row boundaries of the ragged column `name` (n_rows,); None if it has none.

    Whole numbers that are kept as floats, as MATLAB does, are read. Raises CorruptFile unless the
    boundaries rise from 0 to at most `length`.
    """
    index = group.array(f"{name}_index")
    if index is None:
        return None
    if index.kind != "number":
        raise CorruptFile(f"{index.path} is no index: it holds {index.kind}")
    ends = as_whole(index.read().reshape(-1))
    if index.unwritten() and ends.any():
        raise CorruptFile(f"{index.path} lacks some of its chunks: fetch it again")
    if ends.dtype.kind not in "iu":
        raise CorruptFile(f"{index.path} is no index: it holds {index.dtype}, not whole numbers")
    limit = np.iinfo(np.int64).max if length is None else length
    # Compared as they are: a uint64 beyond int64 must not come back as a negative number.
    rising = not len(ends) or (ends[0] >= 0 and bool(np.all(ends[1:] >= ends[:-1])))
    if not rising or (len(ends) and int(ends[-1]) > limit):
        raise CorruptFile(
            f"{index.path} does not fit its {length} values: the file contradicts itself"
        )
    return ends.astype(np.int64)


def as_whole(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as int64 where all of them are whole numbers below 2**53; else `values` as they are.

    MATLAB keeps every number as a double unless told otherwise.
    """
    if values.dtype.kind != "f":
        return values
    whole = np.isfinite(values) & (np.trunc(values) == values) & (np.abs(values) < 2**53)
    return values.astype(np.int64) if bool(whole.all()) else values


def n_rows_of(column: RawColumn) -> int:
    """Rows of a column."""
    return len(column.ends if column.ends is not None else column.values)


def _most_rows(columns: dict[str, RawColumn]) -> int:
    return n_rows_of(next(iter(columns.values()))) if columns else 0


def _column(group: Group, path: str, name: str, leave: Leave) -> RawColumn | None:
    """The column `name`; None, with its reason given to `leave`, when it cannot be one."""
    data = group.array(name)
    fault = _fault(group, name, data)
    if data is None or fault is not None:
        leave(path, fault or "no such array in this file")
        return None
    values: Values = data.texts() if data.kind == "text" else data.read()
    if name == "id" and not isinstance(values, list):
        values = as_whole(values.reshape(-1))
    elif _holds_rows(data) and not isinstance(values, list):
        values = as_whole(values)
    values = _named(group, name, values, leave, path)
    inner = None
    ends = row_ends(group, name, len(values))
    if ends is not None and f"{name}_index_index" in group:
        inner, ends = ends, row_ends(group, f"{name}_index", len(ends))
    return RawColumn(values, ends, inner)


def _fault(group: Group, name: str, data: Array | None) -> str | None:
    """Why `data` cannot be a column."""
    if data is None:
        return group.link(name) or "no such array in this file"
    if data.kind == "reference":
        return "references to other objects"
    if data.kind == "other":
        return "not numeric"
    if 0 in data.shape[1:]:
        return "empty rows"
    return None if data.shape else "one value, no column"


def _holds_rows(data: Array) -> bool:
    """Whether a column holds row numbers of another table."""
    return str(data.attribute("neurodata_type", "")) in ("DynamicTableRegion", "VectorIndex")


def _named(group: Group, name: str, values: Values, leave: Leave, path: str) -> Values:
    """Codes of an enumeration as the elements that they stand for.

    HDMF keeps an enumerated column as whole numbers, and what they stand for in NAME_elements.
    """
    elements = group.array(f"{name}_elements")
    if elements is None or isinstance(values, list):
        return values
    codes = as_whole(values)
    usable = (
        elements.kind in ("text", "number")
        and len(elements.shape) == 1
        and codes.dtype.kind in "iu"
        and (not codes.size or (codes.min() >= 0 and codes.max() < elements.shape[0]))
    )
    if not usable:
        leave(f"{path}_elements", f"they do not fit the codes of {name}; the codes are kept")
        return values
    if elements.kind == "number":
        return np.asarray(elements.read())[codes.astype(np.int64)]
    texts = elements.texts()
    if codes.ndim != 1:
        leave(f"{path}_elements", f"the codes of {name} have {codes.ndim} axes; they are kept")
        return values
    return [texts[code] for code in codes.tolist()]


def _leave_the_rest(group: Group, path: str, leave: Leave) -> None:
    """Name the entries of a table that belong to none of its columns."""
    owned = {
        f"{name}{role}" for name in ["id", "spike_times", *column_names(group)] for role in ROLES
    }
    rest = [name for name in group.names() if name not in owned]
    for name in rest[:MAX_NAMED]:
        kind = "a group" if group.group(name) is not None else "an array"
        reason = group.link(name) or f"{kind} in a table, which is none of its columns"
        leave(f"{path}/{name[:40]}", reason)
    if len(rest) > MAX_NAMED:
        leave(path, f"{len(rest) - MAX_NAMED:,} more entries that are none of its columns")


def stack(tables: Sequence[RawUnits]) -> RawUnits:
    """Units tables one below the other, with the columns that all have, and `units_table`, the
    path that each row comes from."""
    if len(tables) == 1:
        return tables[0]
    firsts = np.cumsum([0, *(units.n_spikes for units in tables)])
    shared = set.intersection(*(set(units.table.columns) for units in tables))
    columns = {
        name: stacked
        for name in tables[0].table.columns
        if name in shared
        and (stacked := _stacked([units.table.columns[name] for units in tables])) is not None
    }
    paths = [units.table.path for units in tables for _ in range(len(units.ends))]
    return RawUnits(
        table=RawTable(
            ", ".join(units.table.path for units in tables),
            len(paths),
            {**columns, "units_table": RawColumn(paths)},
        ),
        spike_times=lambda: np.concatenate([u.spike_times()[: u.n_spikes] for u in tables]),
        ends=np.concatenate([u.ends + at for u, at in zip(tables, firsts, strict=False)]),
        resolution=tables[0].resolution,
        time_unit=tables[0].time_unit,
    )


def _stacked(columns: Sequence[RawColumn]) -> RawColumn | None:
    """One column of several; None where they are of different kinds."""
    values = [column.values for column in columns]
    if any(isinstance(v, list) for v in values):
        if any(c.ends is not None or not isinstance(c.values, list) for c in columns):
            return None
        return RawColumn([text for texts in values for text in texts])
    arrays = [np.asarray(v) for v in values]
    plain = all(c.inner_ends is None for c in columns)
    ragged = {c.ends is not None for c in columns}
    if not plain or len(ragged) > 1 or len({a.shape[1:] for a in arrays}) > 1:
        return None
    ends = None
    if ragged == {True}:
        firsts = np.cumsum([0, *(len(a) for a in arrays)])
        ends = np.concatenate([c.ends + at for c, at in zip(columns, firsts, strict=False)])
    return RawColumn(np.concatenate(arrays), ends)
