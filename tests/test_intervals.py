"""The algebra of intervals against a brute-force model: the set of ticks that they hold."""

from __future__ import annotations

import operator
import pickle
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Intervals

TICK = 0.125  # seconds; exact in binary, so that edges meet exactly
SPAN = 40

Ticks = set[int]

pairs = st.lists(
    st.tuples(st.integers(0, SPAN - 8), st.integers(0, 8)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=8,
)
fractions = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any)


def model(found: list[tuple[int, int]]) -> Ticks:
    return {tick for start, stop in found for tick in range(start, stop)}


def intervals(found: list[tuple[int, int]]) -> Intervals:
    return Intervals.from_pairs((start * TICK, stop * TICK) for start, stop in found)


def held(found: Intervals) -> Ticks:
    """The ticks of `found`, whose edges must all be ticks, sorted and apart."""
    edges = np.stack([found.start, found.stop], axis=1).ravel() / TICK
    assert np.all(edges == np.round(edges))
    assert np.all(np.diff(edges) > 0)
    whole = edges.astype(int).tolist()
    return model(list(zip(whole[::2], whole[1::2], strict=True)))


def runs(ticks: Ticks) -> list[tuple[int, int]]:
    """The stretches of neighboring ticks."""
    starts = sorted(tick for tick in ticks if tick - 1 not in ticks)
    stops = sorted(tick + 1 for tick in ticks if tick + 1 not in ticks)
    return list(zip(starts, stops, strict=True))


@given(pairs)
def test_overlapping_touching_and_empty_intervals_are_united(a: list[tuple[int, int]]) -> None:
    found = intervals(a)
    assert held(found) == model(a)
    assert len(found) == len(runs(model(a)))
    assert found.duration == len(model(a)) * TICK
    assert found.span == (
        (min(model(a)) * TICK, (max(model(a)) + 1) * TICK) if model(a) else (0.0, 0.0)
    )


@given(pairs, pairs)
def test_and_or_minus_are_those_of_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    first, second = intervals(a), intervals(b)
    assert held(first & second) == model(a) & model(b)
    assert held(first | second) == model(a) | model(b)
    assert held(first - second) == model(a) - model(b)


@given(pairs, pairs, pairs)
def test_the_laws_of_sets_hold(
    a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]
) -> None:
    x, y, z = intervals(a), intervals(b), intervals(c)
    everything, nothing = Intervals([0.0], [SPAN * TICK]), Intervals.empty()
    assert x & x == x | x == x & everything == x | nothing == x - nothing == x
    assert x - x == x & nothing == x - everything == nothing
    assert x & y == y & x
    assert x | y == y | x
    assert (x & y) & z == x & (y & z)
    assert (x | y) | z == x | (y | z)
    assert x & (y | z) == (x & y) | (x & z)
    assert x | (y & z) == (x | y) & (x | z)
    assert x | (x & y) == x & (x | y) == (x & y) | (x - y) == x
    assert everything - (x | y) == (everything - x) & (everything - y)
    assert everything - (x & y) == (everything - x) | (everything - y)
    assert everything - (everything - x) == x


@given(pairs, st.permutations(range(-2, SPAN + 2)))
def test_contains_holds_the_start_and_not_the_stop(
    a: list[tuple[int, int]], order: list[int]
) -> None:
    ticks = np.array(order)
    found, there = intervals(a), [tick in model(a) for tick in ticks.tolist()]
    before = [tick - 1 in model(a) for tick in ticks.tolist()]
    assert found.contains(ticks * TICK).tolist() == there
    assert found.contains((ticks + 0.5) * TICK).tolist() == there
    assert found.contains(np.nextafter(ticks * TICK, -np.inf)).tolist() == before
    assert not found.contains([np.nan, -np.inf, np.inf]).any()


@pytest.mark.parametrize("edges", [[], [(0.0, 1.0), (5.0, 6.0)], [(-np.inf, np.inf)]])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 4)])
def test_instants_come_in_any_shape(
    edges: list[tuple[float, float]], shape: tuple[int, ...]
) -> None:
    """One number, too."""
    found, times = Intervals.from_pairs(edges), np.full(shape, 5.5)
    inside = any(start <= 5.5 < stop for start, stop in edges)
    np.testing.assert_array_equal(found.contains(times), np.full(shape, inside))
    np.testing.assert_array_equal(found.covers(times, times + 0.25), np.full(shape, inside))
    assert bool(found.contains(5.5)) == inside
    assert not found.contains(np.nan)
    assert not found.covers(np.nan, 1.0)


