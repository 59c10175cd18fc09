"""No column, table or digit is lost without a note: docs/policies.md, Names and Behavior."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from neurobrick.harmonize.behavior import in_schema
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import unused_name
from neurobrick.readers.raw import RawSeries
from neurobrick.registry import BehaviorSpec
from neurobrick.schema import Series
from tests.harmonize.test_clock_restarts import Restarting
from tests.support.labs import add_units, trains
from tests.support.one_file import left, notes_of, series, session

NAMES = ["start", "stop", "start_in_file", "stop_in_file", "start_in_file_2"]


def harmonized(data: np.ndarray, **fields: float) -> tuple[Series, list[str]]:
    """The series that `data` at 10 Hz become, and the notes."""
    raw = RawSeries("x", "", data.shape, "AU", lambda: data, rate=10.0, **fields)
    ledger = Ledger()
    result = in_schema(raw, BehaviorSpec(path="x"), None, ledger)
    assert result is not None
    return result, [note for note in ledger.notes if "unit" not in note]


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:2], NAMES[:3], NAMES, NAMES[2:], ["id2"]])
def test_every_column_of_a_table_is_kept(names: list[str], tmp_path: Path) -> None:
    """A table's times are called start and stop in the store, whatever else the file calls so."""

    def layout(file: NWBFile) -> None:
        add_units(file, trains(np.random.default_rng(0), 1))
        table = TimeIntervals(name="trials", description="x")
        for k in range(3):
            table.add_interval(start_time=float(k), stop_time=k + 0.5)
        for column, name in enumerate(names):
            table.add_column(name, "x", data=[100 * column + k for k in range(3)])
        file.add_time_intervals(table)

    result = session(tmp_path, layout)
    table = result.intervals["trials"]
    assert table["start"].to_pylist() == [0.0, 1.0, 2.0]
    columns = [table[name].to_pylist() for name in table.column_names]
    for column, name in enumerate(names):
        assert [100 * column + k for k in range(3)] in columns
        renamed = name in ("start", "stop")
        assert bool(notes_of(result, f"the file's column {name} is called")) == renamed


@given(st.sets(st.sampled_from(["a_in_file", "a_in_file_2", "a_in_file_3", "a", "b"])))
def test_a_new_name_is_unused(used: set[str]) -> None:
    assert unused_name("a", used) not in used
    assert unused_name("a", used).startswith("a_in_file")


