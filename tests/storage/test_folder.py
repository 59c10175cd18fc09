"""A folder: what fails is a StoreError with the path, and never 'not there'."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from neurobrick import StoreError
from neurobrick.storage import open_storage
from neurobrick.storage.folder import Folder
from neurobrick.storage.remote.disk_cache import DiskCache
from neurobrick.storage.zarr_files import LocalFiles
from tests.support.refusals import Refuse

NUMBERS = [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG]
USES: dict[str, Callable[[Folder], object]] = {
    "read": lambda folder: folder.read("a/b"),
    "read_many": lambda folder: folder.read_many(["a/b"]),
    "fetch": lambda folder: folder.fetch(["a/b"], [0])[0](),
    "files": lambda folder: folder.files(),
    "files below": lambda folder: folder.files("a/"),
    "write": lambda folder: folder.write("a/c", b""),
    "delete": lambda folder: folder.delete(["a/b"]),
}


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("use", USES)
def test_what_the_system_refuses_is_an_error_with_its_path_and_reason(
    tmp_path: Path, refuse: Refuse, use: str, number: int
) -> None:
    folder = Folder(tmp_path)
    folder.write("a/b", b"content")
    refuse(tmp_path / "a", number)
    with pytest.raises(StoreError, match=f"{tmp_path}/a.*{os.strerror(number)}"):
        USES[use](folder)


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_names_that_no_file_can_have_are_errors(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path)
    for use in (folder.read, lambda n: folder.write(n, b""), lambda n: folder.delete([n])):
        with pytest.raises(StoreError):
            use(name)


def test_folders_are_no_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a/b", b"")
    folder.delete(["a", "a/b/c", "none"])
    assert folder.files() == {"a/b": 0}
    with pytest.raises(FileNotFoundError):
        folder.read("a")
    for name in ("a", "a/b/c"):
        with pytest.raises(StoreError, match="cannot write"):
            folder.write(name, b"")
    assert list(tmp_path.rglob(".staging*")) == []


def test_what_the_system_keeps_in_the_root_of_a_disk_is_passed_over(
    tmp_path: Path, refuse: Refuse
) -> None:
    folder = Folder(tmp_path)
    folder.write("a", b"")
    (tmp_path / "lost+found").mkdir()
    refuse(tmp_path / "lost+found", errno.EACCES)
    assert folder.files() == {"a": 0}


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    Folder(elsewhere).write("x.zarr/manifest.json", b"1")
    folder = Folder(tmp_path / "corpus")
    folder.write("here", b"")
    (folder.path / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder.path)
    (folder.path / "nowhere").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder.path / "pipe")
    assert folder.files() == {"here": 0, "linked/x.zarr/manifest.json": 1}


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus.zarr").mkdir()
    (tmp_path / "corpus.zarr" / "a").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEUROBRICK_CACHE_DIR", "cache")
    opened = [
        Folder(Path("corpus.zarr")),
        open_storage("corpus.zarr"),
        open_storage("./corpus.zarr"),
    ]
    files, cache = LocalFiles(Path("corpus.zarr")), DiskCache()
    monkeypatch.chdir("/")
    assert [storage.read("a") for storage in opened] == [b"content"] * 3
    assert files.listing() == {"a": 7}
    assert files.read(["a"]) == {"a": b"content"}
    assert cache.folder == tmp_path / "cache"
