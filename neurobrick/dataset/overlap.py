"""The rows of an interval table that overlap a window."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


class OverlapSearch:
    """Finds the rows of `table` that overlap a window. The columns `start` and `stop` are seconds.

    In most tables both edges are sorted. The rows that overlap a window are then neighbors, and two
    binary searches find them. A row with a missing edge, or that stops before it starts, overlaps
    nothing.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._start, self._stop = (
            np.asarray(table[edge].to_numpy(), np.float64) for edge in ("start", "stop")
        )
        self._whole = self._start <= self._stop  # False for NaN
        edges_sorted = all(np.all(edge[:-1] <= edge[1:]) for edge in (self._start, self._stop))
        self._sorted = edges_sorted and bool(self._whole.all())

    def rows(self, t0: float, t1: float) -> pa.Table:
        """The rows that share an instant with `[t0, t1)`, in the table's order.

        A row whose start is its stop is one instant. A window with `t0 == t1` holds no instant.
        """
        if t0 >= t1:
            return self._table.slice(0, 0)
        if self._sorted:
            # A row begins inside the window, or before it and stops after t0.
            first = min(self._stop.searchsorted(t0, side="right"), self._start.searchsorted(t0))
            last = self._start.searchsorted(t1)
            return self._table.slice(first, max(0, last - first))
        overlaps = (self._start < t1) & ((self._stop > t0) | (self._start >= t0))
        return self._table.filter(pa.array(overlaps & self._whole))
