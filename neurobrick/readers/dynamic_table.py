"""NWB's dynamic tables → RawTable: plain, ragged and doubly ragged columns, of numbers or text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile
from neurobrick.readers.raw import RawColumn, RawTable, RawUnits
from neurobrick.readers.tree import Array, Group, too_long

MAX_COLUMNS = 5000  # of one table; NWB's own have some 50

Leave = Callable[[str, str], None]  # is told the path and the reason


def read_table(
    group: Group, path: str, leave: Leave, skipped: Collection[str] = frozenset()
) -> RawTable:
    """The table in `group`, but for the columns in `skipped`.

    What cannot be a column is left with its reason: absent, references, rows that do not match.
    """
    columns: dict[str, RawColumn] = {}
    ids = group.array("id")
    if ids is not None:
        columns["id"] = RawColumn(ids.read().reshape(-1))
    for name in column_names(group):
        if name in skipped or name in columns:
            continue
        if too_long(name):
            leave(f"{path}/{name[:40]}…", f"its name has {len(name):,} letters")
            continue
        column = _column(group, f"{path}/{name}", name, leave)
        if column is not None:
            columns[name] = column
    n_rows = n_rows_of(columns["id"]) if ids is not None else _most_rows(columns)
    for name, column in list(columns.items()):
        if n_rows_of(column) != n_rows:
            leave(f"{path}/{name}", f"{n_rows_of(column)} rows, the table has {n_rows}")
            del columns[name]
    return RawTable(path=path, n_rows=n_rows, columns=columns)


def column_names(group: Group) -> list[str]:
    """The columns that a table lists, each once. Raises CorruptFile when no table has as many."""
    names = list(dict.fromkeys(group.attributes("colnames")))
    if len(names) > MAX_COLUMNS:
        raise CorruptFile(f"{group.path} claims {len(names):,} columns: no table has as many")
    return names


def column_arrays(group: Group, names: Collection[str]) -> list[Array]:
    """The arrays that the columns `names` of a table are kept in."""
    roles = [f"{name}{role}" for name in names for role in ("", "_index", "_index_index")]
    return [array for role in roles if (array := group.array(role)) is not None]


def row_ends(group: Group, name: str, length: int | None) -> NDArray[np.int64] | None:
    """Row boundaries of the ragged column `name` (n_rows,); None if it has none.

    Raises CorruptFile unless they rise from 0 to at most `length`.
    """
    index = group.array(f"{name}_index")
    if index is None:
        return None
    ends = index.read().reshape(-1)
    if index.kind != "number" or ends.dtype.kind not in "iu":
        raise CorruptFile(f"{index.path} is no index: it holds {index.dtype}")
    limit = np.iinfo(np.int64).max if length is None else length
    # Compared as they are: a uint64 beyond int64 must not come back as a negative number.
    rising = not len(ends) or (ends[0] >= 0 and bool(np.all(ends[1:] >= ends[:-1])))
    if not rising or (len(ends) and int(ends[-1]) > limit):
        raise CorruptFile(
            f"{index.path} does not fit its {length} values: the file contradicts itself"
        )
    return ends.astype(np.int64)


def n_rows_of(column: RawColumn) -> int:
    """Rows of a column."""
    return len(column.ends if column.ends is not None else column.values)


def _most_rows(columns: dict[str, RawColumn]) -> int:
    return n_rows_of(next(iter(columns.values()))) if columns else 0


def _column(group: Group, path: str, name: str, leave: Leave) -> RawColumn | None:
    data = group.array(name)
    if data is None:
        leave(path, group.link(name) or "no such array in this file")
    elif data.kind == "reference" or data.kind == "other":
        leave(path, "references to other objects" if data.kind == "reference" else "not numeric")
    elif 0 in data.shape[1:]:
        leave(path, "empty rows")
    elif not data.shape:
        leave(path, "one value, no column")
    else:
        values = data.texts() if data.kind == "text" else data.read()
        inner = None
        ends = row_ends(group, name, len(values))
        if ends is not None and f"{name}_index_index" in group:
            inner, ends = ends, row_ends(group, f"{name}_index", len(ends))
        return RawColumn(values, ends, inner)
    return None


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
