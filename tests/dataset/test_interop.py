"""The objects of other libraries hold the same spikes, samples and rows as the slice."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pynwb import NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals

from neurobrick import (
    BehaviorInfo,
    BehaviorSlice,
    Dataset,
    Intervals,
    NeurobrickError,
    Slice,
    Spikes,
)
from neurobrick.dataset import interop
from tests.conftest import prepare_files
from tests.support.layouts import SECONDS, write

NOTHING = ((5.0, 5.0), (-20.0, -10.0), (900.0, 901.0))  # an empty window, one before, one after

# Names of entries of the three libraries, and of the dimensions of each other. Sorted.
CLASHING = (
    "behavior.time_time", "counts", "pos", "pos_time", "spikes", "time", "trials", "unit", "units",
)  # fmt: skip


@pytest.fixture
def window(corpus: Dataset) -> Slice:
    return corpus.slice("local/sub-A_ses-with-gaps", 4.0, 9.0)


@pytest.fixture(scope="module")
def clashing(tmp_path_factory: pytest.TempPathFactory) -> Slice:
    """Behavior and tables with the names that entries of the three libraries have."""

    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=np.sort(rng.uniform(0, SECONDS, 300)))
        module = file.create_processing_module("behavior", "all sorts")
        for k, name in enumerate(CLASHING):
            data = np.full((300, 1 + k), float(k))
            module.add(TimeSeries(name=name, data=data, unit="m", rate=10.0, starting_time=0.0))
        for k, name in enumerate(("spikes", "units", "counts"), start=1):
            table = TimeIntervals(name=name, description="a table")
            for row in range(k):
                table.add_interval(start_time=float(row), stop_time=row + 0.5)
            file.add_time_intervals(table)
        file.add_trial(start_time=0.0, stop_time=30.0)

    folder = tmp_path_factory.mktemp("clashing")
    prepare_files(folder / "corpus", write(folder / "sub-A_ses-clashing.nwb", layout))
    return Dataset(folder / "corpus").slice("local/sub-A_ses-clashing", 0.0, 10.0)


def test_pandas_holds_spikes_and_behavior(window: Slice) -> None:
    found = interop.to_pandas(window)
    assert set(found) == {"spikes", "units", "hand_vel", "trials"}
    spikes = found["spikes"]
    assert list(spikes.columns) == ["time", "unit"]
    np.testing.assert_array_equal(spikes["time"], window.spikes.times)
    np.testing.assert_array_equal(spikes["unit"], window.spikes.units)
    assert spikes.dtypes.to_list() == [np.float64, np.int32]
    velocity = found["hand_vel"]
    assert velocity.attrs["unit"] == "m/s"
    assert velocity.index.name == "time"
    assert list(velocity.columns) == ["x", "y"]
    np.testing.assert_array_equal(velocity.index, window.behavior["hand_vel"].timestamps)
    np.testing.assert_array_equal(velocity, window.behavior["hand_vel"].values)
    # What a user does with them: unit ids of the spikes, by the row that the spikes name.
    ids = spikes.join(found["units"], on="unit")["id"]
    np.testing.assert_array_equal(ids, 1031 + 10 * window.spikes.units)
    assert found["units"]["heldout"].to_list() == [True, False, True, False, True]


def test_pandas_holds_strings_numbers_and_ragged_columns(corpus: Dataset) -> None:
    trials = interop.to_pandas(corpus.slice("local/sub-A_ses-regular", 4.0, 9.0))["trials"]
    assert trials["start"].to_list() == [4.0, 6.0, 8.0]
    assert trials["stop"].to_list() == [5.5, 7.5, 9.5]
    assert trials["result"].to_list() == ["F", "R", "A"]
    np.testing.assert_array_equal(trials["target_dir"], [2 / 7, np.nan, 4 / 7])
    epochs = interop.to_pandas(corpus.slice("local/sub-A_ses-irregular", 0.0, 30.0))["epochs"]
    assert [list(tags) for tags in epochs["tags"]] == [["run", "maze"], ["rest"]]
    units = interop.to_pandas(corpus.slice("local/sub-A_ses-shared-names", 0.0, 30.0))["units"]
    assert [list(electrodes) for electrodes in units["electrodes"]] == [[0], [1], [2], [3]]
    assert units["area"].to_list() == ["M1", "M1", "PMd", "PMd"]


def test_frames_are_copies(window: Slice) -> None:
    before = window.spikes.times.copy(), window.behavior["hand_vel"].values.copy()
    found = interop.to_pandas(window)
    found["spikes"]["time"] -= 4.0
    found["spikes"].iloc[0, 1] = 3
    found["hand_vel"].iloc[0, 0] = -1.0
    found["hand_vel"] *= 100
    found["trials"].loc[:, "start"] = 0.0
    found["units"].iloc[0, 0] = 7
    np.testing.assert_array_equal(window.spikes.times, before[0])
    np.testing.assert_array_equal(window.behavior["hand_vel"].values, before[1])
    assert window.intervals["trials"]["start"].to_pylist()[0] > 3
    assert window.units["id"].to_pylist()[0] == 1031


@pytest.mark.parametrize("edges", NOTHING)
def test_pandas_of_nothing_has_the_columns_of_something(
    corpus: Dataset, edges: tuple[float, float]
) -> None:
    some = interop.to_pandas(corpus.slice("local/sub-A_ses-regular", 4.0, 9.0))
    none = interop.to_pandas(corpus.slice("local/sub-A_ses-regular", *edges))
    assert set(none) == set(some)
    for name, frame in none.items():
        assert list(frame.columns) == list(some[name].columns)
        assert frame.dtypes.to_list() == some[name].dtypes.to_list()
        assert frame.index.name == some[name].index.name
        assert frame.attrs == some[name].attrs
    assert len(none["units"]) == 6
    assert len(none["spikes"]) == len(none["cursor_pos"]) == 0


@pytest.mark.slow
def test_pynapple(window: Slice) -> None:
    pytest.importorskip("pynapple")
    found = window.to_pynapple()
    assert set(found) == {"units", "hand_vel", "trials"}
    for unit in range(5):
        mine = window.spikes.times[window.spikes.units == unit]
        np.testing.assert_allclose(found["units"][unit].times(), mine, atol=1e-9)
    assert found["units"].time_support.values.tolist() == [[4.0, 9.0]]
    velocity = window.behavior["hand_vel"]
    np.testing.assert_array_equal(found["hand_vel"].values, velocity.values)
    np.testing.assert_allclose(found["hand_vel"].times(), velocity.timestamps, atol=1e-9)
    assert list(found["hand_vel"].columns) == ["x", "y"]
    trials = window.intervals["trials"]
    np.testing.assert_array_equal(found["trials"].start, trials["start"])
    np.testing.assert_array_equal(found["trials"].end, trials["stop"])


def test_pynapple_shortens_intervals_that_touch(corpus: Dataset) -> None:
    window = corpus.slice("local/sub-A_ses-irregular", 0.0, 30.0)
    with pytest.warns(UserWarning, match="1 microsecond"):
        epochs = window.to_pynapple()["epochs"]
    np.testing.assert_allclose(epochs.values, [[0.0, 12.0], [12.0, 30.0]], atol=1.01e-6)


# Rows as files have them, and those that an IntervalSet can hold, in their order.
TABLES: dict[str, tuple[list[tuple[float, float]], list[int] | None]] = {
    "in order": ([(0, 1), (2, 3), (5, 6)], [0, 1, 2]),
    "out of order": ([(5, 6), (0, 1), (2, 3)], [1, 2, 0]),
    "some without duration": ([(5, 6), (3, 3), (0, 1), (7, 7)], [2, 0]),
    "all without duration": ([(3, 3), (1, 1)], []),
    "overlapping": ([(0, 3), (2, 4)], None),
    "one in another": ([(1, 2), (0, 3)], None),
    "the same twice": ([(0, 3), (0, 3)], None),
    "none": ([], []),
}


class Recording:
    """A window with tables of one's own."""

    t0, t1, session_id = 0.0, 10.0, "a/b"

    def __init__(self, units: pa.Table, trials: pa.Table, labels: tuple[str, ...] = ("x", "y")):
        self.units = units
        self.intervals = {"trials": trials}
        self.spikes = Spikes(np.arange(10.0), np.zeros(10, np.int32))
        self.behavior = {"pos": BehaviorSlice(np.arange(5.0), np.ones((5, len(labels))))}
        info = BehaviorInfo("pos", (5, 2), 1.0, Intervals(), "m", "pos", "cm", labels, "")
        self.behavior_info = {"pos": info}

    def bin(self, width: float) -> np.ndarray:
        return np.zeros((round(10 / width), self.units.num_rows), np.int32)


