"""The rows of an interval table that overlap a window."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


class Overlap:
    """Answers for `table`, whose columns `start` and `stop` are seconds.

    In most tables both edges are in order: the rows that overlap are then together, and found by
    search. Rows whose edges are missing overlap nothing.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._start, self._stop = (
            np.asarray(table[edge].to_numpy(), np.float64) for edge in ("start", "stop")
        )
        self._in_order = all(np.all(edge[:-1] <= edge[1:]) for edge in (self._start, self._stop))

    def rows(self, t0: float, t1: float) -> pa.Table:
        """The rows with `start < t1` and `stop > t0`."""
        if self._in_order:
            first = self._stop.searchsorted(t0, side="right")
            last = self._start.searchsorted(t1)
            return self._table.slice(first, max(0, last - first))
        return self._table.filter(pa.array((self._start < t1) & (self._stop > t0)))
