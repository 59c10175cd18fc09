"""docs/policies.md, line by line, where the labs of test_labs.py do not hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pynwb import NWBFile, TimeSeries
from pynwb.misc import Units

from neurobrick import Dataset, DatasetSpec, Session
from neurobrick.prepare.plan import Outcome
from tests.conftest import prepare_files
from tests.support.labs import add_units, new_file, save, trains

Layout = Callable[[NWBFile], Callable[[h5py.File], object] | None]

FIRST, LENGTHS = [0.0, 0.0, 2.0], [100.0, 140.0, 90.0]  # of blocks, each on its own clock


def prepared(folder: Path, layout: Layout, **spec: Any) -> Outcome:
    """What becomes of a file with that layout under that spec."""
    file = new_file()
    spoil = layout(file)  # what pynwb does not write is written by h5py
    with save(file, folder / "a.nwb") as saved:
        if spoil is not None:
            spoil(saved)
    chosen = DatasetSpec.model_validate({"id": "x", "title": "x", **spec})
    (outcome,) = prepare_files(folder / "corpus", folder / "a.nwb", spec=chosen)
    return outcome


def session(folder: Path, layout: Layout, **spec: Any) -> Session:
    outcome = prepared(folder, layout, **spec)
    assert outcome.status == "prepared", outcome.reason
    return Dataset(folder / "corpus")["local/a"]


def reason(folder: Path, layout: Layout, **spec: Any) -> str:
    outcome = prepared(folder, layout, **spec)
    assert outcome.status == "failed"
    return outcome.reason


def of_units(*spikes: np.ndarray) -> Layout:
    return lambda file: add_units(file, list(spikes))


def spikes(seconds: float = 300.0, rate: float = 5.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, int(seconds * 30000), int(rate * seconds))) / 30000


def test_samples_are_refused_until_the_spec_says_what_they_are(tmp_path: Path) -> None:
    times = spikes()
    layout = of_units(np.rint(times * 30000))
    said = reason(tmp_path, layout)
    assert "whole numbers" in said
    assert "time_unit" in said
    found = session(tmp_path, layout, units={"time_unit": "samples", "rate": 30000})
    np.testing.assert_array_equal(found.spike_arrays()[0], times)


@pytest.mark.parametrize("trials", [True, False])
def test_milliseconds_are_refused_until_the_spec_says_so(trials: bool, tmp_path: Path) -> None:
    seconds = 60.0 if trials else 300.0
    times = spikes(seconds, rate=20.0) * 1000 + 0.125

    def layout(file: NWBFile) -> None:
        add_units(file, [times])
        if trials:
            file.add_trial(start_time=0.0, stop_time=55.0)

    said = reason(tmp_path, layout)
    assert ("the file's other times" if trials else "they span 83 hours") in said
    found = session(tmp_path, layout, units={"time_unit": "ms"})
    np.testing.assert_array_equal(found.spike_arrays()[0], times / 1000)


def test_whole_seconds_are_seconds_where_the_spec_says_so(tmp_path: Path) -> None:
    layout = of_units(np.arange(0.0, 200.0, 2.0))
    assert "whole numbers" in reason(tmp_path, layout)
    assert session(tmp_path, layout, units={"time_unit": "s"}).n_spikes == 100


def test_seconds_that_look_odd_pass(tmp_path: Path) -> None:
    """A quiet unit, a recording much longer than its trials, one of two days: no alarm."""
    rng = np.random.default_rng(0)
    quiet = rng.exponential(20, 400).cumsum()
    busy = rng.exponential(0.2, 9000).cumsum()
    two_days = np.sort(np.concatenate([rng.exponential(0.5, 300).cumsum() + 600 * k
                                       for k in range(280)]))  # fmt: skip
    for k, (times, stop) in enumerate(((quiet, 60.0), (busy, 2.0), (two_days, 60.0))):

        def layout(file: NWBFile, times: np.ndarray = times, stop: float = stop) -> None:
            add_units(file, [times])
            file.add_trial(start_time=0.0, stop_time=stop)

        (tmp_path / str(k)).mkdir()
        found = session(tmp_path / str(k), layout)
        np.testing.assert_array_equal(found.spike_arrays()[0], times)


def test_rising_stretches_are_a_restart_or_out_of_order_and_the_spec_says_which(
    tmp_path: Path,
) -> None:
    a, b = spikes(seed=1), spikes(seed=2)
    layout = of_units(spikes(seed=3), np.concatenate([a, b]))
    said = reason(tmp_path, layout)
    assert "unit row 1 has 2 rising stretches" in said
    assert f"{a[0]:.1f} to {a[-1]:.1f} s" in said
    assert "clock_restarts" in said
    assert "sort_spikes" in said
    found = session(tmp_path, layout, repairs=["sort_spikes"])
    times, units = found.spike_arrays()
    np.testing.assert_array_equal(times[units == 1], np.sort(np.concatenate([a, b])))
    assert "spikes of 1 units were unsorted" in found.metadata.notes


class Restarting:
    """A session in three blocks, told on one clock and written on clocks that begin anew."""

    def __init__(self) -> None:
        starts = np.concatenate([[0.0], np.cumsum(LENGTHS)[:-1] + 50.0 * np.arange(1, 3)])
        self.starts = starts
        self.stops = starts + LENGTHS
        self.shifts = starts - FIRST
        rng = np.random.default_rng(0)

        def inside(n: int) -> np.ndarray:
            block = np.sort(rng.integers(0, 3, n))
            times = starts[block] + 1 + rng.uniform(0, 1, n) * (np.array(LENGTHS)[block] - 2)
            return np.sort(times)

        self.units = [inside(900), inside(700)]
        self.samples = np.concatenate(
            [np.arange(a, b, 0.1) for a, b in zip(starts, self.stops, strict=True)]
        )
        self.trials = np.concatenate([np.arange(a + 1, b - 3, 4.0) for a, b in self.pairs()])

    def pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.starts, self.stops, strict=True))

    def block(self, times: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, times, side="right") - 1

    def written(self, times: np.ndarray) -> np.ndarray:
        """`times` as the file has them."""
        return times - self.shifts[self.block(times)]

    def layout(self, file: NWBFile) -> None:
        bounds = np.stack([self.trials, self.trials + 2.5], axis=1)
        observed = np.stack([self.written(bounds[:, 0]), self.written(bounds[:, 1])], axis=1)
        silent = np.array([5.0, 60.0])  # on the clock of which block?
        for times in (*map(self.written, self.units), silent):
            file.add_unit(spike_times=times, obs_intervals=observed)
        values = np.arange(len(self.samples), dtype=np.float64)
        file.add_acquisition(
            TimeSeries(name="hand", data=values, unit="mm", timestamps=self.written(self.samples))
        )
        file.add_trial_column("go_cue_time", "s")
        for start, stop in observed:
            file.add_trial(start_time=start, stop_time=stop, go_cue_time=start + 0.5)


def test_a_clock_that_restarts_is_refused(tmp_path: Path) -> None:
    said = reason(tmp_path, Restarting().layout)
    assert "3 rising stretches" in said


def test_blocks_of_a_clock_that_restarts_are_laid_end_to_end(tmp_path: Path) -> None:
    truth = Restarting()
    found = session(tmp_path, truth.layout, repairs=["clock_restarts"])
    (note,) = [note for note in found.metadata.notes if note.startswith("clock_restarts: 3 blocks")]
    assert "moved by" in note
    blocks = found.intervals["clock_blocks"].to_pydict()
    assert len(blocks["start"]) == 3
    assert np.all(np.diff(np.ravel(list(zip(blocks["start"], blocks["stop"], strict=True)))) > 0)
    times, units = found.spike_arrays()
    laid = np.array(blocks["shift"])
    for row, true in enumerate(truth.units):
        expected = truth.written(true) + laid[truth.block(true)]
        np.testing.assert_allclose(times[units == row], expected, rtol=0, atol=1e-9)
    stamps, values = found.behavior_arrays("hand")
    np.testing.assert_allclose(
        stamps, truth.written(truth.samples) + laid[truth.block(truth.samples)], rtol=0, atol=1e-9
    )
    assert np.all(np.diff(values[:, 0]) > 0)
    trials = found.intervals["trials"].to_pydict()
    expected = truth.written(truth.trials) + laid[truth.block(truth.trials)]
    np.testing.assert_allclose(trials["start"], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(trials["go_cue_time"], expected + 0.5, rtol=0, atol=1e-9)
    assert len(found.domain) == len(truth.trials)


def test_a_unit_that_fits_the_blocks_in_many_ways_loses_its_spikes(tmp_path: Path) -> None:
    found = session(tmp_path, Restarting().layout, repairs=["clock_restarts"])
    assert not np.any(found.spike_arrays()[1] == 2)
    assert any("2 spikes of 1 units (rows 2)" in note for note in found.metadata.notes)


def test_where_nothing_restarts_the_repair_does_nothing(tmp_path: Path) -> None:
    times = spikes()
    found = session(tmp_path, of_units(times), repairs=["clock_restarts"])
    np.testing.assert_array_equal(found.spike_arrays()[0], times)
    assert any("nothing runs backwards" in note for note in found.metadata.notes)


def series(**fields: Any) -> Layout:
    def layout(file: NWBFile) -> None:
        add_units(file, trains(np.random.default_rng(0), 1))
        file.add_acquisition(TimeSeries(**{"name": "x", "unit": "m", **fields}))

    return layout


def test_a_raw_signal_is_kept_where_the_spec_names_it(tmp_path: Path) -> None:
    layout = series(data=np.arange(30_000.0), rate=30_000.0)
    assert not session(tmp_path, layout).behavior
    named = session(tmp_path, layout, behavior=[{"path": "acquisition/x", "name": "sync"}])
    assert named.behavior["sync"].shape == (30_000, 1)


def respelled(data: np.ndarray, timestamps: np.ndarray) -> Layout:
    """A series whose arrays pynwb would not write."""
    plain = series(data=np.arange(20.0), timestamps=np.arange(20.0))

    def spoil(file: h5py.File) -> None:
        for name, array in (("data", data), ("timestamps", timestamps)):
            attributes = dict(file[f"acquisition/x/{name}"].attrs)
            del file[f"acquisition/x/{name}"]
            file[f"acquisition/x/{name}"] = array
            file[f"acquisition/x/{name}"].attrs.update(attributes)

    def layout(file: NWBFile) -> Callable[[h5py.File], None]:
        plain(file)
        return spoil

    return layout


def test_the_first_row_of_timestamps(tmp_path: Path) -> None:
    stamps = np.arange(20) / 10.0
    layout = respelled(np.arange(20.0), np.stack([stamps, stamps + 0.05]))
    (left,) = prepared(tmp_path, layout).left
    assert "first_row_of_timestamps" in left.reason
    behavior = [{"path": "acquisition/x", "repairs": ["first_row_of_timestamps"]}]
    np.testing.assert_array_equal(
        session(tmp_path, layout, behavior=behavior).behavior_arrays("x")[0], stamps
    )


def test_samples_that_lie_along_the_other_axis(tmp_path: Path) -> None:
    data = np.arange(60.0).reshape(3, 20)
    layout = respelled(data, np.arange(20) / 10.0)
    (left,) = prepared(tmp_path, layout).left
    assert "repairs: [transpose]" in left.reason
    behavior = [{"path": "acquisition/x", "repairs": ["transpose"]}]
    found = session(tmp_path, layout, behavior=behavior)
    np.testing.assert_array_equal(found.behavior_arrays("x")[1], data.T)


def test_unit_and_conversion_of_the_spec_replace_the_files(tmp_path: Path) -> None:
    layout = series(data=np.arange(20.0), rate=10.0, conversion=float("nan"))
    behavior = [{"path": "acquisition/x", "unit": "cm", "conversion": 0.5}]
    found = session(tmp_path, layout, behavior=behavior)
    np.testing.assert_allclose(found.behavior_arrays("x")[1][:, 0], np.arange(20.0) * 0.005)


def probes(file: NWBFile) -> None:
    for k, name in enumerate(("probe_a", "probe_b")):
        table = Units(name=f"units_{name[-1]}", description="sorted")
        table.add_column("depth", "um")
        for times in trains(np.random.default_rng(k), 2):
            table.add_unit(spike_times=times, depth=float(k))
        file.create_processing_module(name, "of one probe").add(table)


def test_units_of_several_probes_are_stacked_where_the_spec_says_so(tmp_path: Path) -> None:
    said = reason(tmp_path, probes)
    paths = ["processing/probe_a/units_a", "processing/probe_b/units_b"]
    assert all(path in said for path in paths)
    assert "units.tables" in said
    found = session(tmp_path, probes, units={"tables": paths})
    expected = [t for k in range(2) for t in trains(np.random.default_rng(k), 2)]
    times, units = found.spike_arrays()
    for row, true in enumerate(expected):
        np.testing.assert_array_equal(times[units == row], true)
    assert found.units["units_table"].to_pylist() == [p for p in paths for _ in range(2)]
    assert found.units["depth"].to_pylist() == [0.0, 0.0, 1.0, 1.0]
    one = session(tmp_path, probes, units={"tables": paths[1:]})
    assert one.n_units == 2
    assert "probe_c" in reason(tmp_path, probes, units={"tables": ["processing/probe_c/units"]})


def test_waveforms_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    means = [np.arange(8.0), np.arange(8.0) + 1]

    def layout(file: NWBFile) -> None:
        add_units(file, trains(np.random.default_rng(0), 2), waveform_mean=means)

    assert "waveform_mean" not in session(tmp_path, layout).units.column_names
    kept = session(tmp_path, layout, units={"keep": ["waveform_mean"]})
    assert kept.units["waveform_mean"].to_pylist() == [mean.tolist() for mean in means]


def test_rules_pass_over_rows_without_times(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        add_units(file, trains(np.random.default_rng(0), 1))
        for start, stop in ((1.0, 2.0), (np.nan, 4.0), (5.0, np.nan), (8.0, 7.0), (9.0, 10.0)):
            file.add_trial(start_time=start, stop_time=stop)

    found = session(tmp_path, layout, evaluation={"table": "trials"})
    assert list(found.evaluation) == [(1.0, 2.0), (9.0, 10.0)]


def test_every_key_and_every_repair_has_its_line() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    keys = ("time_unit", "rate", "tables", "keep", "unit", "conversion")
    repairs = ("clock_restarts", "sort_spikes", "first_row_of_timestamps", "transpose")
    assert [word for word in (*keys, *repairs) if word not in text] == []


def test_hardly_an_interval_below_one_is_no_recording_in_seconds(tmp_path: Path) -> None:
    """A short recording in milliseconds, of a neuron with a refractory period, and no trials."""
    intervals = 2.5 + np.random.default_rng(0).exponential(30, 1000)
    assert "below 1" in reason(tmp_path, of_units(np.cumsum(intervals)))


def restarting(**extra: Any) -> Layout:
    """The blocks of `Restarting`, and one more series."""

    def layout(file: NWBFile) -> None:
        Restarting().layout(file)
        file.add_acquisition(TimeSeries(**{"name": "more", "unit": "m", **extra}))

    return layout


@pytest.mark.parametrize("times", ["rate", "one block"])
def test_a_series_that_fits_the_blocks_in_many_ways_is_left(times: str, tmp_path: Path) -> None:
    """Where it stands on the clock of the spikes would be a guess."""
    when = {"rate": 1.0} if times == "rate" else {"timestamps": np.arange(10.0, 60.0)}
    layout = restarting(data=np.zeros(330 if times == "rate" else 50), **when)
    found = session(tmp_path, layout, repairs=["clock_restarts"])
    assert list(found.behavior) == ["hand"]
    (left,) = [left for left in found.metadata.left if left.path == "acquisition/more"]
    assert "more than one way" in left.reason


def test_samples_without_a_time_do_not_keep_a_series_from_its_blocks(tmp_path: Path) -> None:
    truth = Restarting()
    stamps = truth.written(truth.samples)
    stamps[[0, 7, 1000]] = np.nan
    layout = restarting(data=np.arange(float(len(stamps))), timestamps=stamps)
    found = session(tmp_path, layout, repairs=["clock_restarts"])
    whole, _ = found.behavior_arrays("hand")
    there, values = found.behavior_arrays("more")
    np.testing.assert_array_equal(there, np.delete(whole, [0, 7, 1000]))
    np.testing.assert_array_equal(values[:, 0], np.delete(np.arange(len(stamps)), [0, 7, 1000]))


def test_a_repair_that_would_drop_most_spikes_is_refused(tmp_path: Path) -> None:
    """Spikes that rise throughout, in a file whose samples restart: of which block are they?"""

    def layout(file: NWBFile) -> None:
        add_units(file, [spikes(60.0)])
        stamps = np.concatenate([np.arange(0, 80, 0.1), np.arange(0, 80, 0.1)])
        file.add_acquisition(
            TimeSeries(name="x", unit="m", data=np.zeros(len(stamps)), timestamps=stamps)
        )

    said = reason(tmp_path, layout, repairs=["clock_restarts"])
    assert "more than one way" in said
    assert not list((tmp_path / "corpus").glob("*/*.zarr"))


def test_what_the_spec_says_of_spike_times_is_noted(tmp_path: Path) -> None:
    samples = np.rint(spikes() * 30000)
    found = session(tmp_path, of_units(samples), units={"time_unit": "samples", "rate": 30000})
    assert "spike times are in samples: divided by 30000" in found.metadata.notes


@pytest.mark.parametrize("start", [np.nan, np.inf])
def test_a_series_that_starts_at_no_time_is_left_alone(start: float, tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0, starting_time=start)(file)
        file.add_acquisition(TimeSeries(name="y", unit="m", data=np.zeros(9), rate=10.0))

    found = session(tmp_path, layout)
    assert list(found.behavior) == ["y"]
    assert any(
        left.path == "acquisition/x" and "starting time" in left.reason
        for left in found.metadata.left
    )


def test_infinite_values_are_kept_and_counted(tmp_path: Path) -> None:
    found = session(tmp_path, series(data=np.array([1.0, np.inf, -np.inf, 2.0]), rate=10.0))
    assert found.behavior_arrays("x")[1][:, 0].tolist() == [1.0, np.inf, -np.inf, 2.0]
    assert "acquisition/x: 2 of 4 samples hold infinity; kept" in found.metadata.notes
    assert not any("another unit" in note for note in found.metadata.notes)


def test_values_that_seem_too_large_pass_where_the_spec_says_their_unit(tmp_path: Path) -> None:
    layout = series(data=np.arange(120.0), rate=10.0)
    assert any("another unit" in note for note in session(tmp_path, layout).metadata.notes)
    said = session(tmp_path, layout, behavior=[{"path": "acquisition/x", "unit": "m"}])
    assert not any("another unit" in note for note in said.metadata.notes)


def test_two_behaviors_of_one_name_are_refused(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0)(file)
        file.add_acquisition(TimeSeries(name="y", unit="m", data=np.zeros(9), rate=10.0))

    behavior = [{"path": f"acquisition/{name}", "name": "hand"} for name in "xy"]
    assert "two behaviors would be called 'hand'" in reason(tmp_path, layout, behavior=behavior)


def test_names_that_are_too_long_once_they_tell_apart(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0)(file)
        for letter in "ab":
            one = TimeSeries(name="s" * 150, unit="m", data=np.zeros(9), rate=10.0)
            file.create_processing_module(letter * 150, "x").add(one)

    found = session(tmp_path, layout)
    assert list(found.behavior) == ["x"]
    assert sum("letters" in left.reason for left in found.metadata.left) == 2
    path = f"processing/{'a' * 150}/{'s' * 150}"
    named = session(tmp_path, layout, behavior=[{"path": path, "name": "short"}])
    assert list(named.behavior) == ["short"]


def test_obs_intervals_without_length_are_not_used_and_counted(tmp_path: Path) -> None:
    pairs = [[0.0, 4.0], [6.0, 5.0], [7.0, np.inf], [np.nan, 9.0], [10.0, 12.0]]

    def layout(file: NWBFile) -> None:
        file.add_unit(spike_times=[1.0, 2.0, 11.0], obs_intervals=pairs)

    found = session(tmp_path, layout)
    assert list(found.domain) == [(0.0, 4.0), (10.0, 12.0)]
    assert "3 of 5 obs_intervals have no length; not used" in found.metadata.notes


@pytest.mark.parametrize("values", [["a", "b"], [np.nan, 0.0]])
def test_electrodes_that_are_no_rows_give_no_areas(values: list[Any], tmp_path: Path) -> None:
    def layout(file: NWBFile) -> Callable[[h5py.File], None]:
        device = file.create_device("array")
        group = file.create_electrode_group("M1", "x", "M1", device)
        file.add_electrode(group=group, location="M1")
        add_units(file, trains(np.random.default_rng(0), 2))

        def spoil(saved: h5py.File) -> None:
            saved["units/electrodes"] = values
            saved["units"].attrs["colnames"] = ["spike_times", "electrodes"]

        return spoil

    found = session(tmp_path, layout)
    assert found.units["electrodes"].to_pylist()[1] == values[1]
    assert "area" not in found.units.column_names


def test_trials_alone_show_the_blocks_and_spikes_how_long_they_last(tmp_path: Path) -> None:
    """Recording begins before the first trial of a block, and outlasts its last."""
    truth = Restarting()

    def layout(file: NWBFile) -> None:
        add_units(file, [truth.written(times) for times in truth.units])
        starts = truth.trials[truth.written(truth.trials) % 100 < 60]
        for start in truth.written(starts):
            file.add_trial(start_time=start, stop_time=start + 3.5)

    found = session(tmp_path, layout, repairs=["clock_restarts"])
    times, units = found.spike_arrays()
    shifts = np.array(found.intervals["clock_blocks"]["shift"])
    for row, true in enumerate(truth.units):
        expected = truth.written(true) + shifts[truth.block(true)]
        np.testing.assert_allclose(times[units == row], expected, rtol=0, atol=1e-9)
    trials = found.intervals["trials"].to_pydict()
    assert np.all(np.array(trials["stop"])[:-1] <= np.array(trials["start"])[1:])


def test_a_series_on_another_clock_is_outside_the_domain(tmp_path: Path) -> None:
    """Video stamped with the time of day, as seconds since 1970."""
    layout = series(data=np.arange(9.0), timestamps=1.6e9 + np.arange(9.0))
    found = session(tmp_path, layout)
    assert found.domain.stop[-1] < 100
    assert found.behavior["x"].shape == (9, 1)
    assert any("another clock" in note for note in found.metadata.notes)
