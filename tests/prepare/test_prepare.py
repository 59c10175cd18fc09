"""From files and archives to stores: what is kept, and what bad input is told."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from demo.archive import LoopbackArchive
from neurobrick import (
    CorruptFile,
    Dataset,
    HarmonizeError,
    NeurobrickError,
    SourceError,
    StoreError,
    UnsupportedFile,
)
from neurobrick.cli import main
from neurobrick.prepare.plan import plan, session_id
from neurobrick.registry import DatasetSpec
from neurobrick.sources.local import LocalSource
from neurobrick.store import damage
from tests.conftest import prepare_files
from tests.support.layouts import regular, write

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`neurobrick ARGUMENTS --root …`, in this process, without a terminal."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(
            main, [*map(str, arguments), "--root", str(tmp_path / "corpus")], catch_exceptions=False
        )

    return run


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-J/sub-J_ses-full_desc-train_behavior+ecephys.nwb", "sub-J_ses-full_desc-train"),
        ("sub-Indy/sub-Indy_desc-train_behavior+ecephys.nwb", "sub-Indy_desc-train"),
        ("sub-Cori_ses-20161214T120000.nwb", "sub-Cori_ses-20161214T120000"),
        ("sub-A/sub-A_ses-2020-10-19-Run1_ecephys.nwb", "sub-A_ses-2020-10-19-Run1"),
        ("sub-1_ses-2_obj-1otd1m8_ecephys+image.nwb", "sub-1_ses-2_obj-1otd1m8"),
        ("my_recording.nwb", "my_recording"),
        ("sub-A/sub-A_ses-1.nwb.zarr", "sub-A_ses-1"),
        ("indy_20160407_02.mat", "indy_20160407_02"),
        ("sub-A/.nwb", "unnamed"),
    ],
)  # fmt: skip
def test_session_ids(path: str, expected: str) -> None:
    assert session_id("000128", path) == f"000128/{expected}"


def test_two_files_of_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    paths = [tmp_path / f"sub-A_ses-1_{tail}.nwb" for tail in ("ecephys", "behavior+ecephys")]
    for path in paths:
        path.touch()
    with pytest.raises(HarmonizeError, match=r"(?s)ecephys.*behavior\+ecephys.*both"):
        plan(LocalSource(paths), DatasetSpec.discovered("local"), tmp_path)


def test_a_file_is_prepared_once_unless_it_or_the_spec_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", regular)
    root = tmp_path / "corpus"

    def again(spec: DatasetSpec | None = None) -> str:
        (outcome,) = prepare_files(root, path, spec=spec)
        return outcome.status

    assert [again(), again()] == ["prepared", "unchanged"]
    changed = DatasetSpec.model_validate({"id": "x", "title": "x", "splits": {"seed": 5}})
    assert [again(changed), again(changed)] == ["prepared", "unchanged"]
    write(path, regular, seed=1)
    assert again(changed) == "prepared"


@pytest.mark.slow
def test_prepared_by_worker_processes(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    folder = files["regular"].parent
    result = run("prepare", "nwb", folder, "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert f"{len(files)} prepared" in result.output
    ds = Dataset(tmp_path / "corpus")
    assert len(ds) == len(files)
    assert ds.catalog.units.num_rows == sum(ds[session].n_units for session in ds)
    assert ds.catalog.trials.column("session").unique().to_pylist() == [
        "local/sub-A_ses-regular",
        "local/sub-A_ses-with-gaps",
    ]


@pytest.mark.slow
def test_the_outcome_as_json(run: Run, recording: Path) -> None:
    result = run("prepare", "nwb", recording, "--json")
    (outcome,) = json.loads(result.stdout)
    assert (outcome["status"], outcome["units"]) == ("prepared", 6)


def test_a_dry_run_writes_nothing(run: Run, recording: Path, tmp_path: Path) -> None:
    result = run("prepare", "nwb", recording, "--dry-run")
    assert result.exit_code == 0
    assert f"{recording.stat().st_size:,} bytes" in result.output
    assert not (tmp_path / "corpus").exists()


def truncated(path: Path) -> None:
    data = write(path, regular).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def not_hdf5(path: Path) -> None:
    path.write_text("time,unit\n0.1,3\n")


def not_nwb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


def without_units(path: Path) -> None:
    write(path, lambda file, rng: None)


def with_a_wrong_index(path: Path) -> None:
    write(path, regular)
    with h5py.File(path, "r+") as file:
        file["units/spike_times_index"][2] = 10**4


def with_damaged_chunks(path: Path) -> None:
    write(path, regular)
    with h5py.File(path, "r+") as file:
        times = file["units/spike_times"][:]
        del file["units/spike_times"]
        file.create_dataset("units/spike_times", data=times, chunks=True, compression="gzip")
        offset = file["units/spike_times"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as stream:
        stream.seek(offset + 10)
        stream.write(b"\xff" * 40)


BAD = {
    truncated: (1, "truncated"),
    not_hdf5: (1, "is not an NWB file"),
    not_nwb: (1, "declares no nwb_version"),
    without_units: (1, "no spikes"),
    with_a_wrong_index: (1, "contradicts itself"),
    with_damaged_chunks: (1, "cannot be read"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_bad_files_get_one_line_and_leave_nothing(
    run: Run, bad: Callable[[Path], None], tmp_path: Path
) -> None:
    bad(tmp_path / "bad.nwb")
    status, said = BAD[bad]
    result = run("prepare", "nwb", tmp_path / "bad.nwb")
    assert result.exit_code == status
    assert said in result.output
    assert "Traceback" not in result.output
    assert not list((tmp_path / "corpus").glob("local/*"))


@pytest.mark.slow
def test_one_bad_file_does_not_stop_the_others(run: Run, recording: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nwb"
    folder.mkdir()
    shutil.copy(recording, folder)
    truncated(folder / "broken.nwb")
    without_units(folder / "silent.nwb")
    (folder / "readme.txt").touch()
    result = run("prepare", "nwb", folder)
    assert result.exit_code == 1
    assert "left, being no NWB: 1, the first readme.txt" in result.output
    closing = result.output.splitlines()[-3:]
    assert closing[0].startswith("1 prepared, 1 skipped, 1 failed")
    assert closing[1].startswith("broken.nwb: failed: ")
    assert closing[2].startswith("silent.nwb: skipped: ")
    assert len(Dataset(tmp_path / "corpus")) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SourceError("a.nwb is locked: another program writes to it"), "failed"),
        (CorruptFile("a.nwb contradicts itself"), "failed"),
        (HarmonizeError("a.nwb has several units tables"), "failed"),
        (StoreError("cannot write"), "failed"),
        (UnsupportedFile("a.nwb holds no spikes"), "skipped"),
    ],
)
def test_only_what_is_no_recording_is_skipped(
    error: NeurobrickError,
    status: str,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("neurobrick.prepare.one_file.open_recording", refuse)
    (outcome,) = prepare_files(tmp_path / "corpus", recording)
    assert (outcome.status, outcome.reason) == (status, str(error))


def test_a_file_that_may_not_be_read_has_failed(
    run: Run, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("neurobrick.sources.digests.sha256_of", refuse)
    result = run("prepare", "nwb", recording)
    assert result.exit_code == 1
    assert "failed: it cannot be read: Permission denied" in result.output


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nwb", regular)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.arange(3000.0)
    with h5py.File(path, "r+") as file:
        series = file["processing/behavior/Position/cursor_pos"]
        file["acquisition/elsewhere"] = h5py.ExternalLink("other.h5", "secret")
        file.copy(series, file["acquisition"], "virtual")
        copied = file["acquisition/virtual"]
        del copied["data"]
        layout = h5py.VirtualLayout((3000,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "secret", (3000,))
        copied.create_virtual_dataset("data", layout)
        file["acquisition/loop"] = h5py.SoftLink("/acquisition")
    (outcome,) = prepare_files(tmp_path / "corpus", path)
    reasons = {left.path: left.reason for left in outcome.left}
    assert "not followed" in reasons["acquisition/elsewhere"]
    assert "not followed" in reasons["acquisition/virtual"]
    assert list(Dataset(tmp_path / "corpus")["local/a"].behavior) == ["cursor_pos"]


@pytest.fixture
def archive_folder(tmp_path: Path, files: dict[str, Path]) -> Path:
    """Two files as the draft of dandiset 000999."""
    folder = tmp_path / "archive"
    for name in ("regular", "with_gaps"):
        target = folder / "000999" / "draft" / "sub-A" / files[name].name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[name], target)
    return folder


@pytest.mark.slow
def test_a_dandiset_is_downloaded_and_prepared(
    run: Run, archive_folder: Path, tmp_path: Path
) -> None:
    with LoopbackArchive(archive_folder) as archive:
        command = ("prepare", "dandiset", "000999", "--instance", archive.api_url)
        dry = run(*command, "--dry-run")
        first = run(*command)
        second = run(*command)
    assert "2 assets" in dry.output
    assert first.exit_code == 0, first.output
    assert "2 unchanged" in second.output
    ds = Dataset(tmp_path / "corpus")
    assert ds.sessions == ["000999/sub-A_ses-regular", "000999/sub-A_ses-with-gaps"]
    provenance = ds[ds.sessions[0]].metadata.provenance
    assert (provenance.dandiset, provenance.version) == ("000999", "draft")
    assert provenance.path == "sub-A/sub-A_ses-regular.nwb"
    for session in ds:
        assert damage(tmp_path / "corpus" / f"{session}.zarr") == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["prepare", "dandiset", "999999"], "999999"),
        (["prepare", "dandiset", "000999", "--version", "0.1.2"], "0.1.2"),
        (["prepare", "dandiset", "000999", "--include", "*nothing*"], "nothing of 000999 matches"),
    ],
)
def test_unknown_things_of_an_archive(
    run: Run, archive_folder: Path, command: list[str], said: str, tmp_path: Path
) -> None:
    with LoopbackArchive(archive_folder) as archive:
        result = run(*command, "--instance", archive.api_url)
    assert result.exit_code == 1
    assert said in result.output.splitlines()[-1]
    assert "Traceback" not in result.output
    assert not (tmp_path / "corpus").exists()
