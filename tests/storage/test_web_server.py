"""A corpus on a web server: read by name, side by side, ahead, and again after a failure."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from demo.loopback import Faults
from neurobrick.errors import StoreError
from neurobrick.storage import open_storage
from neurobrick.storage.remote.objects import ObjectStorage
from tests.support.buckets import Web, crc, fetched, served


def test_a_web_server_is_read_by_name(web: Web) -> None:
    web.write("corpus/sub%2FA b.zarr/c/é", b"content")
    storage = open_storage(f"{web.url}/corpus/")
    assert storage.read("sub%2FA b.zarr/c/é") == b"content"
    with pytest.raises(FileNotFoundError, match="corpus/none"):
        storage.read("none")


def test_a_web_server_is_neither_listed_nor_written(web: Web) -> None:
    storage = open_storage(web.url)
    with pytest.raises(StoreError, match="cannot be listed"):
        storage.files()
    with pytest.raises(StoreError, match="cannot be written"):
        storage.write("a", b"")
    with pytest.raises(StoreError, match="cannot be written"):
        storage.delete(["a"])
    assert web.asked == []


def test_the_address_of_a_web_server_is_encoded_and_names_are_not(web: Web) -> None:
    web.write("my corpus/a%20b", b"content")
    assert ObjectStorage(f"{web.url}/my%20corpus").read("a%20b") == b"content"


@pytest.mark.slow
@pytest.mark.parametrize("faults", [Faults(every_nth_503=2), Faults(cut_every_nth_body=2)])
def test_what_fails_now_and_then_is_asked_for_again(web: Web, faults: Faults) -> None:
    contents = served(web, 10, size=100_000)
    web.site.faults = faults
    assert fetched(ObjectStorage(web.url), contents) == contents


def test_files_are_fetched_side_by_side(web: Web) -> None:
    web.delay = 0.05
    names = [f"{i}" for i in range(40)]
    for name in names:
        web.write(name, name.encode() * 1000)
    assert ObjectStorage(web.url).read_many(names) == [name.encode() * 1000 for name in names]
    assert web.most_at_once > 8


def until(done: Callable[[], bool]) -> None:
    """Wait for something that other threads do."""
    for _ in range(1000):
        if done():
            return
        time.sleep(0.01)
    pytest.fail("it does not happen")


def test_what_is_read_ahead_is_fetched_before_it_is_asked_for_and_once(web: Web) -> None:
    contents = served(web, 20)
    storage = ObjectStorage(web.url)
    storage.read_ahead(list(contents), [crc(content) for content in contents.values()])
    until(lambda: len(web.asked) == 20)
    assert fetched(storage, contents) == contents
    assert sorted(web.asked) == sorted(contents)


def test_what_was_read_ahead_of_another_version_is_not_given(web: Web) -> None:
    web.write("a", b"old")
    storage = ObjectStorage(web.url)
    storage.read_ahead(["a"], [crc(b"old")])
    until(lambda: len(web.asked) == 1)
    web.write("a", b"new")
    assert storage.fetch(["a"], [crc(b"new")])[0]() == b"new"


def test_a_failure_ahead_is_none_when_the_file_is_there_later(web: Web) -> None:
    storage = ObjectStorage(web.url)
    storage.read_ahead(["a"], [crc(b"content")])
    until(lambda: len(web.asked) == 1)
    time.sleep(0.1)
    web.write("a", b"content")
    assert storage.fetch(["a"], [crc(b"content")])[0]() == b"content"
