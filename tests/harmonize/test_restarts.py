"""The block of each time on a clock that restarts, against every possible assignment."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neurobrick.harmonize.restarts import SLACK, Blocks, find_blocks, rising_runs


def ways(times: list[float], blocks: Blocks) -> list[tuple[int, ...]]:
    """Every assignment of `times`, in their order, to blocks.

    Blocks never fall from a time to the next, and rise where time falls. A block covers its times.
    """
    low, high = blocks.first - SLACK, blocks.last + SLACK
    return [
        way
        for way in combinations_with_replacement(range(len(blocks)), len(times))
        if all(low[b] <= t <= high[b] for t, b in zip(times, way, strict=True))
        and all(way[k] < way[k + 1] for k in range(len(times) - 1) if times[k + 1] < times[k])
    ]


@given(
    blocks=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), min_size=1, max_size=4),
    times=st.lists(st.integers(-2, 34).map(float), max_size=6),
)
def test_times_are_assigned_if_one_assignment_is_possible(
    blocks: list[tuple[int, int]], times: list[float]
) -> None:
    first = np.array([float(a) for a, _ in blocks])
    given = Blocks(first, first + np.array([float(length) for _, length in blocks]))
    found = given.assign(np.array(times))
    possible = ways(times, given)
    if len(possible) == 1:
        assert found is not None
        assert tuple(found.tolist()) == possible[0]
    else:
        assert found is None


@given(st.lists(st.floats(0, 100), max_size=30))
def test_rising_runs_are_as_long_as_possible(times: list[float]) -> None:
    array = np.array(times)
    runs = rising_runs(array)
    assert [k for a, b in runs for k in range(a, b)] == list(range(len(times)))
    for a, b in runs:
        assert np.all(np.diff(array[a:b]) >= 0)
    assert all(array[a] < array[a - 1] for a, _ in runs[1:])


def test_the_longest_array_shows_the_blocks() -> None:
    samples = np.concatenate([np.arange(0, 50, 0.5), np.arange(3, 40, 0.5)])
    spikes = np.array([1.0, 52.0, 2.5, 39.0])
    blocks = find_blocks([spikes, samples, np.arange(9.0)])
    assert blocks is not None
    assert blocks.first.tolist() == [0.0, 2.5]
    assert blocks.last.tolist() == [52.0, 39.5]
    laid = blocks.lay(samples)
    assert laid is not None
    assert np.all(np.diff(laid) > 0)
    assert find_blocks([np.arange(5.0)]) is None
    missing = np.where(np.arange(len(samples)) % 9 == 0, np.nan, samples)
    np.testing.assert_array_equal(blocks.lay(missing), np.where(np.isnan(missing), np.nan, laid))


def test_a_clock_that_wavers_does_not_restart() -> None:
    times = np.concatenate([np.arange(0, 50, 0.5), np.arange(3, 40, 0.5)])
    wavering = times.copy()
    wavering[[10, 60, 120]] -= 0.75
    found = [find_blocks([array]) for array in (times, wavering)]
    assert [blocks is not None and len(blocks) for blocks in found] == [2, 2]
    assert find_blocks([wavering[:100]]) is None
