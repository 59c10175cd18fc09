"""IntervalRule: which stretches of a recording, said in terms of one of its interval tables.

The registry and the recipes use it for valid trials, evaluation periods, splits and loss weights:

    {table: trials, where: {result: [R]}, start: {column: go_cue_time, offset: -0.1}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from neurobrick.errors import HarmonizeError
from neurobrick.intervals import Intervals

Scalar = str | bool | int | float


class Edge(BaseModel):
    """One end of an interval: a column of times, moved by `offset` seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    offset: float = 0.0


def _edge(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {key: v if isinstance(v, list | tuple) else [v] for key, v in value.items()}


Where = Annotated[dict[str, list[Scalar]], BeforeValidator(_listed)]


class IntervalRule(BaseModel):
    """Rows of an interval table as a set of time.

    A row counts when, for every column in `where`, its value is one of those listed. It stretches
    from `start` to `stop`; rows where either is NaN, or that end before they begin, are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(description="name of the interval table, such as trials")
    where: Where = Field(
        default_factory=dict, description="column → value, or list of values, that a row must have"
    )
    start: Annotated[Edge, BeforeValidator(_edge)] = Edge(column="start")
    stop: Annotated[Edge, BeforeValidator(_edge)] = Edge(column="stop")

    def rows(self, tables: Mapping[str, pa.Table]) -> tuple[NDArray[np.float64], ...]:
        """Start and stop (n,), in seconds, of every row that counts, in the table's order.

        Raises HarmonizeError for a table or a column that is not there.
        """
        table = _found(tables, self.table, "interval table", "the recording")
        columns = dict(zip(table.column_names, table.columns, strict=True))
        start, stop = (
            np.asarray(
                _found(columns, edge.column, "column", f"table {self.table!r}"), dtype=np.float64
            )
            + edge.offset
            for edge in (self.start, self.stop)
        )
        kept = start < stop  # False for NaN
        for name, values in self.where.items():
            column = _found(columns, name, "column", f"table {self.table!r}").to_pylist()
            kept &= np.fromiter((value in values for value in column), np.bool_, len(column))
        return start[kept], stop[kept]

    def intervals(self, tables: Mapping[str, pa.Table]) -> Intervals:
        """The union of the rows that count."""
        return Intervals(*self.rows(tables))


def _found(mapping: Mapping[str, Any], name: str, what: str, where: str) -> Any:
    if name not in mapping:
        there = ", ".join(sorted(mapping)) or "none"
        raise HarmonizeError(f"{where} has no {what} {name!r}; there is: {there}")
    return mapping[name]
