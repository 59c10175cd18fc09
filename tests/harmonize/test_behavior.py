"""docs/policies.md, Behavior and Names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBFile, TimeSeries

from tests.support.one_file import Layout, prepared, reason, series, session


def test_a_raw_signal_is_kept_where_the_spec_names_it(tmp_path: Path) -> None:
    layout = series(data=np.arange(30_000.0), rate=30_000.0)
    assert not session(tmp_path, layout).behavior
    named = session(tmp_path, layout, behavior=[{"path": "acquisition/x", "name": "sync"}])
    assert named.behavior["sync"].shape == (30_000, 1)


def respelled(data: np.ndarray, timestamps: np.ndarray) -> Layout:
    """A series with arrays that pynwb would not write."""
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
    result = session(tmp_path, layout, behavior=behavior)
    np.testing.assert_array_equal(result.behavior_arrays("x")[1], data.T)


def test_unit_and_conversion_of_the_spec_replace_the_files(tmp_path: Path) -> None:
    layout = series(data=np.arange(20.0), rate=10.0, conversion=float("nan"))
    behavior = [{"path": "acquisition/x", "unit": "cm", "conversion": 0.5}]
    result = session(tmp_path, layout, behavior=behavior)
    np.testing.assert_allclose(result.behavior_arrays("x")[1][:, 0], np.arange(20.0) * 0.005)


@pytest.mark.parametrize("start", [np.nan, np.inf])
def test_a_series_that_starts_at_no_time_is_left(start: float, tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0, starting_time=start)(file)
        file.add_acquisition(TimeSeries(name="y", unit="m", data=np.zeros(9), rate=10.0))

    result = session(tmp_path, layout)
    assert list(result.behavior) == ["y"]
    assert any(
        left.path == "acquisition/x" and "starting time" in left.reason
        for left in result.metadata.left
    )


def test_infinite_values_are_kept_and_counted(tmp_path: Path) -> None:
    result = session(tmp_path, series(data=np.array([1.0, np.inf, -np.inf, 2.0]), rate=10.0))
    assert result.behavior_arrays("x")[1][:, 0].tolist() == [1.0, np.inf, -np.inf, 2.0]
    assert "acquisition/x: 2 of 4 samples hold infinity; kept" in result.metadata.notes
    assert not any("another unit" in note for note in result.metadata.notes)


def test_large_values_are_not_noted_if_the_spec_says_their_unit(tmp_path: Path) -> None:
    layout = series(data=np.arange(120.0), rate=10.0)
    assert any("another unit" in note for note in session(tmp_path, layout).metadata.notes)
    listed = session(tmp_path, layout, behavior=[{"path": "acquisition/x", "unit": "m"}])
    assert not any("another unit" in note for note in listed.metadata.notes)


def test_two_behaviors_of_one_name_are_refused(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0)(file)
        file.add_acquisition(TimeSeries(name="y", unit="m", data=np.zeros(9), rate=10.0))

    behavior = [{"path": f"acquisition/{name}", "name": "hand"} for name in "xy"]
    assert "two behaviors would be called 'hand'" in reason(tmp_path, layout, behavior=behavior)


def test_names_that_become_too_long_when_they_are_made_distinct(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        series(data=np.arange(9.0), rate=10.0)(file)
        for letter in "ab":
            one = TimeSeries(name="s" * 150, unit="m", data=np.zeros(9), rate=10.0)
            file.create_processing_module(letter * 150, "x").add(one)

    result = session(tmp_path, layout)
    assert list(result.behavior) == ["x"]
    assert sum("letters" in left.reason for left in result.metadata.left) == 2
    path = f"processing/{'a' * 150}/{'s' * 150}"
    named = session(tmp_path, layout, behavior=[{"path": path, "name": "short"}])
    assert list(named.behavior) == ["short"]


def test_a_series_on_another_clock_is_outside_the_domain(tmp_path: Path) -> None:
    """A video with timestamps in seconds since 1970."""
    layout = series(data=np.arange(9.0), timestamps=1.6e9 + np.arange(9.0))
    result = session(tmp_path, layout)
    assert result.domain.stop[-1] < 100
    assert result.behavior["x"].shape == (9, 1)
    assert any("another clock" in note for note in result.metadata.notes)
