"""Files of remote storages on this machine's disk: kept within a budget, and never wrong."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from neurobrick.storage.remote.cached import CachedStorage
from neurobrick.storage.remote.disk_cache import DiskCache
from neurobrick.storage.remote.objects import ObjectStorage
from tests.support.buckets import Web, crc, fetched, served

HANGS_AFTER = 60  # seconds


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


def files_of(cache: DiskCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*/*") if path.is_file()]


def test_what_was_fetched_is_not_fetched_again(web: Web, cache: DiskCache) -> None:
    contents = served(web, 10)
    storage = CachedStorage(ObjectStorage(web.url), cache)
    assert fetched(storage, contents) == contents
    assert len(web.asked) == 10
    another = CachedStorage(ObjectStorage(web.url), DiskCache(cache.folder))
    another.read_ahead(list(contents), [crc(content) for content in contents.values()])
    assert fetched(another, contents) == contents
    assert len(web.asked) == 10


def test_what_has_no_checksum_is_asked_for_every_time(web: Web, cache: DiskCache) -> None:
    web.write("manifest.json", b"old")
    storage = CachedStorage(ObjectStorage(web.url), cache)
    assert storage.read("manifest.json") == b"old"
    web.write("manifest.json", b"new")
    assert storage.read_many(["manifest.json"]) == [b"new"]
    assert files_of(cache) == []


def test_a_file_that_was_replaced_is_fetched(web: Web, cache: DiskCache) -> None:
    storage = CachedStorage(ObjectStorage(web.url), cache)
    web.write("a", b"old")
    fetched(storage, {"a": b"old"})
    web.write("a", b"new")
    assert fetched(storage, {"a": b"new"}) == {"a": b"new"}
    assert fetched(storage, {"a": b"old"}) == {"a": b"old"}, "a reader of the old store goes on"


def test_content_that_does_not_match_is_given_once_and_not_kept(
    web: Web, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CachedStorage, "_write_down", lambda storage: None)  # a very slow disk
    web.write("a", b"damaged")
    storage = CachedStorage(ObjectStorage(web.url), cache)

    def get() -> bytes:
        return storage.fetch(["a"], [crc(b"content")])[0]()

    assert get() == b"damaged"
    web.write("a", b"content")
    assert get() == b"content", "the retry asks the server"
    assert get() == b"content"
    assert len(web.asked) == 2
    assert files_of(cache) == []


@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_a_damaged_file_of_the_cache_is_fetched_again(
    web: Web, cache: DiskCache, damage: bytes | None
) -> None:
    contents = served(web, 1)
    storage = CachedStorage(ObjectStorage(web.url), cache)
    fetched(storage, contents)
    (path,) = files_of(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?" if damage is None else damage)
    assert fetched(storage, contents) == contents
    assert len(web.asked) == 2
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_what_was_not_used_for_longest_makes_room(web: Web, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", budget=20_000)
    storage = CachedStorage(ObjectStorage(web.url), cache)
    contents = served(web, 40)
    first = {"c/0": contents["c/0"]}
    for name, content in contents.items():
        fetched(storage, {name: content})
        for path in files_of(cache):  # all but the first were used an hour ago, or earlier
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))
        assert fetched(storage, first) == first
    assert 15_000 <= sum(path.stat().st_size for path in files_of(cache)) <= 21_000
    assert web.asked.count("c/0") == 1, "it was always in use"
    assert fetched(storage, {"c/39": contents["c/39"]})
    assert web.asked.count("c/39") == 1
    fetched(storage, {"c/1": contents["c/1"]})
    assert web.asked.count("c/1") == 2


def test_what_a_killed_process_left_is_removed(web: Web, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    contents = served(web, 1)
    left = cache.folder / "00" / "abc.123-456"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    fetched(CachedStorage(ObjectStorage(web.url), cache), contents)
    assert not left.exists()


def test_a_full_disk_is_no_error(
    web: Web, cache: DiskCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    contents = served(web, 5)
    storage = CachedStorage(ObjectStorage(web.url), cache)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert fetched(storage, contents) == contents
    assert "No space left" in caplog.text
    assert len(caplog.records) == 1, "it is said once"
    assert files_of(cache) == []


def test_a_folder_that_cannot_be_made_is_no_error(web: Web, tmp_path: Path) -> None:
    contents = served(web, 2)
    (tmp_path / "file").write_bytes(b"")
    cache = DiskCache(tmp_path / "file" / "cache")
    assert fetched(CachedStorage(ObjectStorage(web.url), cache), contents) == contents


def test_the_cache_is_where_the_environment_says(isolated: pytest.MonkeyPatch) -> None:
    assert str(DiskCache().folder) == os.environ["NEUROBRICK_CACHE_DIR"]
    isolated.delenv("NEUROBRICK_CACHE_DIR")
    assert DiskCache().folder.name == "neurobrick"


@pytest.mark.slow
def test_processes_share_a_cache(web: Web, tmp_path: Path) -> None:
    contents = served(web, 60)
    cache = DiskCache(tmp_path / "cache", budget=20_000)  # each evicts what the other has written
    code = (
        "import pickle, sys; storage, contents = pickle.load(sys.stdin.buffer)\n"
        "from tests.support.buckets import fetched\n"
        "for _ in range(4): assert fetched(storage, contents) == contents"
    )
    sent = pickle.dumps((CachedStorage(ObjectStorage(web.url), cache), contents))
    others = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdin=subprocess.PIPE)
        for _ in range(2)
    ]
    for other in others:
        assert other.stdin
        with other.stdin as pipe:
            pipe.write(sent)
    assert [other.wait(HANGS_AFTER) for other in others] == [0, 0]
    kept = [path.stat().st_size for path in files_of(cache)]
    assert sum(kept) <= 23_000
    assert set(kept) == {1000}, "no file is half written"
