"""docs/policies.md: spikes, trials, units tables, where test_labs.py does not hold its lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pynwb import NWBFile
from pynwb.misc import Units

from tests.support.labs import add_units, trains
from tests.support.one_file import of_units, reason, session, spikes


def test_samples_are_refused_until_the_spec_says_what_they_are(tmp_path: Path) -> None:
    times = spikes()
    layout = of_units(np.rint(times * 30000))
    message = reason(tmp_path, layout)
    assert "whole numbers" in message
    assert "time_unit" in message
    result = session(tmp_path, layout, units={"time_unit": "samples", "rate": 30000})
    np.testing.assert_array_equal(result.spike_arrays()[0], times)


@pytest.mark.parametrize("trials", [True, False])
def test_milliseconds_are_refused_until_the_spec_says_so(trials: bool, tmp_path: Path) -> None:
    seconds = 60.0 if trials else 300.0
    times = spikes(seconds, rate=20.0) * 1000 + 0.125

    def layout(file: NWBFile) -> None:
        add_units(file, [times])
        if trials:
            file.add_trial(start_time=0.0, stop_time=55.0)

    message = reason(tmp_path, layout)
    assert ("the file's other times" if trials else "they span 83 hours") in message
    result = session(tmp_path, layout, units={"time_unit": "ms"})
    np.testing.assert_array_equal(result.spike_arrays()[0], times / 1000)


def test_whole_seconds_are_seconds_where_the_spec_says_so(tmp_path: Path) -> None:
    layout = of_units(np.arange(0.0, 200.0, 2.0))
    assert "whole numbers" in reason(tmp_path, layout)
    assert session(tmp_path, layout, units={"time_unit": "s"}).n_spikes == 100


@pytest.mark.slow
def test_unusual_times_in_seconds_are_not_refused(tmp_path: Path) -> None:
    """A quiet unit, a recording much longer than its trials, a recording of two days."""
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
        result = session(tmp_path / str(k), layout)
        np.testing.assert_array_equal(result.spike_arrays()[0], times)


def probes(file: NWBFile) -> None:
    for k, name in enumerate(("probe_a", "probe_b")):
        table = Units(name=f"units_{name[-1]}", description="sorted")
        table.add_column("depth", "um")
        for times in trains(np.random.default_rng(k), 2):
            table.add_unit(spike_times=times, depth=float(k))
        file.create_processing_module(name, "of one probe").add(table)


def test_units_of_several_probes_are_stacked_where_the_spec_says_so(tmp_path: Path) -> None:
    message = reason(tmp_path, probes)
    paths = ["processing/probe_a/units_a", "processing/probe_b/units_b"]
    assert all(path in message for path in paths)
    assert "units.tables" in message
    result = session(tmp_path, probes, units={"tables": paths})
    expected = [t for k in range(2) for t in trains(np.random.default_rng(k), 2)]
    times, units = result.spike_arrays()
    for row, true in enumerate(expected):
        np.testing.assert_array_equal(times[units == row], true)
    assert result.units["units_table"].to_pylist() == [p for p in paths for _ in range(2)]
    assert result.units["depth"].to_pylist() == [0.0, 0.0, 1.0, 1.0]
    one = session(tmp_path, probes, units={"tables": paths[1:]})
    assert one.n_units == 2
    assert "probe_c" in reason(tmp_path, probes, units={"tables": ["processing/probe_c/units"]})


def test_waveforms_are_kept_if_the_spec_lists_them(tmp_path: Path) -> None:
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

    result = session(tmp_path, layout, evaluation={"table": "trials"})
    assert list(result.evaluation) == [(1.0, 2.0), (9.0, 10.0)]


def test_every_key_and_every_repair_has_its_line() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    keys = ("time_unit", "rate", "tables", "keep", "unit", "conversion")
    repairs = ("clock_restarts", "sort_spikes", "first_row_of_timestamps", "transpose")
    assert [word for word in (*keys, *repairs) if word not in text] == []


def test_spikes_with_hardly_an_interval_below_one_are_refused(tmp_path: Path) -> None:
    """A short recording in milliseconds without trials; the neuron has a refractory period."""
    intervals = 2.5 + np.random.default_rng(0).exponential(30, 1000)
    assert "below 1" in reason(tmp_path, of_units(np.cumsum(intervals)))


def test_the_time_unit_of_the_spec_is_noted(tmp_path: Path) -> None:
    samples = np.rint(spikes() * 30000)
    result = session(tmp_path, of_units(samples), units={"time_unit": "samples", "rate": 30000})
    assert "spike times are in samples: divided by 30000" in result.metadata.notes


def test_obs_intervals_without_length_are_not_used_and_counted(tmp_path: Path) -> None:
    pairs = [[0.0, 4.0], [6.0, 5.0], [7.0, np.inf], [np.nan, 9.0], [10.0, 12.0]]

    def layout(file: NWBFile) -> None:
        file.add_unit(spike_times=[1.0, 2.0, 11.0], obs_intervals=pairs)

    result = session(tmp_path, layout)
    assert list(result.domain) == [(0.0, 4.0), (10.0, 12.0)]
    assert "3 of 5 obs_intervals have no length; not used" in result.metadata.notes


@pytest.mark.parametrize("values", [["a", "b"], [np.nan, 0.0]])
def test_electrodes_that_are_no_row_numbers_give_no_areas(
    values: list[Any], tmp_path: Path
) -> None:
    def layout(file: NWBFile) -> Callable[[h5py.File], None]:
        device = file.create_device("array")
        group = file.create_electrode_group("M1", "x", "M1", device)
        file.add_electrode(group=group, location="M1")
        add_units(file, trains(np.random.default_rng(0), 2))

        def spoil(saved: h5py.File) -> None:
            saved["units/electrodes"] = values
            saved["units"].attrs["colnames"] = ["spike_times", "electrodes"]

        return spoil

    result = session(tmp_path, layout)
    assert result.units["electrodes"].to_pylist()[1] == values[1]
    assert "area" not in result.units.column_names