UNITS = pa.table(
    {
        "area": ["M1", None],
        "rate": [1.0, 2.0],
        "SNR max": [0.5, float("nan")],
        "electrodes": [[1, 2], [3]],
        "count": [5, 6],
    }
)


def trials(rows: list[tuple[float, float]]) -> pa.Table:
    start, stop = ([float(row[k]) for row in rows] for k in (0, 1))
    tags = pa.array([f"t{k}" for k in range(len(rows))], pa.string())
    lists = pa.array([[k, k + 1] for k in range(len(rows))], pa.list_(pa.int64()))
    edges = {"start": pa.array(start, pa.float64()), "stop": pa.array(stop, pa.float64())}
    return pa.table({**edges, "tag": tags, "end": tags, "lists": lists})


@pytest.mark.parametrize("kind", TABLES)
def test_pynapple_holds_every_row_that_it_can(kind: str) -> None:
    """Sorted, with its columns; what is left out is said."""
    rows, kept = TABLES[kind]
    window = Recording(UNITS, trials(rows))
    complete = kept is not None and len(kept) == len(rows)
    with contextlib.nullcontext() if complete else pytest.warns(UserWarning, match="to_pynapple"):
        found = interop.to_pynapple(window)
    if kept is None:
        assert "trials" not in found
        return
    intervals = found["trials"]
    np.testing.assert_array_equal(intervals.values, np.reshape([rows[k] for k in kept], (-1, 2)))
    for name in ("tag", "end"):
        assert list(intervals.get_info(name)) == [f"t{k}" for k in kept]
    assert [list(row) for row in intervals.get_info("lists")] == [[k, k + 1] for k in kept]