@pytest.mark.parametrize("other", [5, None, "a", [0.0, 1.0], np.zeros(2)])
def test_sets_combine_with_sets(other: object) -> None:
    found = Intervals([0.0], [1.0])
    for combine in (operator.and_, operator.or_, operator.sub):
        with pytest.raises(TypeError):
            combine(found, other)


@pytest.mark.parametrize("rows", [[1.0, 2.0], [(1.0, 2.0, 3.0, 4.0)], [(1.0,)], [[(1.0, 2.0)]]])
def test_pairs_are_pairs(rows: list[Any]) -> None:
    with pytest.raises(ValueError, match="pairs have the shape"):
        Intervals.from_pairs(rows)


def test_edges_of_covered_intervals_are_equally_many() -> None:
    with pytest.raises(ValueError, match="equally long"):
        Intervals([0.0], [1.0]).covers([0.0, 0.5], [1.0])


@given(pairs, st.integers(-2, SPAN + 2), st.integers(0, SPAN))
def test_clipping_keeps_what_is_inside(a: list[tuple[int, int]], start: int, length: int) -> None:
    found = intervals(a).clip(start * TICK, (start + length) * TICK)
    assert held(found) == model(a) & set(range(start, start + length))
    assert found == intervals(a) & Intervals([start * TICK], [(start + length) * TICK])
    with pytest.raises(ValueError, match="no interval"):
        intervals(a).clip(1.0, 0.5)


