"""Ticks are used only where they give back every time bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neurobrick.clock import Clock, find_clock, runs, ticks_of_runs


@given(
    st.sampled_from([30000.0, 24414.0625, 32000.0, 1000.0]),
    arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 2**31 - 1)),
)
def test_times_on_a_grid_come_back_bit_for_bit(rate: float, ticks: np.ndarray) -> None:
    times = ticks / rate
    found = find_clock(times)
    assert found is not None
    clock, encoded = found
    assert clock.times(encoded).tobytes() == times.tobytes()


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(allow_nan=True, width=64)))
def test_whatever_is_encoded_comes_back(times: np.ndarray) -> None:
    found = find_clock(times)
    if found is not None:
        clock, ticks = found
        assert clock.times(ticks).tobytes() == times.tobytes()


def test_times_off_the_grid_are_not_encoded() -> None:
    times = np.array([0.0, 1 / 30000, np.nextafter(2 / 30000, 1)])
    assert find_clock(times) is None
    assert Clock(30000).ticks(times) is None


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=20))
def test_runs_and_their_ticks_are_inverse(gaps_and_lengths: list[tuple[int, int]]) -> None:
    ticks, position = [], 0
    for gap, length in gaps_and_lengths:
        position += gap + 1
        ticks += range(position, position + length)
        position += length - 1
    found = runs(np.array(ticks))
    assert len(found) == len(gaps_and_lengths)
    np.testing.assert_array_equal(ticks_of_runs(found), ticks)
