"""docs/policies.md: clocks in other units, rates that are no rate, wavering, axes exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynwb import NWBFile, TimeSeries

from neurobrick.clock import Clock
from neurobrick.harmonize.domain import LONG, doubts
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import JUMP, Blocks
from neurobrick.harmonize.spikes import MAX_SPAN_RATIO
from neurobrick.harmonize.timestamps import FEW_FALLS, MOST_FALLS, sample_times
from neurobrick.readers.raw import RawSeries
from neurobrick.registry import BehaviorSpec
from neurobrick.schema import Series
from tests.harmonize.test_clock_restarts import Restarting
from tests.support.labs import SECONDS, add_units
from tests.support.one_file import (
    Layout,
    left,
    notes_of,
    of_units,
    reason,
    series,
    session,
    spikes,
    with_attribute,
)

PATH = "acquisition/x"
N = 1000
UNITS = {"milliseconds": 1e-3, "ms": 1e-3, "microseconds": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9,
         "minutes": 60.0}  # fmt: skip


def stamped(unit: str, seconds: float) -> Layout:
    """N samples in 20 s, with timestamps in a unit of so many seconds, and a unit that fires."""
    stamps = np.arange(N) / 50 / seconds
    layout = series(data=np.arange(float(N)), timestamps=stamps)
    return with_attribute(layout, f"{PATH}/timestamps", unit=unit)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "seconds"), UNITS.items())
def test_declared_timestamps_in_another_unit_of_time(
    unit: str, seconds: float, tmp_path: Path
) -> None:
    result = session(tmp_path, stamped(unit, seconds))
    stamps, _ = result.behavior_arrays("x")
    np.testing.assert_allclose(stamps, np.arange(N) / 50, rtol=1e-15, atol=1e-12)
    assert result.domain.span[1] == pytest.approx(SECONDS, abs=0.1)
    assert notes_of(result, f"timestamps are in {unit}: brought to seconds")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["seconds", "Seconds", "sec", "s", "", " "])
def test_declared_seconds_are_not_noted(unit: str, tmp_path: Path) -> None:
    result = session(tmp_path, stamped(unit, 1.0))
    assert result.behavior["x"].shape == (N, 1)
    assert not notes_of(result, "timestamps")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["samples", "frames", "S", "m", "n.a."])
def test_timestamps_in_no_unit_of_time_are_left(unit: str, tmp_path: Path) -> None:
    result = session(tmp_path, stamped(unit, 1.0))
    assert left(result) == {PATH: f"its clock is in {unit!r}, not in seconds"}


def test_a_rate_with_a_start_in_milliseconds_is_left(tmp_path: Path) -> None:
    """The rate may then be one of samples a millisecond."""
    layout = series(data=np.zeros(N), rate=50.0, starting_time=0.0)
    layout = with_attribute(layout, f"{PATH}/starting_time", unit="milliseconds")
    assert "its clock is in 'milliseconds'" in left(session(tmp_path, layout))[PATH]


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "seconds"), UNITS.items())
def test_declared_spike_times_in_another_unit_of_time(
    unit: str, seconds: float, tmp_path: Path
) -> None:
    times = spikes()
    layout = with_attribute(of_units(times / seconds), "units/spike_times", unit=unit)
    result = session(tmp_path, layout)
    np.testing.assert_allclose(result.spike_arrays()[0], times, rtol=1e-15, atol=1e-12)
    assert notes_of(result, f"spike times are in {unit}: divided by")


def test_spike_times_in_no_unit_of_time_are_refused(tmp_path: Path) -> None:
    times = spikes()
    layout = with_attribute(of_units(times), "units/spike_times", unit="frames")
    message = reason(tmp_path, layout)
    assert "'frames'" in message
    assert "time_unit" in message
    result = session(tmp_path, layout, units={"time_unit": "s"})
    np.testing.assert_array_equal(result.spike_arrays()[0], times)


WRONG_CLOCKS = {
    "a bin width of 20 ms for a rate": {"rate": 0.02},
    "a rate in kHz": {"rate": 0.05},
    "milliseconds that are declared as seconds": {"timestamps": np.arange(N) * 20.0},
    "samples of 30 kHz that are declared as seconds": {"timestamps": np.arange(N) * 600.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("clock", WRONG_CLOCKS.values(), ids=WRONG_CLOCKS)
def test_a_series_hundreds_of_times_longer_than_the_spikes(
    clock: dict[str, object], tmp_path: Path
) -> None:
    """Left by discovery. A spec that lists it keeps it, and it is noted."""
    layout = series(data=np.arange(float(N)), **clock)
    result = session(tmp_path / "discovered", layout)
    assert "its times span" in left(result)[PATH]
    assert result.domain.span[1] < SECONDS + 1
    listed = session(tmp_path / "listed", layout, behavior=[{"path": PATH}])
    assert listed.behavior["x"].shape == (N, 1)
    assert notes_of(listed, "perhaps its clock is not in seconds")
    assert listed.target is None


@given(st.floats(0.1, 5000.0))
def test_how_long_a_series_may_be(ratio: float) -> None:
    times = np.linspace(0.0, 60.0, 100)
    stamps = np.linspace(0.0, 60.0 * ratio, 50)
    behavior = {"x": Series(stamps, np.zeros((50, 1)), "m", "x", "m")}
    assert bool(doubts(times, behavior, {}).left) == (stamps[-1] > MAX_SPAN_RATIO * times[-1])


@pytest.mark.parametrize("few", [1, 19])
def test_few_spikes_say_nothing_about_other_clocks(few: int, tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        add_units(file, [np.linspace(0.001, 0.01, few)])
        file.add_acquisition(TimeSeries(name="x", unit="m", data=np.zeros(N), rate=10.0))

    result = session(tmp_path, layout)
    assert list(result.behavior) == ["x"]
    assert not result.metadata.notes


def test_whatever_lasts_several_times_longer_than_the_spikes_is_noted(tmp_path: Path) -> None:
    """A series, a table, the units' own intervals: each stretches the session's domain."""
    times = spikes(20.0)
    long = 20.0 * (LONG + 1)

    def of_series(file: NWBFile) -> None:
        add_units(file, [times])
        rate = N / long
        file.add_acquisition(TimeSeries(name="x", unit="m", data=np.zeros(N), rate=rate))

    def of_table(file: NWBFile) -> None:
        add_units(file, [times])
        file.add_trial(start_time=0.0, stop_time=long)

    def of_intervals(file: NWBFile) -> None:
        file.add_unit(spike_times=times, obs_intervals=[[0.0, long]])

    for layout, name in (
        (of_series, PATH),
        (of_table, "trials"),
        (of_intervals, "the units' obs_intervals"),
    ):
        result = session(tmp_path / layout.__name__, layout)
        (note,) = notes_of(result, "times as long as the spikes")
        assert note.startswith(f"{name}: lasts 80 s")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 3000), (1, 3000), (20, 3000), (2, 2, 1500)])
def test_time_along_the_last_axis_is_noted_and_no_target(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """With a rate, no count of timestamps contradicts the axes."""
    data = np.random.default_rng(0).normal(size=shape)

    def layout(file: NWBFile) -> None:
        add_units(file, [spikes(60.0)])
        for name in ("hand_vel", "emg"):
            one = data if name == "hand_vel" else np.zeros(shape[-1])
            file.add_acquisition(TimeSeries(name=name, unit="m/s", data=one, rate=50.0))

    result = session(tmp_path / "a", layout)
    (note,) = notes_of(result, "repairs: [transpose]")
    assert note.startswith(f"acquisition/hand_vel: {shape[0]} samples of")
    assert result.target is None
    path = "acquisition/hand_vel"
    repaired = session(tmp_path / "b", layout, behavior=[{"path": path, "repairs": ["transpose"]}])
    assert repaired.behavior["hand_vel"].shape[0] == shape[-1]
    assert repaired.target == "hand_vel"
    named = session(tmp_path / "c", layout, target="hand_vel")
    assert named.target == "hand_vel"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 5000), (3, 2, 2500)])
def test_a_long_series_with_time_along_the_last_axis(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Left as too wide, with the repair, which keeps it."""
    layout = series(data=np.random.default_rng(0).normal(size=shape), rate=250.0)
    (why,) = left(session(tmp_path / "a", layout)).values()
    assert "repairs: [transpose]" in why
    behavior = [{"path": PATH, "repairs": ["transpose"]}]
    result = session(tmp_path / "b", layout, behavior=behavior)
    assert result.behavior["x"].shape[0] == shape[-1]