def test_a_files_own_table_of_blocks_is_kept(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> None:
        Restarting().layout(file)
        table = TimeIntervals(name="clock_blocks", description="the lab's own")
        table.add_interval(start_time=5.0, stop_time=90.0)
        table.add_interval(start_time=4.0, stop_time=139.0)
        table.add_interval(start_time=3.0, stop_time=91.0)
        file.add_time_intervals(table)

    result = session(tmp_path, layout, repairs=["clock_restarts"])
    assert result.intervals["clock_blocks"].column_names == ["start", "stop", "shift"]
    assert result.intervals["clock_blocks_in_file"].num_rows == 3
    assert notes_of(result, "the file's table clock_blocks is called clock_blocks_in_file here")


def with_electrodes(own: list[str] | None) -> Callable[[NWBFile], None]:
    """Two units on electrodes in M1 and PMd, with the column `area` of their own, if given."""

    def layout(file: NWBFile) -> None:
        device = file.create_device("array")
        for area in ("M1", "PMd"):
            group = file.create_electrode_group(area, "x", area, device)
            file.add_electrode(group=group, location=area, x=1.0, y=2.0, z=3.0)
        columns: dict[str, list[object]] = {"electrodes": [[0], [1]]}
        if own is not None:
            file.add_unit_column("area", "x")
            columns["area"] = list(own)
        add_units(file, trains(np.random.default_rng(0), 2), **columns)

    return layout


@pytest.mark.parametrize("own", [None, ["M1", "PMd"], ["arm", "leg"]])
def test_units_keep_their_own_area_and_that_of_their_electrodes(
    own: list[str] | None, tmp_path: Path
) -> None:
    result = session(tmp_path, with_electrodes(own))
    assert result.units["area"].to_pylist() == (own or ["M1", "PMd"])
    noted = notes_of(result, "the electrodes' location is called area_of_electrodes")
    assert bool(noted) == (own == ["arm", "leg"])
    if noted:
        assert result.units["area_of_electrodes"].to_pylist() == ["M1", "PMd"]


def test_other_columns_of_electrodes_are_listed_as_left(tmp_path: Path) -> None:
    (why,) = (r for p, r in left(session(tmp_path, with_electrodes(None))).items()
              if p.endswith("electrodes"))  # fmt: skip
    assert "x, y, z" in why
    assert "only location, group_name are kept, with the units" in why


def test_electrodes_that_no_unit_names_are_listed_as_left(tmp_path: Path) -> None:
    def layout(file: NWBFile) -> Callable[[h5py.File], None]:
        with_electrodes(None)(file)

        def without(saved: h5py.File) -> None:
            del saved["units/electrodes"], saved["units/electrodes_index"]
            saved["units"].attrs["colnames"] = ["spike_times"]

        return without

    reasons = left(session(tmp_path, layout)).values()
    assert "no unit says on which electrodes it was recorded" in reasons


@given(
    dtype=st.sampled_from(["i8", "u8"]),
    numbers=st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=5),
)
def test_whole_numbers_are_exact_or_noted(dtype: str, numbers: list[int]) -> None:
    limits = np.iinfo(dtype)
    numbers = [min(max(number, int(limits.min)), int(limits.max)) for number in numbers]
    result, notes = harmonized(np.array(numbers, dtype))
    errors = [abs(int(v) - n) for v, n in zip(result.values[:, 0], numbers, strict=True)]
    assert bool(notes) == any(errors)
    if notes:
        (note,) = notes
        assert f"{sum(map(bool, errors))} whole numbers above 2^53 are rounded" in note
        assert max(errors) <= int(note.rpartition("up to ")[2].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f2", "f8", "bool"])
@given(gain=st.floats(1e-6, 1e6), offset=st.sampled_from([0.0, 2.0, 1e6, -1e9]))
def test_no_two_numbers_of_a_file_become_one(dtype: str, gain: float, offset: float) -> None:
    """float32 halves a store; where it cannot tell numbers of the file apart, float64 is kept."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        top = int(np.iinfo(kind).max)
        data = np.array([0, 1, top - 1, top], kind)
    elif kind.kind == "f":
        one = np.array(1000, kind)
        data = np.array([one, np.nextafter(one, np.array(0, kind))], kind)
    else:
        data = np.array([False, True])
    result, _ = harmonized(data, conversion=gain, offset=offset)
    exact = data.astype(np.float64) * gain + offset
    assert len(np.unique(result.values)) == len(np.unique(exact))


@given(gain=st.floats(1e-6, 1e6), offset=st.sampled_from([0.0, 2.0, 1e6, -1e9]))
def test_float32_of_a_file_keeps_its_precision(gain: float, offset: float) -> None:
    data = np.array([1000.0, 1e-3, -5.5], np.float32)
    result, _ = harmonized(data, conversion=gain, offset=offset)
    exact = data.astype(np.float64) * gain + offset
    step = np.spacing(np.abs(data)).astype(np.float64) * gain  # between one float32 and the next
    assert np.all(np.abs(result.values[:, 0] - exact) <= step)


def test_large_values_stay_finite() -> None:
    """float32 ends at 3.4e38."""
    result, notes = harmonized(np.array([1e30, -2e30], np.float32), conversion=1e20)
    np.testing.assert_allclose(result.values[:, 0], [1e50, -2e50], rtol=1e-6)
    assert not notes


@pytest.mark.parametrize("column", ["start_time", "stop_time"])
def test_times_of_tables_above_2_53_are_noted(column: str, tmp_path: Path) -> None:
    """Device clocks count nanoseconds."""

    def layout(file: NWBFile) -> Callable[[h5py.File], None]:
        series(data=np.zeros(9), rate=10.0)(file)
        file.add_trial(start_time=1.0, stop_time=2.0)

        def nanoseconds(saved: h5py.File) -> None:
            group = saved["intervals/trials"]
            attributes = dict(group[column].attrs)
            del group[column]
            group[column] = np.array([1_700_000_000_123_456_789])
            group[column].attrs.update(attributes)

        return nanoseconds

    assert notes_of(session(tmp_path, layout), "trials: whole numbers above 2^53")
