"""A slice is what pynwb reads of the same window, spike for spike and sample for sample."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from neurobrick import Dataset, Session
from neurobrick.prepare.plan import session_id
from tests.support import reference
from tests.support.layouts import LAYOUTS, SECONDS


@pytest.fixture(params=[*LAYOUTS, "000128", "000688"])
def pair(
    request: pytest.FixtureRequest,
    corpus: Dataset,
    files: dict[str, Path],
    simulated: dict[str, Path],
) -> tuple[Session, reference.Reference]:
    path = {**files, **simulated}[request.param]
    return corpus[session_id("local", path.name)], reference.read(path)


def windows(truth: reference.Reference, seed: int = 0) -> list[tuple[float, float]]:
    """Random windows, empty ones, the whole, beyond the ends, and edges exactly on events."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(-2, SECONDS + 2, 40)
    found = [(t, t + length) for t, length in zip(starts, rng.exponential(1.5, 40), strict=True)]
    found += [(-10.0, SECONDS + 10), (5.0, 5.0), (-5.0, -4.0), (SECONDS + 50, SECONDS + 51)]
    events = [times for times in truth.spike_times if len(times) > 1]
    events += [stamps for stamps, _ in truth.series.values()]
    for times in events:
        first, last = np.sort(rng.choice(times, 2, replace=False))
        found += [(first, last), (first, np.nextafter(last, np.inf)), (first, first)]
    return found


def test_spikes_are_those_pynwb_reads(pair: tuple[Session, reference.Reference]) -> None:
    session, truth = pair
    for t0, t1 in windows(truth):
        spikes = session.slice(t0, t1).spikes
        assert np.all(np.diff(spikes.times) >= 0)
        for unit, times in enumerate(truth.spike_times):
            expected = times[(times >= t0) & (times < t1)]
            np.testing.assert_array_equal(spikes.times[spikes.units == unit], expected)


def test_behavior_is_what_pynwb_reads_in_si(pair: tuple[Session, reference.Reference]) -> None:
    session, truth = pair
    assert sorted(info.source for info in session.behavior.values()) == sorted(truth.series)
    for name, info in session.behavior.items():
        stamps, values = truth.series[info.source]
        for t0, t1 in windows(truth):
            inside = (stamps >= t0) & (stamps < t1)
            found = session.slice(t0, t1).behavior[name]
            np.testing.assert_array_equal(found.timestamps, stamps[inside])
            rounding = np.finfo(found.values.dtype).eps
            np.testing.assert_allclose(found.values, values[inside], rtol=4 * rounding)


def test_trials_that_overlap_are_in_the_window(pair: tuple[Session, reference.Reference]) -> None:
    session, truth = pair
    if not truth.trials:
        assert "trials" not in session.intervals
        return
    start, stop = truth.trials["start_time"], truth.trials["stop_time"]
    for t0, t1 in windows(truth):
        expected = start[(start < t1) & (stop > t0)]
        found = session.slice(t0, t1).intervals["trials"]
        np.testing.assert_array_equal(found["start"].to_numpy(), expected)


def test_many_windows_at_once_are_the_single_ones(corpus: Dataset) -> None:
    rng = np.random.default_rng(1)
    ids = rng.choice(corpus.sessions, 60).tolist()
    starts = rng.uniform(-1, SECONDS, 60)
    batch = corpus.slices(ids, starts, 0.8)
    for k, (name, start) in enumerate(zip(ids, starts, strict=True)):
        single = corpus.slice(name, start, start + 0.8).spikes
        rows = slice(batch.spike_offsets[k], batch.spike_offsets[k + 1])
        np.testing.assert_array_equal(batch.spike_times[rows], single.times)
        np.testing.assert_array_equal(batch.spike_units[rows], single.units)


def test_behavior_of_many_windows(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-with-gaps"]
    starts = np.random.default_rng(2).uniform(*session.span, 30)
    batch = corpus.slices([session.id] * 30, starts, 0.5)
    stamps, values, offsets = batch.behavior("hand_vel")
    for k, start in enumerate(starts):
        single = session.slice(start, start + 0.5).behavior["hand_vel"]
        rows = slice(offsets[k], offsets[k + 1])
        np.testing.assert_array_equal(stamps[rows], single.timestamps)
        np.testing.assert_array_equal(values[rows], single.values)


def test_no_windows_are_an_empty_batch(corpus: Dataset) -> None:
    batch = corpus.slices([], [], 1.0)
    assert len(batch) == 0
    assert batch.spike_offsets.tolist() == [0]


def test_slices_compose(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-regular"]
    outer = session.slice(3.0, 9.0)
    for t0, t1 in ((4.0, 5.0), (1.0, 4.0), (8.0, 20.0), (10.0, 12.0)):
        inner = outer.slice(t0, t1)
        expected = session.slice(max(t0, 3.0), min(max(t0, t1), 9.0)) if t0 < 9 else None
        if expected is None:
            assert len(inner.spikes) == 0
        else:
            np.testing.assert_array_equal(inner.spikes.times, expected.spikes.times)


def test_bins_count_every_spike_of_the_window(corpus: Dataset) -> None:
    window = corpus.slice("local/sub-A_ses-regular", 2.0, 12.0)
    counts = window.bin(0.02)
    assert counts.shape == (500, 6)
    np.testing.assert_array_equal(counts.sum(0), np.bincount(window.spikes.units, minlength=6))
    edges = 2.0 + 0.02 * np.arange(501)
    for unit in range(6):
        times = window.spikes.times[window.spikes.units == unit]
        expected = [np.sum((times >= a) & (times < b)) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(counts[:, unit], expected)


def test_slices_are_immutable(corpus: Dataset) -> None:
    window = corpus.slice("local/sub-A_ses-regular", 2.0, 4.0)
    with pytest.raises(ValueError, match="read-only"):
        window.spikes.times[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        window.behavior["cursor_pos"].values[0] = 0.0


def test_an_empty_window_has_the_right_types(corpus: Dataset) -> None:
    window = corpus.slice("local/sub-A_ses-regular", 900.0, 901.0)
    assert window.spikes.times.dtype == np.float64
    assert window.spikes.units.dtype == np.int32
    assert window.behavior["cursor_pos"].values.shape == (0, 2)
    assert window.domain.duration == 0
    assert window.bin(0.1).sum() == 0


def test_gaps_are_segments_and_the_domain_is_what_was_observed(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-with-gaps"]
    trials = session.intervals["trials"]
    assert session.domain.start.tolist() == trials["start"].to_pylist()
    info = session.behavior["hand_vel"]
    assert info.rate == 1000.0
    assert info.unit == "m/s"
    assert info.columns == ("x", "y")
    assert info.segments.duration == pytest.approx(info.shape[0] / 1000)


def test_what_is_left_is_said(corpus: Dataset) -> None:
    left = {
        item.path: item.reason for item in corpus["local/sub-A_ses-beside-voltage"].metadata.left
    }
    assert left["acquisition/voltage"] == "voltage traces"


def test_series_that_share_a_name_are_told_apart(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-shared-names"]
    assert sorted(session.behavior) == ["Läufer ∆x.index", "raw.index", "smooth finger.index"]
    assert session.units["area"].to_pylist() == ["M1", "M1", "PMd", "PMd"]