def test_few_samples_of_many_values_are_not_suspected_where_they_fill_the_session(
    tmp_path: Path,
) -> None:
    layout = series(data=np.zeros((40, 64)), rate=2.0)
    result = session(tmp_path, layout)
    assert result.target == "x"
    assert not result.metadata.notes


def wavering(stamps: np.ndarray) -> RawSeries:
    return RawSeries(
        path="x",
        type="TimeSeries",
        shape=stamps.shape,
        unit="m",
        data=lambda: np.zeros(len(stamps)),
        timestamps=lambda: stamps,
    )


@given(
    n=st.integers(2, 400),
    falls=st.dictionaries(st.integers(1, 399), st.floats(0.001, 1.5), max_size=8),
)
def test_timestamps_that_waver_are_sorted_and_others_left(n: int, falls: dict[int, float]) -> None:
    """Falls of less than a second, a few times: a camera. Longer or more: no clock."""
    stamps = np.arange(n) * 0.04
    for row, fall in falls.items():
        if row < n:
            stamps[row] = stamps[row - 1] - fall
    steps = np.diff(stamps)
    few = np.sum(steps < 0) <= max(FEW_FALLS, MOST_FALLS * len(steps))
    ledger = Ledger()
    times = sample_times(wavering(stamps), BehaviorSpec(path="x"), (n,), None, ledger)
    if np.any(steps <= -JUMP) or not few:
        assert times is None
        assert f"backwards {np.sum(steps < 0)} times" in ledger.left[0].reason
        return
    assert times is not None
    rows = np.arange(n) if times.rows is None else times.rows
    np.testing.assert_array_equal(np.sort(rows), np.arange(n))
    np.testing.assert_array_equal(times.stamps, stamps[rows])
    assert np.all(np.diff(times.stamps) >= 0)
    if np.any(steps < 0):
        (note,) = ledger.notes
        assert f"fall {np.sum(steps < 0)} times, by at most {-steps.min():.3g} s" in note


