"""`neurobrick inspect`: what it shows is what prepare does, and its spec says the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from demo.archive import LoopbackArchive
from neurobrick import Dataset, Manifest
from neurobrick.cli import main
from tests.conftest import prepare_files
from tests.support.layouts import beside_voltage, regular, shared_names, write


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize("layout", [regular, shared_names, beside_voltage])
def test_what_it_says_is_kept_and_left_is_what_prepare_keeps_and_leaves(
    layout: object, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.nwb", layout)  # type: ignore[arg-type]
    (found,) = json.loads(inspect(path, "--json").stdout)
    (outcome,) = prepare_files(tmp_path / "corpus", path)
    session = Dataset(tmp_path / "corpus")["local/a"]
    assert {(one["path"], one["reason"]) for one in found["left"]} == {
        (left.path, left.reason) for left in outcome.left
    }
    kept = {one["name"] for one in found["kept"]}
    assert kept == {"units", *session.behavior, *session.intervals}
    assert tuple(found["notes"]) == session.metadata.notes
    assert found["target"] == session.target


@pytest.mark.slow
def test_the_spec_it_prints_gives_the_same_session(tmp_path: Path) -> None:
    path = write(tmp_path / "sub-A_ses-1.nwb", regular)
    registry = tmp_path / "mine.yaml"
    printed = inspect(path).stdout
    registry.write_text(printed[printed.index("datasets:") :])
    (spec,) = Manifest.load(registry).datasets
    prepare_files(tmp_path / "discovered", path)
    result = CliRunner().invoke(
        main,
        f"prepare nwb {path} --dataset {spec.id} --manifest {registry} --root {tmp_path}/specified",
    )
    assert result.exit_code == 0, result.output
    a = Dataset(tmp_path / "discovered")["local/sub-A_ses-1"]
    b = Dataset(tmp_path / "specified")[f"{spec.id}/sub-A_ses-1"]
    np.testing.assert_array_equal(a.spike_arrays()[0], b.spike_arrays()[0])
    np.testing.assert_array_equal(
        a.behavior_arrays("cursor_pos")[1], b.behavior_arrays("cursor_pos")[1]
    )
    assert (a.target, a.metadata.notes) == (b.target, b.metadata.notes)
    # Which trials are drawn depends on the id, by design; how many does not.
    assert a.splits.keys() == b.splits.keys()


def test_the_tree_says_what_is_kept_and_why_not_the_rest(tmp_path: Path) -> None:
    said = inspect(write(tmp_path / "a.nwb", beside_voltage)).stdout
    assert "✓ wheel" in said
    assert "– voltage  voltage traces" in said
    assert "✓ units" in said


def test_a_file_that_would_be_refused_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", regular)
    with h5py.File(path, "r+") as file:
        times = file["units/spike_times"]
        times[...] = np.rint(times[...] * 30000)
    result = inspect(path)
    assert result.exit_code == 1
    assert "would not be prepared: spike times do not look like seconds" in result.output
    assert "✓ units" in result.output


def test_where_several_units_tables_could_be_meant_the_rest_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", regular)
    with h5py.File(path, "r+") as file:
        file.move("units", "processing/probe_a")
        file.copy("processing/probe_a", "processing/probe_b")
    result = inspect(path)
    assert result.exit_code == 1
    assert "would not be prepared: it has several units tables" in result.output
    assert "✓ cursor_pos" in result.output
    assert result.output.count("another units table") == 2


def test_what_is_no_recording_and_no_dandiset(tmp_path: Path) -> None:
    (tmp_path / "a.nwb").write_text("time,unit")
    assert "is not an NWB file" in inspect(tmp_path / "a.nwb").output
    result = inspect("nowhere")
    assert result.exit_code == 2
    assert "neither a path here nor a dandiset" in result.output


def test_a_dandiset_is_inspected_without_its_arrays_or_a_download(tmp_path: Path) -> None:
    folder = tmp_path / "archive" / "000999" / "draft" / "sub-A"
    folder.mkdir(parents=True)
    path = write(folder / "sub-A_ses-1.nwb", regular)
    shutil.copy(path, folder / "sub-A_ses-2.nwb")
    with h5py.File(path, "r+") as file:  # a signal that outweighs the rest
        group = file.create_group("acquisition/raw")
        group.attrs["neurodata_type"] = "ElectricalSeries"
        group["data"] = np.zeros(4_000_000)
        group["timestamps"] = np.zeros(4_000_000)
    with LoopbackArchive(tmp_path / "archive") as archive:
        result = inspect("000999", "--instance", archive.api_url)
        sent = [entry for entry in archive.log if entry.path.startswith("/blobs")]
    assert result.exit_code == 0, result.output
    assert "1 of 2 files; --include chooses others" in result.output
    assert "– raw  voltage traces" in result.output
    assert 'dandiset: "000999"' in result.output
    assert all(entry.range for entry in sent)
    asked = [[int(n) for n in str(e.range).removeprefix("bytes=").split("-")] for e in sent]
    assert sum(stop - start + 1 for start, stop in asked) < path.stat().st_size / 8