def test_pynapple_holds_the_columns_of_units_and_the_unit_of_behavior() -> None:
    found = interop.to_pynapple(Recording(UNITS, trials([])))
    metadata = found["units"].metadata
    assert metadata["area"][0] == "M1"
    assert metadata["area"].isna().to_list() == [False, True]
    assert metadata["rate_in_file"].to_list() == [1.0, 2.0]
    np.testing.assert_array_equal(metadata["SNR max"], [0.5, np.nan])
    assert [list(row) for row in metadata["electrodes"]] == [[1, 2], [3]]
    assert metadata["count"].to_list() == [5, 6]
    assert list(found["pos"].get_info("unit")) == ["m", "m"]
    labels = interop.to_pynapple(Recording(UNITS, trials([]), ("x", "unit")))["pos"]
    assert list(labels.get_info("behavior.unit")) == ["m", "m"]


def test_xarray_holds_the_columns_of_units_and_tables() -> None:
    rows = TABLES["one in another"][0]
    found = interop.to_xarray(Recording(UNITS, trials(rows)), 0.5)
    assert found["area"].dims == found["SNR max"].dims == ("unit",)
    assert found["area"].values[0] == "M1"
    assert found["count"].values.tolist() == [5, 6]
    assert set(found.coords) == {
        *("time", "unit", "pos_time", "pos_column"),
        *("area", "rate", "SNR max", "count"),
        *("trials.start", "trials.stop", "trials.tag", "trials.end"),
    }
    assert found["trials.start"].dims == ("trials_row",)
    np.testing.assert_array_equal(found["trials.start"], [row[0] for row in rows])
    assert found["trials.tag"].values.tolist() == ["t0", "t1"]
    by_area = found.counts.groupby("area").sum()
    assert by_area.area.values.tolist() == ["M1"]


@pytest.mark.parametrize("edges", NOTHING)
def test_pynapple_of_nothing(corpus: Dataset, edges: tuple[float, float]) -> None:
    found = corpus.slice("local/sub-A_ses-regular", *edges).to_pynapple()
    assert list(found["units"]) == list(range(6))
    assert all(len(found["units"][unit]) == 0 for unit in range(6))
    assert found["cursor_pos"].shape == (0, 2)
    assert found["units"].time_support.tot_length() == edges[1] - edges[0]