@given(pairs, pairs)
def test_covered_intervals_lie_in_one_interval_of_the_set(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    found = intervals(a).covers([p[0] * TICK for p in b], [p[1] * TICK for p in b])
    assert found.tolist() == [
        start < stop and model([(start, stop)]) <= model(a) for start, stop in b
    ]


@given(pairs, st.integers(-6, 6), st.integers(-6, 6))
def test_dilation_moves_the_edges_of_each_interval(
    a: list[tuple[int, int]], before: int, after: int
) -> None:
    moved = [(start - before, stop + after) for start, stop in runs(model(a))]
    assert held(intervals(a).dilate(before * TICK, after * TICK)) == model(moved)
    assert intervals(a).dilate(before * TICK) == intervals(a).dilate(before * TICK, before * TICK)


def test_an_interval_eroded_to_nothing_vanishes() -> None:
    found = Intervals([0.0, 5.0, 10.0], [1.0, 7.0, 10.5]).dilate(-0.5)
    assert list(found) == [(5.5, 6.5)]


@pytest.mark.parametrize("width", [np.nan, np.inf, -np.inf])
def test_dilation_is_by_finite_seconds(width: float) -> None:
    for widths in ((width,), (width, 0.0), (0.0, width)):
        with pytest.raises(ValueError, match="finite"):
            Intervals([0.0], [1.0]).dilate(*widths)


@given(pairs, st.integers(0, 10))
def test_coalescing_fills_short_gaps(a: list[tuple[int, int]], gap: int) -> None:
    ticks = sorted(model(a))
    filled = {
        between
        for left, right in pairwise(ticks)
        if right - left - 1 <= gap
        for between in range(left, right)
    }
    assert held(intervals(a).coalesce(gap * TICK)) == filled | model(a)
    assert intervals(a).coalesce((gap + 0.5) * TICK) == intervals(a).coalesce(gap * TICK)


@given(st.integers(-(10**12), 10**12), st.integers(1, 1000), st.integers(1, 1000))
def test_gaps_in_milliseconds_are_filled_exactly(first: int, gap: int, length: int) -> None:
    starts = first + (gap + length) * np.arange(20)
    found = Intervals(starts / 1000, (starts + length) / 1000)
    assert len(found.coalesce(gap / 1000)) == 1
    assert found.coalesce((gap - 0.5) / 1000) == found


def test_coalescing_refuses_negative_gaps_and_nan() -> None:
    found = Intervals([0.0, 2.0], [1.0, 3.0])
    assert list(found.coalesce(np.inf)) == [(0.0, 3.0)]
    assert Intervals.empty().coalesce(1.0) == Intervals.empty()
    for gap in (-0.1, np.nan):
        with pytest.raises(ValueError, match="gap"):
            found.coalesce(gap)


def windows(start: int, stop: int, length: int, step: int, partial: bool) -> list[tuple[int, int]]:
    """Lay windows in [start, stop) one by one."""
    found: list[tuple[int, int]] = []
    at = start
    while at + length <= stop:
        found.append((at, at + length))
        at += step
    adds = set(range(at, stop)) - model(found)
    return [*found, (at, stop)] if partial and adds else found


@given(pairs, st.integers(1, 9), st.none() | st.integers(1, 9), st.booleans())
def test_subdividing_lays_windows_from_each_start(
    a: list[tuple[int, int]], length: int, step: int | None, partial: bool
) -> None:
    start, stop = intervals(a).subdivide(
        length * TICK, step=None if step is None else step * TICK, partial=partial
    )
    expected = [
        window
        for run in runs(model(a))
        for window in windows(*run, length, step or length, partial)
    ]
    assert list(zip(start / TICK, stop / TICK, strict=True)) == expected
    assert start.dtype == stop.dtype == np.float64


def test_every_way_to_lay_windows_in_one_interval() -> None:
    for stop, length, step in product(range(1, 12), range(1, 8), range(1, 8)):
        whole = intervals([(3, 3 + stop)])
        for partial in (False, True):
            found = whole.subdivide(length * TICK, step=step * TICK, partial=partial)
            expected = windows(3, 3 + stop, length, step, partial)
            assert list(zip(*(array / TICK for array in found), strict=True)) == expected


@given(
    st.integers(-(10**12), 10**12),
    st.integers(1, 500),
    st.integers(1, 500),
    st.integers(1, 500),
    st.booleans(),
)
def test_as_many_windows_fit_as_on_paper(
    first: int, length: int, step: int, more: int, partial: bool
) -> None:
    """Milliseconds, whose edges no float64 holds exactly, on clocks up to thirty years long."""
    duration = length + more * step
    whole = Intervals([first / 1000], [(first + duration) / 1000])
    start, stop = whole.subdivide(length / 1000, step=step / 1000, partial=partial)
    assert len(start) == more + 1
    np.testing.assert_allclose(stop - start, length / 1000, atol=1e-5 if abs(first) > 1e9 else 1e-8)
    assert start[0] == whole.start[0]
    assert stop[-1] == whole.stop[0]
    assert np.all(start >= whole.start[0])
    assert np.all(stop <= whole.stop[0])


def test_a_second_holds_fifty_bins_of_twenty_milliseconds() -> None:
    for start in (0.0, 0.1, 12.3, 1234.567, 1.7e9 + 0.3):
        found = Intervals([start], [start + 1.0])
        for partial in (False, True):
            assert len(found.subdivide(0.02, partial=partial)[0]) == 50
    # What is short by more than rounding does not fit.
    assert len(Intervals([0.0], [1.0 - 1e-7]).subdivide(0.02)[0]) == 49


def test_an_interval_too_short_to_measure_is_still_covered() -> None:
    found = Intervals([0.0, 5.0], [5e-324, np.nextafter(5.0, 6.0)])
    for step in (0.5, 1.0, 2.0):
        assert len(found.subdivide(1.0, step=step)[0]) == 0
        assert Intervals(*found.subdivide(1.0, step=step, partial=True)) == found


edges = st.lists(st.floats(-1e6, 1e6), max_size=12, unique=True).map(sorted)


@given(edges, st.floats(1e3, 1e6), st.floats(0.2, 1.0))
def test_windows_with_a_partial_one_cover_the_set(
    edges: list[float], length: float, overlap: float
) -> None:
    found = Intervals(edges[: len(edges) // 2 * 2 : 2], edges[1::2])
    for step in (length, length * overlap):
        start, stop = found.subdivide(length, step=step, partial=True)
        assert Intervals(start, stop) == found
        assert np.all(start < stop)
        assert np.all(stop - start <= length * (1 + 1e-6))
    start, stop = found.subdivide(length, partial=True)
    assert np.all(stop[:-1] <= start[1:])
    inner, outer = found.subdivide(length)
    assert Intervals(inner, outer) & found == Intervals(inner, outer)


def test_subdividing_refuses_impossible_lengths() -> None:
    found = Intervals([0.0], [1.0])
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="positive"):
            found.subdivide(bad)
        with pytest.raises(ValueError, match="positive"):
            found.subdivide(0.1, step=bad)
    with pytest.raises(ValueError, match="bounds"):
        Intervals([0.0], [np.inf]).subdivide(1.0)
    with pytest.raises(ValueError, match="cannot tell"):
        Intervals([1e9], [1e9 + 1]).subdivide(1e-7)


@given(pairs, fractions, st.integers(0, 2**32), st.none() | st.integers(1, 5))
def test_a_split_gives_every_instant_to_one_part(
    a: list[tuple[int, int]], weights: list[int], seed: int, length: int | None
) -> None:
    found, shares = intervals(a), [weight / sum(weights) for weight in weights]
    seconds = None if length is None else length * TICK
    parts = found.split(shares, seed=seed, length=seconds)
    assert [len(part) for part, weight in zip(parts, weights, strict=True) if not weight] == (
        [0] * weights.count(0)
    )
    given = [tick for part in parts for tick in held(part)]
    assert sorted(given) == sorted(model(a))
    assert parts == found.split(shares, seed=seed, length=seconds)
    # Whole pieces: what is not cut stays together, and durations miss by one piece at most.
    pieces = [
        piece
        for run in runs(model(a))
        for piece in (windows(*run, length, length, True) if length else [run])
    ]
    for piece in pieces:
        assert sum(bool(model([piece]) & held(part)) for part in parts) == 1
    longest = max((stop - start for start, stop in pieces), default=0)
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(held(part)) - share * len(model(a))) <= longest + 1e-9


def test_a_split_is_random_and_close_to_its_fractions() -> None:
    found = Intervals(np.arange(1000.0), np.arange(1000.0) + 0.5)
    train, valid, test = found.split([0.7, 0.2, 0.1], seed=1)
    assert [part.duration for part in (train, valid, test)] == pytest.approx([350, 100, 50], abs=1)
    assert train != found.split([0.7, 0.2, 0.1], seed=2)[0]
    # Of a random tenth of the intervals, about half lie in the first half.
    assert 30 < np.sum(test.start < 500) < 70
    one = Intervals([0.0], [100.0])
    assert sorted(part.duration for part in one.split([0.5, 0.5], seed=0)) == [0.0, 100.0]
    halves = one.split([0.5, 0.5], seed=0, length=0.1)
    assert [half.duration for half in halves] == pytest.approx([50, 50], abs=0.1)
    assert min(len(half) for half in halves) > 100


def test_fractions_sum_to_one() -> None:
    found = Intervals([0.0], [1.0])
    for bad in ([], [0.5], [0.6, 0.5], [1.5, -0.5], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="fractions"):
            found.split(bad, seed=0)
    with pytest.raises(ValueError, match="bounds"):
        Intervals([-np.inf], [0.0]).split([0.5, 0.5], seed=0)
    with pytest.raises(ValueError, match="positive"):
        found.split([0.5, 0.5], seed=0, length=0.0)


@given(pairs, pairs)
def test_equal_sets_are_equal(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    found, other = intervals(a), intervals(b)
    assert (found == other) == (model(a) == model(b))
    assert len({found, other}) == len({frozenset(model(a)), frozenset(model(b))})
    assert found == intervals(a[::-1])
    assert hash(found) == hash(intervals(a[::-1]))
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != list(found)


def test_the_two_zeros_are_one_instant() -> None:
    first, second = Intervals([0.0], [1.0]), Intervals([-0.0], [1.0])
    assert first == second
    assert hash(first) == hash(second)


def test_bad_intervals_are_refused() -> None:
    for start, stop in (([2.0], [1.0]), ([np.nan], [1.0]), ([0.0, 1.0], [2.0])):
        with pytest.raises(ValueError, match="start"):
            Intervals(start, stop)


def test_intervals_are_immutable() -> None:
    found = Intervals([0.0], [1.0])
    with pytest.raises(AttributeError):
        found.start = np.zeros(1)
    with pytest.raises(ValueError, match="read-only"):
        found.start[0] = 5.0
