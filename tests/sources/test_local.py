"""Files and folders of this machine: which are assets, under which names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from neurobrick.sources.digests import sha256_of
from neurobrick.sources.local import LocalSource, as_text
from tests.support.archives import message


def test_local_files_and_folders(tmp_path: Path) -> None:
    for name in (
        "b/x.nwb",
        "b/deep/a.NWB",
        "b/.git/h.nwb",
        "b/._x.nwb",
        "b/z.nwb.zarr/0",
        "b/m.mat",
        "b/h.h5",
        "b/n.md",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "single.nwb").write_text("one")
    source = LocalSource([tmp_path / "single.nwb", tmp_path / "b", tmp_path / "b/x.nwb"])
    assert source.dataset == "local"
    assert [(a.path, a.size) for a in source.assets()] == [
        ("single.nwb", 3),
        ("deep/a.NWB", 12),
        ("m.mat", 7),
        ("x.nwb", 7),
        ("z.nwb.zarr", 14),
    ]
    assert [a.path for a in source.others()] == ["h.h5", "n.md"]
    assert [a.path for a in LocalSource([tmp_path / "b/h.h5"]).assets()] == ["h.h5"]
    gained: list[int] = []
    file = source.fetch(source.assets()[3], tmp_path / "never", gained.append)
    assert file == tmp_path / "b/x.nwb"
    assert gained == [7]
    assert not (tmp_path / "never").exists()
    assert sha256_of(file) == hashlib.sha256(b"b/x.nwb").hexdigest()


def test_local_files_that_are_not_there(tmp_path: Path) -> None:
    assert "check the path" in message(lambda: LocalSource([tmp_path / "nothing.nwb"]))
    (tmp_path / "annexed.nwb").symlink_to(".git/annex/objects/absent")
    source = LocalSource([tmp_path])
    (asset,) = source.assets()
    said = message(lambda: source.fetch(asset, tmp_path))
    assert "annexed.nwb cannot be read" in said
    assert "datalad get" in said


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    given, other_disk = tmp_path / "given", tmp_path / "other_disk"
    for file in (given / "sub-A/a.nwb", other_disk / "deep/b.nwb", other_disk / "c.nwb"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    (given / "sub-B").symlink_to(other_disk)
    (given / ".hidden").symlink_to(other_disk)
    paths = [asset.path for asset in LocalSource([given]).assets()]
    assert paths == ["sub-A/a.nwb", "sub-B/c.nwb", "sub-B/deep/b.nwb"]


@pytest.mark.parametrize("target", ["..", ".", "../../given", "../x/../../given/sub-A"])
def test_links_that_lead_in_a_circle_end(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "given" / "sub-A"
    folder.mkdir(parents=True)
    (tmp_path / "given" / "x").mkdir()
    (folder / "a.nwb").touch()
    (folder / "again").symlink_to(target)
    (tmp_path / "given" / "0-first").symlink_to("sub-A")  # the real path is the one that counts
    paths = [asset.path for asset in LocalSource([tmp_path / "given"]).assets()]
    assert paths == ["sub-A/a.nwb"]


def test_two_links_to_each_other_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.nwb").touch()
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    assert [a.path for a in LocalSource([tmp_path / "a"]).assets()] == ["a.nwb", "link/b.nwb"]


def test_a_name_that_is_not_utf8_becomes_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"sub-\xe9.nwb")
    try:
        (tmp_path / name).write_bytes(b"content")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = LocalSource([tmp_path])
    (asset,) = source.assets()
    assert asset.path == "sub-%E9.nwb"
    assert source.fetch(asset, tmp_path).read_bytes() == b"content"
    (tmp_path / name).unlink()
    assert "sub-%E9.nwb cannot be read" in message(lambda: source.fetch(asset, tmp_path))
    odd = tmp_path / os.fsdecode(b"\xff\xfe")
    assert "%FF%FE is neither a file nor a folder" in message(lambda: LocalSource([odd]))
    assert as_text("sub-Zo\u00eb.nwb") == "sub-Zo\u00eb.nwb"


@pytest.mark.parametrize("call", ["os.scandir", "pathlib.Path.exists", "pathlib.Path.is_dir"])
def test_what_may_not_be_listed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a.nwb").touch()

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(call, refuse)
    said = message(lambda: LocalSource([tmp_path]))
    assert str(tmp_path) in said
    assert "Permission denied" in said


def test_only_files_that_are_given_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nwb").touch()
    (tmp_path / "b.nwb").touch()
    assets = LocalSource([tmp_path / "b.nwb", tmp_path]).assets()
    assert [(asset.path, asset.is_named) for asset in assets] == [("b.nwb", True), ("a.nwb", False)]
