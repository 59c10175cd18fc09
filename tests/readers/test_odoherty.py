"""The files of Zenodo record 3854034, as MATLAB writes them, against what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurobrick.errors import CorruptFile, NeurobrickError, UnsupportedFile
from neurobrick.harmonize import harmonize
from neurobrick.readers.hdf5 import open_hdf5
from neurobrick.readers.odoherty import is_odoherty, read_odoherty
from neurobrick.readers.raw import RawColumn, Recording
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Provenance, SessionData, check
from tests.support.odoherty_files import Session, session, with_spikes, write

NAME = "indy_20160407_02.mat"


@contextmanager
def opened(path: Path, name: str = NAME) -> Iterator[Recording]:
    with open_hdf5(path, path.name) as tree:
        assert is_odoherty(tree.root)
        yield read_odoherty(tree.root, name)


def harmonized(path: Path) -> SessionData:
    spec = DatasetSpec.discovered("local")
    provenance = Provenance(path=NAME, size=0, digest="", neurobrick="", spec_hash="")
    with opened(path) as recording:
        return harmonize(
            recording, spec, session_id="local/x", dataset="local", provenance=provenance
        )


def values(column: RawColumn) -> list[object]:
    return column.values if isinstance(column.values, list) else column.values.tolist()


@pytest.fixture
def held() -> Session:
    return session()


@pytest.fixture
def path(tmp_path: Path, held: Session) -> Path:
    return write(tmp_path / NAME, held)


def test_a_unit_is_a_cell_that_holds_spikes(path: Path, held: Session) -> None:
    with opened(path) as recording:
        units = recording.units
        assert units is not None
        columns = {name: values(column) for name, column in units.table.columns.items()}
        trains = np.split(units.spike_times(), units.ends[:-1])
    expected = [
        (name, name[:2], unit, unit > 0, times.ravel().tolist())
        for name, row in zip(held.chan_names, held.spikes, strict=True)
        for unit, times in enumerate(row)
        if times.size
    ]
    got = zip(
        columns["channel"], columns["area"], columns["unit"], columns["sorted"],
        [train.tolist() for train in trains], strict=True,
    )  # fmt: skip
    assert list(got) == expected
    assert units.table.n_rows == len(expected) == len(trains)
    assert {"M1", "S1"} == set(columns["area"])


def test_one_spike_is_a_unit_and_no_spike_is_none(tmp_path: Path, held: Session) -> None:
    with opened(write(tmp_path / NAME, with_spikes(held, 5, 2, [150.5]))) as recording:
        units = recording.units
        assert units is not None
        assert units.spike_times()[-1] == 150.5
        assert values(units.table.columns["unit"])[-1] == 2
        assert units.ends[-1] - units.ends[-2] == 1


@pytest.mark.parametrize("orientation", [False, True])
def test_positions_in_meters_on_the_spikes_clock(tmp_path: Path, orientation: bool) -> None:
    held = session(orientation=orientation)
    made = harmonized(write(tmp_path / NAME, held))
    check(made)
    expected = {
        "cursor_pos": (held.cursor_pos * 1e-3, "m", ("x", "y")),
        "finger_pos": (held.finger_pos[:, :3] * 1e-2, "m", ("z", "-x", "-y")),
        "target_pos": (held.target_pos * 1e-3, "m", ("x", "y")),
    }
    if orientation:
        angles = ("azimuth", "elevation", "roll")
        expected["finger_orientation"] = (held.finger_pos[:, 3:], "", angles)
    assert made.behavior.keys() == expected.keys()
    for name, (positions, unit, columns) in expected.items():
        series = made.behavior[name]
        np.testing.assert_allclose(series.values, positions, rtol=1e-12)
        np.testing.assert_array_equal(series.timestamps, held.t)
        assert (series.unit, series.columns) == (unit, columns)
    trains = [times for row in held.spikes for times in row]
    np.testing.assert_array_equal(made.spike_times, np.sort(np.concatenate(trains), axis=0)[:, 0])


def test_an_unknown_unit_is_noted_and_said_in_the_description(tmp_path: Path) -> None:
    made = harmonized(write(tmp_path / NAME, session(orientation=True)))
    assert any(note.startswith("finger_orientation: unit ''") for note in made.metadata.notes)
    assert "unit is not known" in made.behavior["finger_orientation"].description


@pytest.mark.parametrize(
    ("name", "subject", "day"),
    [
        (NAME, "indy", "2016-04-07"),
        ("some/folder/loco_20170210_03.mat", "loco", "2017-02-10"),
        ("indy_20161399_01.mat", "indy", None),
        ("renamed.mat", None, None),
    ],
)
def test_subject_and_day_are_in_the_name(
    path: Path, name: str, subject: str | None, day: str | None
) -> None:
    with opened(path, name) as found:
        pass
    assert found.subject.get("subject_id") == subject
    assert found.subject["species"] == "Macaca mulatta"
    assert found.attributes.get("session_start_time") == day


def test_what_is_left_is_said_and_waveforms_are_never_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["note"] = np.zeros((1, 1))
        file["wf"][...] = h5py.Reference()  # whoever follows one fails
    with opened(path) as recording:
        left = {one.path: one.reason for one in recording.left}
    assert left == {"wf": "waveforms", "note": "not in the record"}


def test_a_file_of_something_else_is_not_taken_for_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["spikes"], file["t"], file["cursor_pos"] = [1.0], [1.0], [1.0]
    with open_hdf5(tmp_path / "x.h5", "x.h5") as tree:
        assert not is_odoherty(tree.root)


def _replaced(name: str, values: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return damage


def _cell(name: str, values: object) -> Callable[[h5py.File], None]:
    """The first cell leads to something else."""

    def damage(file: h5py.File) -> None:
        file["#refs#/other"] = values
        file[name][0, 0] = file["#refs#/other"].ref

    return damage


def _without(name: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[name]

    return damage


def _null(file: h5py.File) -> None:
    file["spikes"][0, 0] = h5py.Reference()


def _dangling(file: h5py.File) -> None:
    """The first reference is an address where there is no object."""
    path, at = Path(file.filename), file["spikes"].id.get_offset()
    file.close()
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write((path.stat().st_size // 2).to_bytes(8, "little"))


def _to_group(file: h5py.File) -> None:
    file["spikes"][0, 0] = file["#refs#"].ref


def _many_to_one(file: h5py.File) -> None:
    """144 cells lead to one array of 64 MiB, which is small in the file."""
    zeros = np.zeros((1, 2**23))
    big = file.create_dataset("#refs#/big", data=zeros, chunks=(1, 2**20), compression="gzip")
    names = np.tile(file["chan_names"][()], 8)
    del file["spikes"], file["chan_names"]
    file.create_dataset("chan_names", data=names, dtype=h5py.ref_dtype)
    file.create_dataset("spikes", (3, names.size), h5py.ref_dtype)[...] = big.ref


def _sparse(file: h5py.File) -> None:
    huge = file.create_dataset("#refs#/huge", (1, 2**28), "f8", chunks=(1, 2**20))
    file["spikes"][0, 0] = huge.ref


def _outside(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((1, 4), "f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (1, 4))
    file.create_virtual_dataset("#refs#/away", layout)
    file["spikes"][0, 0] = file["#refs#/away"].ref


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (_without("target_pos"), UnsupportedFile, "no array target_pos"),
        (_replaced("t", np.zeros(3000)), CorruptFile, "t should be numbers, 1 × k"),
        (_replaced("t", np.zeros((1, 2999))), CorruptFile, "2 × 2999"),
        (_replaced("cursor_pos", np.zeros((3000, 2))), CorruptFile, "cursor_pos should be"),
        (_replaced("finger_pos", np.zeros((4, 3000))), CorruptFile, "3 × 3000 or 6 × 3000"),
        (_replaced("target_pos", "text"), CorruptFile, "target_pos should be numbers"),
        (_replaced("spikes", np.zeros((3, 6))), CorruptFile, "spikes should be a cell array"),
        (_replaced("chan_names", np.zeros((1, 6))), CorruptFile, "chan_names should be a cell"),
        (_cell("spikes", np.zeros((2, 5))), CorruptFile, "spikes of M1 001, unit 0"),
        (_cell("spikes", np.zeros(5)), CorruptFile, "spikes of M1 001, unit 0"),
        (_cell("spikes", "text"), CorruptFile, "spikes of M1 001, unit 0"),
        (_cell("chan_names", np.zeros((4, 1))), CorruptFile, "chan_names[0] should be text"),
        (_null, CorruptFile, "spikes cannot be read"),
        (_dangling, CorruptFile, "spikes cannot be read"),
        (_to_group, CorruptFile, "spikes holds references that lead to no array"),
        (_many_to_one, CorruptFile, "the cells of spikes claim"),
        (_sparse, CorruptFile, "spikes[0] claims"),
        (_outside, CorruptFile, "spikes holds references that lead to no array"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(
    path: Path, damage: Callable[[h5py.File], None], error: type[NeurobrickError], said: str
) -> None:
    with h5py.File(path, "r+") as file:
        damage(file)
    with open_hdf5(path, path.name) as tree, pytest.raises(error) as raised:
        read_odoherty(tree.root, path.name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_fewer_channels_than_names(tmp_path: Path, held: Session) -> None:
    path = write(tmp_path / NAME, held)
    with h5py.File(path, "r+") as file:
        cells = file["spikes"][:, :5]
        del file["spikes"]
        file.create_dataset("spikes", data=cells, dtype=h5py.ref_dtype)
    with open_hdf5(path, path.name) as tree, pytest.raises(CorruptFile, match="u × 6"):
        read_odoherty(tree.root, path.name)
