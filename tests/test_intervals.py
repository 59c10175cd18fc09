"""The algebra of intervals, against a brute-force model: the set of grid instants they hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Intervals

STEP = 0.125  # exact in binary, so that edges meet exactly
GRID = np.arange(-8, 72) * STEP

pairs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(
        lambda p: (p[0] * STEP, (p[0] + p[1]) * STEP)
    ),
    max_size=8,
)


def held(intervals: list[tuple[float, float]]) -> set[float]:
    return {t for t in GRID for start, stop in intervals if start <= t < stop}


@given(pairs, pairs)
def test_and_or_minus_are_those_of_sets(
    a: list[tuple[float, float]], b: list[tuple[float, float]]
) -> None:
    first, second = Intervals.from_pairs(a), Intervals.from_pairs(b)
    assert held(list(first & second)) == held(a) & held(b)
    assert held(list(first | second)) == held(a) | held(b)
    assert held(list(first - second)) == held(a) - held(b)


@given(pairs)
def test_intervals_are_sorted_and_apart(a: list[tuple[float, float]]) -> None:
    intervals = Intervals.from_pairs(a)
    assert np.all(intervals.start < intervals.stop)
    assert np.all(intervals.start[1:] > intervals.stop[:-1])
    assert intervals.duration == pytest.approx(len(held(a)) * STEP)


@given(pairs)
def test_contains_agrees_at_every_edge(a: list[tuple[float, float]]) -> None:
    assert set(GRID[Intervals.from_pairs(a).contains(GRID)]) == held(a)


@given(pairs, st.integers(0, 6), st.integers(0, 6))
def test_dilation(a: list[tuple[float, float]], before: int, after: int) -> None:
    widened = [(x - before * STEP, y + after * STEP) for x, y in a if x < y]
    assert held(list(Intervals.from_pairs(a).dilate(before * STEP, after * STEP))) == held(widened)


@given(pairs)
def test_equal_sets_are_equal(a: list[tuple[float, float]]) -> None:
    intervals = Intervals.from_pairs(a)
    assert intervals == Intervals.from_pairs(a[::-1])
    assert pickle.loads(pickle.dumps(intervals)) == intervals
    assert hash(intervals) == hash(Intervals(intervals.start, intervals.stop))


def test_bad_intervals_are_refused() -> None:
    for start, stop in (([2.0], [1.0]), ([np.nan], [1.0]), ([0.0, 1.0], [2.0])):
        with pytest.raises(ValueError, match="start"):
            Intervals(start, stop)


def test_intervals_are_immutable() -> None:
    intervals = Intervals([0.0], [1.0])
    with pytest.raises(AttributeError):
        intervals.start = np.zeros(1)
    with pytest.raises(ValueError, match="read-only"):
        intervals.start[0] = 5.0
