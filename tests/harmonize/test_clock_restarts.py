"""The repair clock_restarts on whole files: docs/policies.md, Clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynwb import NWBFile, TimeSeries

from tests.support.labs import add_units
from tests.support.one_file import Layout, of_units, reason, session, spikes

FIRST, LENGTHS = [0.0, 0.0, 2.0], [100.0, 140.0, 90.0]  # s, of blocks, each on its own clock


def test_rising_stretches_are_refused_until_the_spec_says_what_they_are(
    tmp_path: Path,
) -> None:
    a, b = spikes(seed=1), spikes(seed=2)
    layout = of_units(spikes(seed=3), np.concatenate([a, b]))
    message = reason(tmp_path, layout)
    assert "unit row 1 has 2 rising stretches" in message
    assert f"{a[0]:.1f} to {a[-1]:.1f} s" in message
    assert "clock_restarts" in message
    assert "sort_spikes" in message
    result = session(tmp_path, layout, repairs=["sort_spikes"])
    times, units = result.spike_arrays()
    np.testing.assert_array_equal(times[units == 1], np.sort(np.concatenate([a, b])))
    assert "spikes of 1 units were unsorted" in result.metadata.notes


class Restarting:
    """A session in three blocks: its true times, and the times on clocks that start again."""

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
        """True `times` as the file has them."""
        return times - self.shifts[self.block(times)]

    def layout(self, file: NWBFile) -> None:
        bounds = np.stack([self.trials, self.trials + 2.5], axis=1)
        observed = np.stack([self.written(bounds[:, 0]), self.written(bounds[:, 1])], axis=1)
        silent = np.array([5.0, 60.0])  # these fit several blocks
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
    message = reason(tmp_path, Restarting().layout)
    assert "3 rising stretches" in message


def test_blocks_of_a_clock_that_restarts_are_laid_end_to_end(tmp_path: Path) -> None:
    truth = Restarting()
    result = session(tmp_path, truth.layout, repairs=["clock_restarts"])
    (note,) = [
        note for note in result.metadata.notes if note.startswith("clock_restarts: 3 blocks")
    ]
    assert "moved by" in note
    blocks = result.intervals["clock_blocks"].to_pydict()
    assert len(blocks["start"]) == 3
    assert np.all(np.diff(np.ravel(list(zip(blocks["start"], blocks["stop"], strict=True)))) > 0)
    times, units = result.spike_arrays()
    laid = np.array(blocks["shift"])
    for row, true in enumerate(truth.units):
        expected = truth.written(true) + laid[truth.block(true)]
        np.testing.assert_allclose(times[units == row], expected, rtol=0, atol=1e-9)
    stamps, values = result.behavior_arrays("hand")
    np.testing.assert_allclose(
        stamps, truth.written(truth.samples) + laid[truth.block(truth.samples)], rtol=0, atol=1e-9
    )
    assert np.all(np.diff(values[:, 0]) > 0)
    trials = result.intervals["trials"].to_pydict()
    expected = truth.written(truth.trials) + laid[truth.block(truth.trials)]
    np.testing.assert_allclose(trials["start"], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(trials["go_cue_time"], expected + 0.5, rtol=0, atol=1e-9)
    assert len(result.domain) == len(truth.trials)


def test_a_unit_that_fits_the_blocks_in_several_ways_loses_its_spikes(tmp_path: Path) -> None:
    result = session(tmp_path, Restarting().layout, repairs=["clock_restarts"])
    assert not np.any(result.spike_arrays()[1] == 2)
    assert any("2 spikes of 1 units (rows 2)" in note for note in result.metadata.notes)


def test_the_repair_does_nothing_if_nothing_restarts(tmp_path: Path) -> None:
    times = spikes()
    result = session(tmp_path, of_units(times), repairs=["clock_restarts"])
    np.testing.assert_array_equal(result.spike_arrays()[0], times)
    assert any("nothing runs backwards" in note for note in result.metadata.notes)


def restarting(**extra: Any) -> Layout:
    """The blocks of `Restarting`, and another series, `more`."""

    def layout(file: NWBFile) -> None:
        Restarting().layout(file)
        file.add_acquisition(TimeSeries(**{"name": "more", "unit": "m", **extra}))

    return layout


@pytest.mark.parametrize("times", ["rate", "one block"])
def test_a_series_that_fits_the_blocks_in_several_ways_is_left(times: str, tmp_path: Path) -> None:
    """Its place on the clock of the spikes would be a guess."""
    when = {"rate": 1.0} if times == "rate" else {"timestamps": np.arange(10.0, 60.0)}
    layout = restarting(data=np.zeros(330 if times == "rate" else 50), **when)
    result = session(tmp_path, layout, repairs=["clock_restarts"])
    assert list(result.behavior) == ["hand"]
    (left,) = [left for left in result.metadata.left if left.path == "acquisition/more"]
    assert "more than one way" in left.reason


def test_samples_without_a_time_do_not_keep_a_series_from_its_blocks(tmp_path: Path) -> None:
    truth = Restarting()
    stamps = truth.written(truth.samples)
    stamps[[0, 7, 1000]] = np.nan
    layout = restarting(data=np.arange(float(len(stamps))), timestamps=stamps)
    result = session(tmp_path, layout, repairs=["clock_restarts"])
    whole, _ = result.behavior_arrays("hand")
    there, values = result.behavior_arrays("more")
    np.testing.assert_array_equal(there, np.delete(whole, [0, 7, 1000]))
    np.testing.assert_array_equal(values[:, 0], np.delete(np.arange(len(stamps)), [0, 7, 1000]))


def test_a_repair_that_would_drop_most_spikes_is_refused(tmp_path: Path) -> None:
    """Spikes rise throughout, in a file whose samples restart: they may be in either block."""

    def layout(file: NWBFile) -> None:
        add_units(file, [spikes(60.0)])
        stamps = np.concatenate([np.arange(0, 80, 0.1), np.arange(0, 80, 0.1)])
        file.add_acquisition(
            TimeSeries(name="x", unit="m", data=np.zeros(len(stamps)), timestamps=stamps)
        )

    message = reason(tmp_path, layout, repairs=["clock_restarts"])
    assert "more than one way" in message
    assert not list((tmp_path / "corpus").glob("*/*.zarr"))


def test_trials_show_the_blocks_and_spikes_widen_them(tmp_path: Path) -> None:
    """Recording begins before the first trial of a block, and outlasts its last."""
    truth = Restarting()

    def layout(file: NWBFile) -> None:
        add_units(file, [truth.written(times) for times in truth.units])
        starts = truth.trials[truth.written(truth.trials) % 100 < 60]
        for start in truth.written(starts):
            file.add_trial(start_time=start, stop_time=start + 3.5)

    result = session(tmp_path, layout, repairs=["clock_restarts"])
    times, units = result.spike_arrays()
    shifts = np.array(result.intervals["clock_blocks"]["shift"])
    for row, true in enumerate(truth.units):
        expected = truth.written(true) + shifts[truth.block(true)]
        np.testing.assert_allclose(times[units == row], expected, rtol=0, atol=1e-9)
    trials = result.intervals["trials"].to_pydict()
    assert np.all(np.array(trials["stop"])[:-1] <= np.array(trials["start"])[1:])
