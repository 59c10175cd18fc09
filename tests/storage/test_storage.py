"""Every kind of storage does the same, and an address says which one it is."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurobrick.errors import StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.folder import Folder
from neurobrick.storage.remote.objects import ObjectStorage


@pytest.fixture(params=["folder", "s3", "cached"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each kind that can be read and written, empty."""
    if request.param == "folder":
        return Folder(tmp_path / "corpus")
    bucket = request.getfixturevalue("s3")
    if request.param == "s3":
        return ObjectStorage(bucket.url)
    return open_storage(bucket.url)


# Every kind


@pytest.mark.slow
def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/one.zarr/c/0", b"first")
    storage.write("a/empty", b"")
    assert storage.read("a/one.zarr/c/0") == b"first"
    storage.write("a/one.zarr/c/0", b"second")
    assert storage.read_many(["a/empty", "a/one.zarr/c/0"]) == [b"", b"second"]


@pytest.mark.parametrize("name", ["sub-A%2Fses%20B.zarr/c/0", "a b/é~=+&?#.bin", ".hidden", "a..b"])
def test_names_are_taken_as_they_are(storage: Storage, name: str) -> None:
    storage.write(name, b"content")
    assert storage.files() == {name: 7}
    assert storage.read(name) == b"content"


def test_a_file_that_is_not_there_is_told_by_its_name(storage: Storage) -> None:
    storage.write("a/b", b"")
    for name in ("a/none", "a/b/c", "a"):
        with pytest.raises(FileNotFoundError) as failed:
            storage.read(name)
        assert failed.value.errno == errno.ENOENT
        assert failed.value.filename == f"{storage.url}/{name}"
    with pytest.raises(FileNotFoundError, match="none"):
        storage.read_many(["a/b", "a/none"])
    with pytest.raises(FileNotFoundError, match="none"):
        storage.fetch(["a/none"], [0])[0]()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_no_name_leads_out(storage: Storage, name: str) -> None:
    for use in (
        lambda: storage.read(name),
        lambda: storage.read_many([name]),
        lambda: storage.fetch([name], [0])[0](),
        lambda: storage.write(name, b""),
        lambda: storage.delete([name]),
    ):
        with pytest.raises(StoreError, match=r"leads out|no name of a file"):
            use()


def test_files_are_those_whose_names_begin_so(storage: Storage) -> None:
    assert storage.files() == {}
    for name in ("a/x.zarr/c/0", "a/x.zarr/manifest.json", "a/xy.zarr/c", "ab"):
        storage.write(name, name.encode())
    assert storage.files("a/x.zarr/") == {"a/x.zarr/c/0": 12, "a/x.zarr/manifest.json": 22}
    assert list(storage.files("a/x")) == ["a/x.zarr/c/0", "a/x.zarr/manifest.json", "a/xy.zarr/c"]
    assert sorted(storage.files("a")) == sorted(storage.files())
    assert storage.files("none/") == {}


def test_deleting_what_is_not_there_is_no_error(storage: Storage) -> None:
    for name in ("a", "b", "c/d"):
        storage.write(name, b"")
    storage.delete(["a", "none", "c/d", "c/none"])
    storage.delete([])
    assert list(storage.files()) == ["b"]


@pytest.mark.slow
def test_fetched_content_comes_in_order_and_is_not_checked(storage: Storage) -> None:
    names = [f"f/{i}" for i in range(50)]
    for name in names:
        storage.write(name, name.encode())
    wrong = [0] * len(names)
    storage.read_ahead(names[:30], wrong[:30])
    assert [get() for get in storage.fetch(names, wrong)] == [name.encode() for name in names]
    storage.write("f/0", b"new")  # and what was read ahead is given out once
    assert storage.fetch(["f/0"], [0])[0]() == b"new"


@pytest.mark.slow
def test_several_threads_may_use_one(storage: Storage) -> None:
    def use(i: int) -> bytes:
        storage.write(f"{i}", b"%d" % i)
        return storage.read(f"{i}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(40))) == [b"%d" % i for i in range(40)]


# Addresses


def test_an_address_is_a_path_or_a_url(tmp_path: Path, isolated: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "f").write_bytes(b"content")
    for root in (tmp_path / "a b", str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        assert open_storage(root).read("f") == b"content"
        assert not open_storage(root).is_remote
    for url in ("s3://bucket/a/b", "gs://bucket/a", "az://box", "https://host:1/a", "http://host"):
        assert open_storage(f"{url}/").url == url
        assert open_storage(url).is_remote


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/a", "ftp:// is no kind of storage"),
        ("s3:///a", "names no bucket"),
        ("https://me:secret@host/a", "user or a password"),
        ("https://host/a?signature=secret", "leave out what follows"),
        ("file://host/a", "no file of this machine"),
    ],
)
def test_other_addresses_are_refused(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=re.escape(said)) as failed:
        open_storage(url)
    assert "secret" not in str(failed.value)


@pytest.mark.slow
def test_importing_neurobrick_imports_no_client() -> None:
    code = "import sys, neurobrick; neurobrick.Dataset; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"obstore", "boto3", "botocore"} & set(found.stdout.split())


# A folder


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    folder.write("a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            folder.write("a", b"new")
    assert folder.files() == {"a": 3}
    assert folder.read("a") == b"old"
