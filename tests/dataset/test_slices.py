"""A slice holds what pynwb reads from the same window, spike for spike, sample for sample."""

from __future__ import annotations

import pickle
import shutil
import unicodedata
from itertools import pairwise, permutations, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, Intervals, Session
from neurobrick.dataset.slice_batch import slice_many
from neurobrick.dataset.timed_rows import WholeRows
from neurobrick.prepare.plan import session_id
from tests.conftest import prepare_files
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
    """Windows: random, empty, the whole, beyond the ends, and with edges exactly on events."""
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


@pytest.mark.slow
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
        expected = start[(start < t1) & (stop > t0) & (t0 < t1)]
        found = session.slice(t0, t1).intervals["trials"]
        np.testing.assert_array_equal(found["start"].to_numpy(), expected)


def test_a_batch_holds_the_same_spikes_as_single_windows(corpus: Dataset) -> None:
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


def test_an_empty_window_is_empty_in_everything(corpus: Dataset) -> None:
    for name in corpus:
        session = corpus[name]
        trials = session.intervals.get("trials", pa.table({"start": [], "stop": []}))
        inside = [(a + b) / 2 for a, b in zip(trials["start"], trials["stop"], strict=True)]
        for t in (*session.span, float(np.mean(session.span)), *map(float, inside[:3])):
            window = session.slice(t, t)
            assert len(window.spikes) == 0
            assert window.domain == Intervals.empty()
            assert [len(series) for series in window.behavior.values()] == [0] * len(
                session.behavior
            )
            assert [rows.num_rows for rows in window.intervals.values()] == [0] * len(
                session.intervals
            )
            assert window.bin(0.1).shape == (0, session.n_units)


@pytest.mark.parametrize(("t0", "t1"), [(5.0, 3.0), (np.nan, 1.0), (1.0, np.nan), (1.0, -np.inf)])
def test_a_window_ends_no_earlier_than_it_starts(corpus: Dataset, t0: float, t1: float) -> None:
    """However it is made."""
    session = corpus["local/sub-A_ses-regular"]
    with pytest.raises(ValueError, match="t0 <= t1"):
        session.slice(t0, t1)
    with pytest.raises(ValueError, match="t0 <= t1"):
        session.slice(0.0, 9.0).slice(t0, t1)
    with pytest.raises(ValueError, match="t0 <= t1"):
        corpus.slice(session.id, t0, t1)
    with pytest.raises(ValueError, match="window 1 is no window"):
        corpus.slices([session.id] * 2, [0.0, t0], [1.0, t1 - t0])


@pytest.mark.parametrize("width", [0.0, -1.0, np.nan, np.inf, 1e-300])
def test_a_bin_has_a_width(corpus: Dataset, width: float) -> None:
    with pytest.raises(ValueError, match="bin"):
        corpus.slice("local/sub-A_ses-regular", 0.0, 9.0).bin(width)


@pytest.mark.parametrize(("t0", "t1"), [(-np.inf, np.inf), (0.0, np.inf), (-np.inf, 5.0)])
def test_a_window_without_an_end_has_no_bins(corpus: Dataset, t0: float, t1: float) -> None:
    window = corpus.slice("local/sub-A_ses-regular", t0, t1)
    with pytest.raises(ValueError, match="too many bins"):
        window.bin(0.02)
    assert len(window.spikes) > 0


class Recording:
    """A session with one behavior."""

    def __init__(self, values: np.ndarray) -> None:
        times = np.arange(len(values)) / 10
        self.rows = WholeRows(times, values)

    def spike_rows(self) -> WholeRows:
        return WholeRows(np.zeros(0), np.zeros(0, np.int32))

    def behavior_rows(self, name: str) -> WholeRows:
        return self.rows


@pytest.mark.parametrize("widths", list(permutations((1, 2, 3), 2)))
@pytest.mark.parametrize("types", list(product(("f4", "f8"), repeat=2)))
def test_behaviors_of_different_widths_are_no_batch(
    widths: tuple[int, int], types: tuple[str, str]
) -> None:
    sessions = {
        name: Recording(np.zeros((20, width), dtype))
        for name, width, dtype in zip("ab", widths, types, strict=True)
    }
    for ids in (["a", "b"], ["b", "a", "b"], ["a", "a", "b"]):
        batch = slice_many(sessions, ids, [0.0] * len(ids), 1.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"(a .* b |b .* a )\(n, ") as caught:
            batch.behavior("pos")
        assert all(f"(n, {width})" in str(caught.value) for width in widths)
    alone = slice_many(sessions, ["b", "b"], [0.0, 1.0], 0.5)  # type: ignore[arg-type]
    assert alone.behavior("pos")[1].shape == (10, widths[1])


