"""IntervalRule: stretches of a recording, given by the rows of one of its interval tables.

The registry and the recipes use it for valid trials, evaluation periods, splits and loss weights:

    {table: trials, where: {result: [R]}, start: {column: go_cue_time, offset: -0.1}}

A rule is written once and followed in many sessions. `rows` therefore separates two cases:

- The rule cannot be meant so: the session has no such table or column, or the values in `where`
  are of another kind than the column's, as YAML's `no` (a boolean) beside the text `no`. This
  raises HarmonizeError.
- The session has no such row, but another session may. The result is then empty, and `unmatched`
  says what there is instead. `unmatched_in` does so for several sessions: a rule that matches no
  row in any of them is an error of who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from neurobrick.errors import HarmonizeError, listed
from neurobrick.intervals import Intervals

Scalar = str | bool | int | float
FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_SHOWN = 12  # values in a message


class Edge(BaseModel):
    """One end of an interval: a column of times, moved by `offset` seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    offset: float = 0.0


def _edge(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


def _lists(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {key: v if isinstance(v, list | tuple) else [v] for key, v in value.items()}


Where = Annotated[dict[str, list[Scalar]], BeforeValidator(_lists)]


class IntervalRule(BaseModel):
    """Rows of an interval table, as times.

    A row matches when, for every column in `where`, its value is one of the listed values. The row
    stands for the time from `start` to `stop`. A row with a missing edge, or that would stop before
    it starts, is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(description="name of the interval table, such as trials")
    where: Where = Field(
        default_factory=dict, description="column → value, or list of values, that a row must have"
    )
    start: Annotated[Edge, BeforeValidator(_edge)] = Edge(column="start")
    stop: Annotated[Edge, BeforeValidator(_edge)] = Edge(column="stop")

    def rows(self, tables: Mapping[str, pa.Table]) -> tuple[FloatArray, FloatArray]:
        """Start and stop, float64 (n,) in seconds, of every row that matches, in table order.

        Raises HarmonizeError when the session has no such table or column, when an edge is no
        column of numbers, or when the values in `where` are of another kind than the column's.
        """
        table = self._table(tables)
        start, stop = (self._times(table, edge) for edge in (self.start, self.stop))
        kept = self._matches(table) & (start < stop)  # False for NaN
        return start[kept], stop[kept]

    def intervals(self, tables: Mapping[str, pa.Table]) -> Intervals:
        """The union of the rows that match. Raises HarmonizeError as `rows` does."""
        return Intervals(*self.rows(tables))

    def unmatched(self, tables: Mapping[str, pa.Table]) -> str:
        """Why no row of a session matches, in one line; empty if some row does.

            no row of trials has answer 'maybe'; there is: no, yes

        Raises HarmonizeError as `rows` does.
        """
        if len(self.rows(tables)[0]):
            return ""
        table = self._table(tables)
        if not table.num_rows:
            return f"table {self.table!r} has no rows"
        for name, values in self.where.items():
            column = self._column(table, name)
            if not _among(column, values).any():
                return _no_row(self.table, name, values, column)
        if not self._matches(table).any():
            pairs = " and ".join(f"{name} {_written(v)}" for name, v in self.where.items())
            return f"no row of {self.table} has {pairs}"
        return f"no row of {self.table} that matches has a start before its stop"

    def unmatched_in(self, sessions: Iterable[Mapping[str, pa.Table]]) -> str:
        """Why no row of any of several sessions matches, in one line; empty if some row does.

        `sessions` are the interval tables of each. Sessions without the table or a column of the
        rule are passed over. The result is empty if all are.
        """
        first = ""
        for tables in sessions:
            if not self._applies(tables):
                continue
            try:
                reason = self.unmatched(tables)
            except HarmonizeError as error:
                reason = str(error)
            if not reason:
                return ""
            first = first or reason
        return first

    def _applies(self, tables: Mapping[str, pa.Table]) -> bool:
        """Whether a session has the table and the columns of the rule."""
        columns = {self.start.column, self.stop.column, *self.where}
        return self.table in tables and columns <= set(tables[self.table].column_names)

    def _matches(self, table: pa.Table) -> Mask:
        """Which rows have the values of `where`."""
        kept = np.ones(table.num_rows, np.bool_)
        for name, values in self.where.items():
            column = self._column(table, name)
            has_value = _among(column, values)
            if not has_value.any() and _of_another_kind(values, column):
                raise HarmonizeError(_no_row(self.table, name, values, column))
            kept &= has_value
        return kept

    def _times(self, table: pa.Table, edge: Edge) -> FloatArray:
        column = self._column(table, edge.column)
        kind = column.type
        if not (pat.is_integer(kind) or pat.is_floating(kind) or pat.is_null(kind)):
            raise HarmonizeError(
                f"column {edge.column!r} of table {self.table!r} has the type {kind}, and a rule's"
                " start and stop are times in seconds"
            )
        return column.cast(pa.float64(), safe=False).to_numpy() + edge.offset

    def _table(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        if self.table not in tables:
            raise HarmonizeError(
                f"the recording has no interval table {self.table!r};"
                f" there is: {listed(sorted(tables))}"
            )
        return tables[self.table]

    def _column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        if name not in table.column_names:
            raise HarmonizeError(
                f"table {self.table!r} has no column {name!r};"
                f" there is: {listed(sorted(table.column_names))}"
            )
        return table[name]


def _among(column: pa.ChunkedArray, values: list[Scalar]) -> Mask:
    """Which values of a column are listed."""
    return np.fromiter((value in values for value in column.to_pylist()), np.bool_, len(column))


def _distinct(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column, each once, sorted; without nulls, NaN and lists."""
    values = {
        value
        for value in column.to_pylist()
        if isinstance(value, str | bool | int | float) and value == value  # not NaN
    }
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _of_another_kind(values: list[Scalar], column: pa.ChunkedArray) -> bool:
    """Whether the listed values are numbers or booleans and the column holds text, or the reverse.

    A column without any value is of every kind.
    """
    kinds = {isinstance(value, str) for value in _distinct(column)}
    return bool(values) and bool(kinds) and kinds.isdisjoint(isinstance(v, str) for v in values)


def _no_row(table: str, name: str, values: list[Scalar], column: pa.ChunkedArray) -> str:
    """`no row of trials has answer True; there is: no, yes (quote it)`."""
    advice = ""
    if _of_another_kind(values, column):
        advice = " (write it without quotes)" if isinstance(values[0], str) else " (quote it)"
        if any(isinstance(value, bool) for value in values):
            advice = " (quote it: YAML reads yes, no, on and off as True and False)"
    there = listed(_distinct(column), most=MOST_SHOWN)
    return f"no row of {table} has {name} {_written(values)}; there is: {there}{advice}"


def _written(values: list[Scalar]) -> str:
    return " or ".join(map(repr, values)) or "of an empty list"
