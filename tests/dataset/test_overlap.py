"""Rows that overlap a window, against a brute-force model: the half ticks that each holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick.dataset.overlap import OverlapSearch

edges = st.tuples(st.integers(0, 12), st.integers(0, 5)).map(lambda p: (p[0], p[0] + p[1]))


def instants(start: float, stop: float) -> set[float]:
    """What an interval holds, of the whole and half ticks; an interval without duration is one."""
    held = {k / 2 for k in range(-4, 50) if start <= k / 2 < stop}
    return held or {start}


@given(st.lists(edges, max_size=8), edges, st.booleans())
def test_a_row_overlaps_where_it_shares_an_instant(
    rows: list[tuple[int, int]], window: tuple[int, int], ordered: bool
) -> None:
    rows = sorted(rows) if ordered else rows
    table = pa.table({"start": [float(a) for a, _ in rows], "stop": [float(b) for _, b in rows]})
    table = table.append_column("row", pa.array(range(len(rows)), pa.int64()))
    t0, t1 = window
    expected = [
        k for k, row in enumerate(rows) if t0 < t1 and instants(*row) & instants(float(t0), t1)
    ]
    assert OverlapSearch(table).rows(t0, t1)["row"].to_pylist() == expected


@given(st.lists(st.integers(0, 20), max_size=10), st.integers(1, 7))
def test_events_are_each_in_one_window_of_a_walk(times: list[int], length: int) -> None:
    """Also those that lie on the edge between two windows."""
    table = pa.table({"start": np.array(times, float), "stop": np.array(times, float)})
    search = OverlapSearch(table)
    counts = [search.rows(t, t + length).num_rows for t in range(0, 21, length)]
    assert sum(counts) == len(times)


@pytest.mark.parametrize("row", [(np.nan, 5.0), (1.0, np.nan), (np.nan, np.nan), (6.0, 2.0)])
def test_a_row_without_an_edge_or_in_reverse_overlaps_nothing(row: tuple[float, float]) -> None:
    for rows in ([row], [(0.0, 1.0), row], [row, (0.0, 1.0)]):
        start, stop = zip(*rows, strict=True)
        overlapping = OverlapSearch(pa.table({"start": start, "stop": stop})).rows(0.0, 9.0)
        assert overlapping.num_rows == len(rows) - 1