@pytest.mark.parametrize("types", list(product(("f4", "f8"), repeat=2)))
def test_values_of_two_types_keep_their_values(types: tuple[str, str]) -> None:
    values = [np.random.default_rng(k).normal(size=(20, 2)).astype(t) for k, t in enumerate(types)]
    sessions = {name: Recording(array) for name, array in zip("ab", values, strict=True)}
    batch = slice_many(sessions, ["b", "a"], [0.0, 0.0], 2.0)  # type: ignore[arg-type]
    _, found, offsets = batch.behavior("pos")
    assert offsets.tolist() == [0, 20, 40]
    np.testing.assert_array_equal(found[:20], values[1])
    np.testing.assert_array_equal(found[20:], values[0])


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_names_are_found_in_either_unicode_form(
    tmp_path: Path, recording: Path, stored: str, typed: str
) -> None:
    """As macOS names files, and as a keyboard types them."""
    plain = unicodedata.normalize(stored, "sub-Zoë_ses-é")
    file = tmp_path / f"{plain}.nwb"
    shutil.copy(recording, file)
    prepare_files(tmp_path / "corpus", file)
    ds = Dataset(tmp_path / "corpus")
    (id,) = ds.sessions
    name = unicodedata.normalize(typed, f"local/{plain}")
    assert ds[name].id == id
    assert ds[name] is ds[id]
    assert name in ds
    assert len(ds.slice(name, 0, 9).spikes) > 0
    assert len(ds.slices([name], [0.0], 9.0).spike_times) > 0
    assert ds.matching(name) == ds.matching([f"{name[:-2]}*"]) == [id]
    for where in (
        f"session == '{name}'",
        f"session in ['{name}']",
        f"session.glob('{name[:-2]}*')",
    ):
        assert ds.select(where).sessions == [id]
    windows = ds.windows(length=0.5, within={name: Intervals([0.0], [5.0])})
    assert set(windows.epoch().session_ids) == {id}


def test_a_relative_root_stays_where_it_was(
    corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(corpus.root).parent)
    datasets = [Dataset(kind(Path(corpus.root).name)) for kind in (str, Path)]
    monkeypatch.chdir(tmp_path)
    for ds in datasets:
        assert len(ds.slice(ds.sessions[0], 0, 9).spikes) > 0
        assert ds.catalog.units.num_rows > 0
        assert Path(pickle.loads(pickle.dumps(ds)).root) == Path(corpus.root)


def test_slices_compose(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-regular"]
    outer = session.slice(3.0, 9.0)
    for t0, t1 in ((4.0, 5.0), (1.0, 4.0), (8.0, 20.0), (3.0, 9.0), (5.0, 5.0)):
        inner = outer.slice(t0, t1)
        expected = session.slice(max(t0, 3.0), min(t1, 9.0))
        np.testing.assert_array_equal(inner.spikes.times, expected.spikes.times)
    for t0, t1 in ((10.0, 12.0), (0.0, 2.0)):
        assert len(outer.slice(t0, t1).spikes) == 0


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


def test_gaps_separate_segments_and_the_domain_is_the_observed_time(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-with-gaps"]
    trials = session.intervals["trials"]
    assert session.domain.start.tolist() == trials["start"].to_pylist()
    info = session.behavior["hand_vel"]
    assert info.rate == 1000.0
    assert info.unit == "m/s"
    assert info.columns == ("x", "y")
    assert info.segments.duration == pytest.approx(info.shape[0] / 1000)


def test_the_metadata_lists_what_was_left_out(corpus: Dataset) -> None:
    left = {
        item.path: item.reason for item in corpus["local/sub-A_ses-beside-voltage"].metadata.left
    }
    assert left["acquisition/voltage"] == "voltage traces"


def test_series_with_the_same_name_get_different_names(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-shared-names"]
    assert sorted(session.behavior) == ["Läufer ∆x.index", "raw.index", "smooth finger.index"]
    assert session.units["area"].to_pylist() == ["M1", "M1", "PMd", "PMd"]