def test_xarray(window: Slice) -> None:
    pytest.importorskip("xarray")
    found = window.to_xarray(0.05)
    np.testing.assert_array_equal(found.counts.values, window.bin(0.05))
    assert found.counts.time.values[0] == pytest.approx(4.025)
    assert found.counts.time.values[-1] == pytest.approx(8.975)
    assert found.counts.unit.values.tolist() == [0, 1, 2, 3, 4]
    assert found.hand_vel.attrs["units"] == "m/s"
    assert found.hand_vel.hand_vel_column.values.tolist() == ["x", "y"]
    assert found.attrs["session"] == "local/sub-A_ses-with-gaps"
    np.testing.assert_array_equal(found.hand_vel, window.behavior["hand_vel"].values)
    np.testing.assert_array_equal(
        found.hand_vel.hand_vel_time, window.behavior["hand_vel"].timestamps
    )


@pytest.mark.parametrize("edges", NOTHING)
def test_xarray_of_nothing(corpus: Dataset, edges: tuple[float, float]) -> None:
    found = corpus.slice("local/sub-A_ses-regular", *edges).to_xarray(0.1)
    assert found.counts.shape == (round((edges[1] - edges[0]) / 0.1), 6)
    assert not found.counts.any()
    assert found.cursor_pos.shape == (0, 2)
    assert found.cursor_pos.attrs["units"] == "m"


def test_xarray_needs_a_bin(window: Slice) -> None:
    with pytest.raises(ValueError, match="positive"):
        window.to_xarray(0.0)


def test_no_frame_replaces_another(clashing: Slice) -> None:
    found = interop.to_pandas(clashing)
    assert {name: frame.shape for name, frame in found.items()} == {
        "spikes": (len(clashing.spikes), 2),
        "units": (1, 1),
        "behavior.time_time": (100, 1),
        "counts": (100, 2),
        "pos": (100, 3),
        "pos_time": (100, 4),
        "behavior.spikes": (100, 5),
        "time": (100, 6),
        "trials": (100, 7),
        "unit": (100, 8),
        "behavior.units": (100, 9),
        "intervals.spikes": (1, 3),
        "intervals.units": (2, 3),
        "intervals.counts": (3, 3),
        "intervals.trials": (1, 3),
    }


def test_no_pynapple_object_replaces_another(clashing: Slice) -> None:
    found = clashing.to_pynapple()
    assert {name: type(thing).__name__ for name, thing in found.items()} == {
        "units": "TsGroup",
        **dict.fromkeys(CLASHING[:-1], "TsdFrame"),
        "behavior.units": "TsdFrame",
        **{f"intervals.{name}": "IntervalSet" for name in ("spikes", "units", "counts", "trials")},
    }
    for k, name in enumerate(CLASHING):
        frame = found["behavior.units" if name == "units" else name]
        assert frame.shape == (100, 1 + k)
    assert len(found["intervals.counts"]) == 3


def test_no_xarray_variable_or_dimension_replaces_another(clashing: Slice) -> None:
    found = clashing.to_xarray(0.1)
    names = {name: name for name in CLASHING}
    for name in ("counts", "pos_time", "unit"):
        names[name] = f"behavior.{name}"
    names["time"] = "behavior.behavior.time"  # behavior.time's own time would be behavior.time_time
    assert set(found.data_vars) == {"counts", *names.values()}
    assert found.counts.dims == ("time", "unit")
    for k, name in enumerate(CLASHING):
        key = names[name]
        assert found[key].dims == (f"{key}_time", f"{key}_column")
        assert found[key].shape == (100, 1 + k)
        np.testing.assert_array_equal(found[key], k)


@pytest.mark.parametrize(
    ("library", "convert"),
    [
        ("pandas", interop.to_pandas),
        ("pynapple", interop.to_pynapple),
        ("xarray", lambda window: interop.to_xarray(window, 0.1)),
    ],
)
def test_a_missing_library_is_named(
    window: Slice, library: str, convert: Callable[[Slice], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(NeurobrickError, match=rf"{library}: pip install 'neurobrick\[interop\]'"):
        convert(window)
