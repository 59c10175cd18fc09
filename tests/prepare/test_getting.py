"""`prepare` from archives, whole: streams, records of Zenodo, Zarr assets, filters, small disks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from demo.archive import Faults, LoopbackArchive
from neurobrick import Dataset
from neurobrick.cli import main
from neurobrick.store import damage
from tests.support.archives import KEY, LoopbackZenodo, on_loopback_only
from tests.support.layouts import regular, with_gaps, write
from tests.support.odoherty_files import session as odoherty_session
from tests.support.odoherty_files import write as write_odoherty
from tests.support.zarr_files import convert

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`neurobrick prepare … --root …` without a terminal."""
    on_loopback_only(monkeypatch)

    def run(*arguments: str | Path, root: str = "corpus") -> Result:
        command = ["prepare", *map(str, arguments), "--root", str(tmp_path / root)]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return run


@pytest.fixture
def archive_folder(tmp_path: Path) -> Path:
    """Dandiset 000999: two subjects, two sessions of the first."""
    folder = tmp_path / "archive"
    for name, layout in (("A_ses-1", regular), ("A_ses-2", with_gaps), ("B_ses-1", regular)):
        path = folder / "000999" / "draft" / f"sub-{name[0]}" / f"sub-{name}_behavior+ecephys.nwb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, layout)
    return folder


def contents(root: Path, session: str) -> tuple[Any, ...]:
    """Everything that a session holds."""
    found = Dataset(root)[session]
    behavior = {name: found.behavior_arrays(name) for name in found.behavior}
    return (*found.spike_arrays(), *(array for pair in behavior.values() for array in pair))


@pytest.mark.slow
def test_streamed_sessions_are_those_of_whole_files(
    run: Run, archive_folder: Path, tmp_path: Path
) -> None:
    with LoopbackArchive(archive_folder) as archive:
        command = ("dandiset", "000999", "--instance", archive.api_url)
        assert run(*command, root="whole").exit_code == 0
        streamed = run(*command, "--stream", "--jobs", "2", root="streamed")
        assert streamed.exit_code == 0, streamed.output
        assert "3 unchanged" in run(*command, "--stream", root="streamed").output
        assert "3 unchanged" in run(*command, "--stream", root="whole").output
    ds = Dataset(tmp_path / "streamed")
    assert ds.sessions == Dataset(tmp_path / "whole").sessions
    for session in ds:
        pairs = (contents(tmp_path / root, session) for root in ("streamed", "whole"))
        for a, b in zip(*pairs, strict=True):
            np.testing.assert_array_equal(a, b)
        read = ds[session].metadata.provenance.streamed
        assert read
        assert all(len(one.sha256) == 64 and one.start < one.stop for one in read)
        assert damage(tmp_path / "streamed" / f"{session}.zarr") == []
    assert not list((tmp_path / "streamed").rglob("*.nwb"))


@pytest.mark.slow
def test_where_ranges_are_ignored_files_are_downloaded(
    run: Run, archive_folder: Path, tmp_path: Path
) -> None:
    with LoopbackArchive(archive_folder, Faults(ignore_ranges=True)) as archive:
        result = run("dandiset", "000999", "--instance", archive.api_url, "--stream")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "corpus" / "downloads").rglob("*.nwb"))) == 3


def test_filters(run: Run, archive_folder: Path) -> None:
    def chosen(*filters: str) -> list[str]:
        result = run("dandiset", "000999", *instance, *filters, "--dry-run", "--json")
        return [asset["session"].removeprefix("000999/") for asset in json.loads(result.stdout)]

    with LoopbackArchive(archive_folder) as archive:
        instance = ("--instance", archive.api_url)
        assert chosen("--subject", "A") == ["sub-A_ses-1", "sub-A_ses-2"]
        assert chosen("--subject", "A", "--session", "2") == ["sub-A_ses-2"]
        assert chosen("--session", "1", "--exclude", "sub-B*") == ["sub-A_ses-1"]
        assert chosen("--subject", "*", "--include", "*ses-2*") == ["sub-A_ses-2"]
        nobody = run("dandiset", "000999", *instance, "--subject", "C")
    assert nobody.exit_code == 1
    assert "no asset passes" in nobody.output