def test_the_values_of_a_wavering_camera_follow_their_times(tmp_path: Path) -> None:
    stamps = np.arange(500) / 25
    stamps[[100, 300]] -= 0.2
    result = session(tmp_path, series(data=stamps * 2, timestamps=stamps))
    times, values = result.behavior_arrays("x")
    np.testing.assert_array_equal(times, np.sort(stamps))
    np.testing.assert_array_equal(values[:, 0], times * 2)
    assert notes_of(result, "fall 2 times, by at most 0.16 s; sorted by time")


def test_a_wavering_series_is_laid_into_its_blocks(tmp_path: Path) -> None:
    truth = Restarting()
    stamps = truth.written(truth.samples)
    rows = np.array([200, 1500])
    stamps[rows] -= 0.35

    def layout(file: NWBFile) -> None:
        truth.layout(file)
        file.add_acquisition(
            TimeSeries(name="cam", data=np.arange(float(len(stamps))), unit="m", timestamps=stamps)
        )

    result = session(tmp_path, layout, repairs=["clock_restarts"])
    steady, _ = result.behavior_arrays("hand")
    expected = steady.copy()
    expected[rows] -= 0.35
    times, values = result.behavior_arrays("cam")
    np.testing.assert_allclose(times, np.sort(expected), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(values[:, 0], np.argsort(expected, kind="stable"))


def test_blocks_are_found_in_seconds_whatever_the_spikes_are_in(tmp_path: Path) -> None:
    """Spikes in samples show as many restarts as the series; their ends are no ends in seconds."""
    truth = Restarting()

    def layout(file: NWBFile) -> None:
        add_units(file, [np.rint(truth.written(times) * 30000) for times in truth.units])
        file.add_acquisition(
            TimeSeries(
                name="hand",
                data=np.zeros(len(truth.samples)),
                unit="m",
                timestamps=truth.written(truth.samples),
            )
        )

    units = {"time_unit": "samples", "rate": 30000}
    result = session(tmp_path, layout, units=units, repairs=["clock_restarts"])
    times, rows = result.spike_arrays()
    shift = np.array(result.intervals["clock_blocks"]["shift"])
    for row, true in enumerate(truth.units):
        expected = truth.written(true) + shift[truth.block(true)]
        np.testing.assert_allclose(times[rows == row], expected, rtol=0, atol=1e-4)


def test_repeated_timestamps_are_kept_and_gaps_are_found_among_them(tmp_path: Path) -> None:
    stamps = np.repeat(np.delete(np.arange(400) / 50, np.arange(200, 250)), 3)
    layout = series(data=np.arange(float(len(stamps))), timestamps=stamps)
    result = session(tmp_path, layout)
    np.testing.assert_array_equal(result.behavior_arrays("x")[0], stamps)
    assert notes_of(result, "700 samples share a time; kept")
    assert notes_of(result, "1 gaps, the longest 1.02 s")


def test_clocks_and_blocks_agree_about_a_declared_rate() -> None:
    """A series with a rate that fits one block is moved with it, and has no clock any more."""
    raw = RawSeries("x", "", (100,), "m", lambda: np.zeros(100), rate=10.0, starting_time=200.0)
    blocks = Blocks(np.array([0.0, 150.0]), np.array([100.0, 300.0]))
    times = sample_times(raw, BehaviorSpec(path="x"), (100,), blocks, Ledger())
    assert times is not None
    assert times.clock is None
    expected = Clock(10.0, 200.0).times(np.arange(100)) + blocks.shift[1]
    np.testing.assert_array_equal(times.stamps, expected)
