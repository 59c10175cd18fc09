"""The NWB reader keeps every object of a file, or leaves it with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pynwb import NWBFile
from pynwb.ecephys import SpikeEventSeries

from neurobrick import Dataset
from neurobrick.errors import UnsupportedFile
from neurobrick.harmonize import spikes_of
from neurobrick.readers.formats import open_recording
from neurobrick.readers.raw import RawSeries, Recording
from tests.conftest import prepare_files
from tests.support.layouts import LAYOUTS, regular, spike_trains, write

SERIES = "processing/behavior/Position/cursor_pos"
N = 3000  # samples of SERIES
NWB1 = Path(__file__).parents[3] / "shared" / "data" / "nwb1"
BIG = np.int64(2**53) + 1  # the first whole number that float64 rounds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.nwb", regular)


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    with h5py.File(path, "r+") as file:
        yield file


@contextmanager
def recording(path: Path) -> Iterator[Recording]:
    with open_recording(path, path.name) as opened:
        yield opened


def series(opened: Recording) -> dict[str, RawSeries]:
    return {one.path: one for one in opened.series}


def left(path: Path) -> dict[str, str]:
    with recording(path) as opened:
        return {one.path: one.reason for one in opened.left}


def replace(file: h5py.File, path: str, values: object) -> None:
    attributes = dict(file[path].attrs)
    del file[path]
    file[path] = values
    file[path].attrs.update(attributes)


# Text, and whole numbers as floats, where integers are usual


@pytest.mark.slow
@pytest.mark.parametrize("table", ["units", "intervals/trials"])
@pytest.mark.parametrize("make", ["S6", h5py.string_dtype()], ids=["fixed", "any length"])
def test_ids_of_text_are_kept_as_text(path: Path, table: str, make: Any) -> None:
    with edited(path) as file:
        names = [f"ch{k}_a" for k in range(len(file[table]["id"]))]
        replace(file, f"{table}/id", np.array(names, dtype=make))
    with recording(path) as opened:
        tables = {one.path: one for one in opened.tables} | {"units": spikes_of(opened).table}
        assert tables[table].columns["id"].values == names
    (outcome,) = prepare_files(path.parent / "root", path)
    assert outcome.status == "prepared"


def test_ids_of_electrodes_may_be_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", LAYOUTS["shared_names"])
    electrodes = "general/extracellular_ephys/electrodes"
    with edited(path) as file:
        replace(file, f"{electrodes}/id", [f"e{k}" for k in range(len(file[electrodes]["id"]))])
    with recording(path) as opened:
        assert opened.electrodes is not None
        assert opened.electrodes.columns["id"].values == ["e0", "e1", "e2", "e3"]


def test_ids_that_are_references_are_left(path: Path) -> None:
    with edited(path) as file:
        n = len(file["units/id"])
        replace(file, "units/id", np.array([file["units"].ref] * n, dtype=h5py.ref_dtype))
    assert left(path)["units/id"] == "references to other objects"


@pytest.mark.parametrize("value", ["zero", b"0.25", ["0", "1"]])
def test_a_starting_time_of_text_is_no_clock(path: Path, value: object) -> None:
    with edited(path) as file:
        replace(file, f"{SERIES}/starting_time", value)
    (outcome,) = prepare_files(path.parent / "root", path)
    assert outcome.status == "prepared"
    assert [one.reason for one in outcome.left if one.path == SERIES] == ["its rate is nan Hz"]


@pytest.mark.parametrize("column", ["units/spike_times_index", "units/id", "intervals/trials/id"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_whole_numbers_kept_as_floats_are_integers(path: Path, column: str, dtype: str) -> None:
    with recording(path) as opened:
        before = opened
    with edited(path) as file:
        replace(file, column, file[column][:].astype(dtype))
    with recording(path) as opened:
        assert spikes_of(opened).ends.tolist() == spikes_of(before).ends.tolist()
        tables = {one.path: one for one in opened.tables} | {"units": spikes_of(opened).table}
        for table in ("units", "intervals/trials"):
            ids = tables[table].columns["id"].values
            assert isinstance(ids, np.ndarray)
            assert ids.dtype.kind == "i"


def test_rows_of_electrodes_kept_as_floats_give_areas(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", LAYOUTS["shared_names"])
    with edited(path) as file:
        for name in ("electrodes", "electrodes_index"):
            replace(file, f"units/{name}", file[f"units/{name}"][:].astype("f8"))
    with recording(path) as opened:
        column = spikes_of(opened).table.columns["electrodes"]
        assert isinstance(column.values, np.ndarray)
        assert column.values.tolist() == [0, 1, 2, 3]
        assert column.values.dtype == np.int64


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_beyond_2_to_the_53_are_read_exactly(path: Path, dtype: str) -> None:
    ticks = (BIG + np.arange(N)).astype(dtype)
    with edited(path) as file:
        replace(file, f"{SERIES}/data", ticks)
        replace(file, "units/id", ticks[:6])
        replace(file, "intervals/trials/target_dir", ticks[:14])
    with recording(path) as opened:
        np.testing.assert_array_equal(series(opened)[SERIES].data(), ticks)
        ids = spikes_of(opened).table.columns["id"].values
        np.testing.assert_array_equal(ids, ticks[:6])
        (trials,) = opened.tables
        np.testing.assert_array_equal(trials.columns["target_dir"].values, ticks[:14])


# Clocks


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", ""])
def test_a_series_has_the_unit_that_its_clock_declares(path: Path, unit: str) -> None:
    with edited(path) as file:
        file.copy(SERIES, "acquisition/stamped")
        group = file["acquisition/stamped"]
        del group["starting_time"]
        group["timestamps"] = np.arange(N) * 10.0
        group["timestamps"].attrs["unit"] = unit
        file[f"{SERIES}/starting_time"].attrs["unit"] = unit
        file["units/spike_times"].attrs["unit"] = unit
    with recording(path) as opened:
        assert {one.time_unit for one in opened.series} == {unit}
        assert len(opened.series) == 2
        assert spikes_of(opened).time_unit == unit


# What stands beside the data of a series


@pytest.mark.parametrize("name", ["confidence", "control", "anything"])
@pytest.mark.parametrize("shape", [(N,), (N, 2)])
def test_an_array_with_a_row_a_sample_becomes_a_series(
    path: Path, name: str, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 3, shape)
    with edited(path) as file:
        file[SERIES][name] = values
        file[SERIES][name].attrs["definition"] = "of the tracker"
    with recording(path) as opened:
        found = series(opened)
        companion = found[f"{SERIES}/{name}"]
        np.testing.assert_array_equal(companion.data(), values)
        assert companion.beside == SERIES
        assert companion.rate == found[SERIES].rate == 100.0
        assert companion.starting_time == found[SERIES].starting_time
        assert "of the tracker" in companion.description
        assert found[SERIES].beside == ""


def test_a_companion_is_prepared_and_is_not_the_target_by_itself(path: Path) -> None:
    with edited(path) as file:
        file[f"{SERIES}/confidence"] = np.linspace(0, 1, N)
        file.move(SERIES, "processing/behavior/snout")
    (outcome,) = prepare_files(path.parent / "root", path)
    assert outcome.status == "prepared"
    session = Dataset(path.parent / "root")["local/a"]
    assert set(session.behavior) == {"snout", "confidence"}
    assert session.metadata.target == "snout"


def test_control_codes_keep_their_names(path: Path) -> None:
    with edited(path) as file:
        file[f"{SERIES}/control"] = np.arange(N) % 2
        file[f"{SERIES}/control_description"] = ["rest", "run"]
    with recording(path) as opened:
        assert "codes: 0 = rest, 1 = run" in series(opened)[f"{SERIES}/control"].description


def test_labels_of_codes_keep_their_names(path: Path) -> None:
    with edited(path) as file:
        file[f"{SERIES}/data"].attrs["labels"] = ["lick left", "lick right"]
    with recording(path) as opened:
        assert "codes: 0 = lick left, 1 = lick right" in series(opened)[SERIES].description


@pytest.mark.parametrize("holder", ["", "/data"])
@pytest.mark.parametrize("value", ["top view", 7, [1.5, 2.5]])
def test_attributes_without_a_field_go_into_the_description(
    path: Path, holder: str, value: object
) -> None:
    with edited(path) as file:
        file[f"{SERIES}{holder}"].attrs["camera"] = value
    with recording(path) as opened:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        assert f"camera: {text}" in series(opened)[SERIES].description


BESIDE: dict[str, Callable[[h5py.Group], object]] = {
    "other_length": lambda group: group.create_dataset("other_length", data=np.arange(7)),
    "texts": lambda group: group.create_dataset("texts", data=["a", "b"]),
    "four_axes": lambda group: group.create_dataset("four_axes", data=np.zeros((N, 1, 1, 1))),
    "references": lambda group: group.create_dataset(
        "references", data=np.array([group.ref] * N, dtype=h5py.ref_dtype)
    ),
    "nested": lambda group: group.create_group("nested"),
    "linked": lambda group: group.__setitem__("linked", h5py.SoftLink("/general")),
    "outside": lambda group: group.__setitem__("outside", h5py.ExternalLink("b.h5", "/")),
    "long_text": lambda group: group.create_dataset("long_text", data="x" * 5000),
    "control_description": lambda group: group.create_dataset("control_description", data=["a"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BESIDE)
def test_everything_else_beside_the_data_is_listed(path: Path, name: str) -> None:
    with edited(path) as file:
        BESIDE[name](file[SERIES])
    assert left(path)[f"{SERIES}/{name}"]


def test_a_long_attribute_is_listed(path: Path) -> None:
    with edited(path) as file:
        file[SERIES].attrs["notes"] = "x" * 1000
    assert left(path)[f"{SERIES} (notes)"] == "an attribute of 1,000 letters"


# What stands beside the columns of a table, and in groups of their own


@pytest.mark.parametrize("ragged", [False, True])
def test_codes_of_an_enumeration_become_its_elements(path: Path, ragged: bool) -> None:
    codes = np.arange(14) % 3
    with edited(path) as file:
        trials = file["intervals/trials"]
        trials["stimulus"] = codes.astype("u1")
        trials["stimulus_elements"] = ["left", "right", "none"]
        if ragged:
            trials["stimulus_index"] = np.arange(1, 15)
        trials.attrs["colnames"] = [*trials.attrs["colnames"], "stimulus"]
    with recording(path) as opened:
        (trials,) = opened.tables
        column = trials.columns["stimulus"]
        assert column.values == [["left", "right", "none"][code] for code in codes]
        assert (column.ends is not None) == ragged
        assert not [one for one in opened.left if "stimulus" in one.path]


@pytest.mark.parametrize("elements", [["left"], [["a", "b"], ["c", "d"], ["e", "f"]]])
def test_elements_that_do_not_fit_leave_the_codes(path: Path, elements: object) -> None:
    with edited(path) as file:
        trials = file["intervals/trials"]
        trials["stimulus"] = np.arange(14) % 3
        trials["stimulus_elements"] = elements
        trials.attrs["colnames"] = [*trials.attrs["colnames"], "stimulus"]
    with recording(path) as opened:
        np.testing.assert_array_equal(
            opened.tables[0].columns["stimulus"].values, np.arange(14) % 3
        )
    assert "codes are kept" in left(path)["intervals/trials/stimulus_elements"]


@pytest.mark.parametrize("table", ["units", "intervals/trials"])
def test_entries_of_a_table_that_are_no_columns_are_listed(path: Path, table: str) -> None:
    with edited(path) as file:
        file[table]["forgotten"] = np.arange(6)
        file[table].create_group("result_meanings")
        file[table]["away"] = h5py.ExternalLink("b.h5", "/")
    reasons = left(path)
    assert "none of its columns" in reasons[f"{table}/forgotten"]
    assert "none of its columns" in reasons[f"{table}/result_meanings"]
    assert "not followed" in reasons[f"{table}/away"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "entry"),
    [
        ("processing/behavior/FeatureExtraction", "processing/behavior/FeatureExtraction"),
        ("scratch", "scratch"),
        ("acquisition", "acquisition"),
        ("events/licks", "events/licks"),
        ("my_lab", "my_lab"),
        ("analysis/a/b", "analysis/a/b"),
    ],
)
def test_arrays_outside_of_series_and_tables_are_listed(path: Path, at: str, entry: str) -> None:
    with edited(path) as file:
        file.require_group(at)["features"] = np.arange(3)
    assert "features" in left(path)[entry]


def test_an_array_in_the_root_is_listed(path: Path) -> None:
    with edited(path) as file:
        file["loose"] = np.arange(3)
    assert "loose" in left(path)["loose"]


def test_a_series_in_a_group_of_the_root_is_read(path: Path) -> None:
    with edited(path) as file:
        file.copy(SERIES, "tracking/paw")
    with recording(path) as opened:
        assert "tracking/paw" in series(opened)


def test_a_units_table_without_spikes_is_listed(path: Path) -> None:
    with edited(path) as file:
        file.move("units", "acquisition/elsewhere")
        file.create_group("units").attrs["colnames"] = ["quality"]
    assert left(path)["units"] == "a units table without spike_times"


def test_a_file_as_pynwb_writes_it_leaves_nothing(path: Path) -> None:
    assert left(path) == {}
    with recording(path) as opened:
        assert series(opened)[SERIES].description.endswith("reference_frame: screen")


# Why a file has no spikes


def test_silent_units_are_said_to_be_silent(path: Path) -> None:
    with edited(path) as file:
        replace(file, "units/spike_times_index", np.zeros(6, "u8"))
    with (
        recording(path) as opened,
        pytest.raises(UnsupportedFile, match="all 6 units of units are"),
    ):
        spikes_of(opened)


def test_a_units_table_without_rows_is_said_to_have_no_units(path: Path) -> None:
    with edited(path) as file:
        for name in ("spike_times_index", "id"):
            replace(file, f"units/{name}", np.zeros(0, "u8"))
        replace(file, "units/spike_times", np.zeros(0))
    with recording(path) as opened, pytest.raises(UnsupportedFile, match="units has no units"):
        spikes_of(opened)


def snippets(file: NWBFile, rng: np.random.Generator) -> None:
    device = file.create_device("array")
    group = file.create_electrode_group("g", "array", "M1", device)
    file.add_electrode(group=group, location="M1")
    region = file.create_electrode_table_region([0], "all")
    times = spike_trains(rng, 1)[0]
    file.add_acquisition(
        SpikeEventSeries(
            name="spikes",
            data=rng.normal(size=(len(times), 1, 20)),
            timestamps=times,
            electrodes=region,
        )
    )


def test_spikes_in_a_spike_event_series_are_named(tmp_path: Path) -> None:
    (outcome,) = prepare_files(tmp_path / "root", write(tmp_path / "a.nwb", snippets))
    assert outcome.status == "skipped"
    assert "acquisition/spikes (SpikeEventSeries" in outcome.reason


@pytest.mark.parametrize("version", ["1.0.0", "1.0.6"])
def test_sorted_cells_of_nwb_1_are_named(tmp_path: Path, version: str) -> None:
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file["neurodata_version" if version == "1.0.0" else "nwb_version"] = f"NWB-{version}"
        for unit in range(3):
            cell = file.create_group(f"processing/sorting/UnitTimes/unit_{unit}")
            cell["times"] = np.arange(4.0)
            cell["unit_description"] = "CA1"
    (outcome,) = prepare_files(tmp_path / "root", path)
    assert outcome.status == "skipped"
    assert "processing/sorting/UnitTimes (NWB 1: a group a unit)" in outcome.reason


@pytest.mark.skipif(not NWB1.is_dir(), reason="the files of NWB 1.0.0 are not at hand")
@pytest.mark.parametrize("name", ["17724_fambegin2.h5", "17894_novel1begin4.h5"])
def test_real_files_of_nwb_1_are_named_so(tmp_path: Path, name: str) -> None:
    (outcome,) = prepare_files(tmp_path / "root", NWB1 / name)
    assert outcome.status == "skipped"
    assert "UnitTimes (NWB 1: a group a unit)" in outcome.reason


def test_clusters_of_old_files_are_named(path: Path) -> None:
    with edited(path) as file:
        del file["units"]
        clusters = file.create_group("processing/behavior/Clustering")
        clusters["times"], clusters["num"] = np.arange(9.0), np.arange(9) % 3
    with (
        recording(path) as opened,
        pytest.raises(UnsupportedFile, match=r"Clustering \(Clustering"),
    ):
        spikes_of(opened)


def test_many_entries_beside_a_table_are_counted(path: Path) -> None:
    with edited(path) as file:
        for k in range(500):
            file[f"units/x{k}"] = k
    reasons = left(path)
    assert len(reasons) < 50
    assert reasons["units"] == "480 more entries that are none of its columns"