def test_a_disk_that_is_too_small_is_seen_before_anything_is_fetched(
    run: Run, archive_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with LoopbackArchive(archive_folder) as archive:
        result = run("dandiset", "000999", "--instance", archive.api_url)
        assert not [request for request in archive.log if request.path.startswith("/blobs")]
    assert result.exit_code == 1
    assert "3 files need" in result.output
    assert "1,000 free" in result.output


@pytest.mark.slow
def test_an_embargoed_dandiset_opens_to_the_key_in_the_environment(
    run: Run, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackArchive(archive_folder, Faults(require_token=KEY)) as archive:
        command = ("dandiset", "000999", "--instance", archive.api_url, "--subject", "B")
        shut = run(*command)
        monkeypatch.setenv("DANDI_API_KEY", KEY)
        opened, streamed = run(*command), run(*command, "--stream", root="streamed")
    assert shut.exit_code == 1
    assert "set DANDI_API_KEY" in shut.output
    for result in (opened, streamed):
        assert result.exit_code == 0, result.output
        assert KEY not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_the_archives_own_zarr_assets(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = write(tmp_path / "source.nwb", regular)
    folder = tmp_path / "archive" / "000999" / "draft" / "sub-Z"
    folder.mkdir(parents=True)
    convert(source, folder / "sub-Z_ses-1.nwb.zarr")
    with LoopbackArchive(tmp_path / "archive") as archive:
        result = run("dandiset", "000999", "--instance", archive.api_url, *options)
        again = run("dandiset", "000999", "--instance", archive.api_url, *options)
    assert result.exit_code == 0, result.output
    assert "1 unchanged" in again.output
    assert run("nwb", source, root="local").exit_code == 0
    pairs = (
        contents(tmp_path / "corpus", "000999/sub-Z_ses-1"),
        contents(tmp_path / "local", "local/source"),
    )
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_the_registrys_record_of_zenodo(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    record = tmp_path / "record"
    record.mkdir()
    held = odoherty_session()
    write_odoherty(record / "indy_20160407_02.mat", held)
    (record / "readme.txt").write_text("not a recording")
    with LoopbackZenodo(record, Faults(every_nth_503=3, cut_every_nth_body=5)) as zenodo:
        monkeypatch.setenv("NEUROBRICK_ZENODO_API", zenodo.api_url)
        result = run("manifest", "odoherty_sabes", *options)
    assert result.exit_code == 0, result.output
    session = Dataset(tmp_path / "corpus")["zenodo-3854034/indy_20160407_02"]
    assert session.metadata.subject.id == "indy"
    assert session.target == "cursor_pos"
    stamps, values = session.behavior_arrays("cursor_pos")
    np.testing.assert_array_equal(stamps, held.t.reshape(-1))
    np.testing.assert_allclose(values, held.cursor_pos / 1000, rtol=1e-12)
    wanted = [train for channel in held.spikes for train in channel if train.size]
    assert session.n_spikes == sum(train.size for train in wanted)


@pytest.mark.slow
def test_one_dataset_of_the_registry_that_cannot_be_had_does_not_stop_the_others(
    run: Run, archive_folder: Path, tmp_path: Path
) -> None:
    registry = tmp_path / "mine.yaml"
    entries = [
        {"id": f"d{number}", "title": "x", "source": {"dandiset": number, "version": "draft"}}
        for number in ("000998", "000999")
    ]
    registry.write_text(json.dumps({"datasets": entries}))
    with LoopbackArchive(archive_folder) as archive:
        result = run("manifest", "--manifest", registry, "--instance", archive.api_url)
    assert result.exit_code == 1
    assert "3 prepared" in result.output
    assert "d000998: failed: dandiset 000998 is not in the archive" in result.output


@pytest.mark.slow
def test_large_files_without_spikes_are_not_downloaded(
    run: Run, archive_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurobrick.prepare.conduct.LOOK_FIRST", 0)
    silent = archive_folder / "000999" / "draft" / "sub-A" / "sub-A_ses-3_ecephys.nwb"
    write(silent, lambda file, rng: None)
    with LoopbackArchive(archive_folder) as archive:
        result = run("dandiset", "000999", "--instance", archive.api_url)
    assert result.exit_code == 0, result.output
    assert "3 prepared, 1 skipped" in result.output
    assert "sub-A_ses-3_ecephys.nwb: skipped: it holds no spikes" in result.output
    assert len(list((tmp_path / "corpus" / "downloads").rglob("*.nwb"))) == 3
