"""Where the files of a corpus lie: folders, object stores and web servers."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from demo.loopback import Faults
from neurobrick.errors import StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.address import Limits
from neurobrick.storage.checksum import checksum
from neurobrick.storage.folder import Folder
from neurobrick.storage.remote.cached import CachedStorage
from neurobrick.storage.remote.disk_cache import DiskCache
from neurobrick.storage.remote.objects import ObjectStorage
from tests.support.buckets import ACCESS_KEY, HASTY, SECRET_KEY, Bucket, Web

HANGS_AFTER = 60  # seconds
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def crc(content: bytes) -> int:
    return checksum(content)


def fetched(storage: Storage, contents: dict[str, bytes]) -> dict[str, bytes]:
    """What comes for those names and their checksums."""
    gets = storage.fetch(list(contents), [crc(content) for content in contents.values()])
    found = {name: get() for name, get in zip(contents, gets, strict=True)}
    if isinstance(storage, CachedStorage):
        storage.settle()
    return found


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


def test_fetched_content_comes_in_order_and_is_not_checked(storage: Storage) -> None:
    names = [f"f/{i}" for i in range(50)]
    for name in names:
        storage.write(name, name.encode())
    wrong = [0] * len(names)
    storage.read_ahead(names[:30], wrong[:30])
    assert [get() for get in storage.fetch(names, wrong)] == [name.encode() for name in names]
    storage.write("f/0", b"new")  # and what was read ahead is given out once
    assert storage.fetch(["f/0"], [0])[0]() == b"new"


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


# S3


def test_a_long_listing_is_whole(s3: Bucket) -> None:
    storage = ObjectStorage(s3.url)
    names = [f"many/{i:04}" for i in range(1100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write(name, b"x"), names))
    assert list(storage.files("many/")) == names
    storage.delete(names)
    assert storage.files() == {}


def test_writing_stays_below_the_url(s3: Bucket) -> None:
    s3.client.put_object(Bucket=s3.name, Key="corpora/one-more/x", Body=b"")
    storage = ObjectStorage(s3.url)
    storage.write("x", b"")
    assert sorted(s3.keys()) == ["corpora/one-more/x", "corpora/one/x"]
    assert list(storage.files()) == ["x"]
    assert ObjectStorage(f"s3://{s3.name}").files() == {"corpora/one-more/x": 0, "corpora/one/x": 0}


def test_the_first_of_two_writers_wins(s3: Bucket) -> None:
    one, two = ObjectStorage(s3.url), ObjectStorage(s3.url)
    first = one.write_if("catalog", b"1", None)
    assert first
    assert two.write_if("catalog", b"2", None) is None, "it is there already"
    content, version = two.read_version("catalog")
    assert (content, version) == (b"1", first)
    second = two.write_if("catalog", b"1, 2", version)
    assert second
    assert one.write_if("catalog", b"1, 3", first) is None, "it is not the first any more"
    assert one.read("catalog") == b"1, 2"
    assert one.write_if("none", b"", first) is None
    with pytest.raises(FileNotFoundError):
        one.read_version("none")


def test_of_many_writers_each_adds_its_own(s3: Bucket) -> None:
    def add(i: int) -> None:
        storage = ObjectStorage(s3.url)
        while True:
            content, version = storage.read_version("log")
            if storage.write_if("log", content + b"%d," % i, version):
                return

    ObjectStorage(s3.url).write("log", b"")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    found = ObjectStorage(s3.url).read("log").decode().rstrip(",").split(",")
    assert sorted(found) == list("01234567")


class Puts(HTTPServer):
    """A server that keeps what is put, and answers with `status` and S3's error `code`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(("127.0.0.1", 0), _Put)
        self.status, self.body = status, f"<Error><Code>{code}</Code></Error>".encode()
        self.seen: list[tuple[str | None, bytes]] = []

    def __enter__(self) -> Puts:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Put(BaseHTTPRequestHandler):
    server: Puts

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers["x-amz-checksum-sha256"], content))
        self.send_response(self.server.status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


def test_what_is_written_comes_with_its_digest(isolated: pytest.MonkeyPatch) -> None:
    with Puts(200, "none") as server:
        isolated.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        ObjectStorage("s3://bucket", HASTY).write("a", b"content")
    digest = base64.b64encode(hashlib.sha256(b"content").digest()).decode()
    assert server.seen == [(digest, b"content")]


@pytest.mark.parametrize(
    ("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")]
)
@pytest.mark.parametrize("version", [None, '"1"'])
def test_two_writers_at_once_are_a_conflict(
    isolated: pytest.MonkeyPatch, status: int, code: str, version: str | None
) -> None:
    with Puts(status, code) as server:
        isolated.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        assert ObjectStorage("s3://bucket", HASTY).write_if("a", b"content", version) is None


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (301, "PermanentRedirect", "another region"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (403, "ExpiredToken", "expired"),
        (403, "RequestTimeTooSkewed", "clock"),
        (503, "SlowDown", "503 SlowDown: try again later"),
        (400, "BadDigest", "400 BadDigest"),
    ],
)
def test_what_a_server_says_is_explained(
    isolated: pytest.MonkeyPatch, status: int, code: str, said: str
) -> None:
    isolated.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    isolated.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with Puts(status, code) as server:
        isolated.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match=said):
            ObjectStorage("s3://bucket", HASTY).write("a", b"content")


def test_the_profile_has_keys_region_and_endpoint(
    s3: Bucket, isolated: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ObjectStorage(s3.url).write("a", b"content")
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        isolated.delenv(f"AWS_{name}")
    (tmp_path / "aws-config").write_text(
        f"[profile lab]\nregion = us-east-1\nservices = here\n"
        f"[services here]\ns3 =\n  endpoint_url = {s3.endpoint}\n"
    )
    (tmp_path / "aws-credentials").write_text(
        f"[lab]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    isolated.setenv("AWS_PROFILE", "lab")
    assert ObjectStorage(s3.url).read("a") == b"content"
    isolated.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match="nobody"):
        ObjectStorage(s3.url).read("a")


def test_a_bucket_tells_its_region(s3: Bucket) -> None:
    import botocore.session

    from neurobrick.storage.remote.s3 import bucket_region

    s3.client.create_bucket(
        Bucket="bucket-elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
    )
    session = botocore.session.Session()
    assert bucket_region(session, "bucket-elsewhere", s3.endpoint) == "eu-west-3"
    assert bucket_region(session, "bucket-none", s3.endpoint) == "us-east-1"
    assert bucket_region(session, "bucket-none", "http://127.0.0.1:1") == "us-east-1"


# Who may


def without_credentials(isolated: pytest.MonkeyPatch) -> None:
    isolated.delenv("AWS_ACCESS_KEY_ID")
    isolated.delenv("AWS_SECRET_ACCESS_KEY")


def test_a_public_bucket_needs_no_credentials(s3: Bucket, isolated: pytest.MonkeyPatch) -> None:
    s3.publish("a", b"public")
    ObjectStorage(s3.url).write("b", b"private")
    without_credentials(isolated)
    anyone = ObjectStorage(s3.url)
    assert anyone.read("a") == b"public"
    with pytest.raises(StoreError, match=r"b is not public, and no credentials.*AWS_PROFILE"):
        anyone.read("b")


@pytest.fixture
def guarded(s3: Bucket) -> Iterator[Bucket]:
    """A bucket whose server looks at who asks."""

    def look_at_all_after(first: str) -> None:
        place, kind = f"{s3.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(place, first.encode(), kind)
        urllib.request.urlopen(request, timeout=10).close()

    look_at_all_after("0")
    yield s3
    look_at_all_after("inf")


def test_wrong_credentials_are_named_and_not_shown(guarded: Bucket) -> None:
    storage = ObjectStorage(guarded.url)
    asked: list[Callable[[], object]] = [
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.files(),
        lambda: storage.delete(["a"]),
        lambda: storage.write_if("a", b"", None),
    ]
    for ask in asked:
        with pytest.raises(StoreError, match=r"refused.*AWS_") as failed:
            ask()
        shown = "".join(map(repr, [failed.value, failed.value.__cause__, storage]))
        assert SECRET_KEY not in shown
        assert ACCESS_KEY not in shown
        assert failed.value.__suppress_context__


def test_a_pickle_holds_no_credentials(s3: Bucket) -> None:
    storage = open_storage(s3.url)
    storage.write("a", b"content")
    assert storage.read("a") == b"content"
    sent = pickle.dumps(storage)
    assert ACCESS_KEY.encode() not in sent
    assert SECRET_KEY.encode() not in sent
    assert pickle.loads(sent).read("a") == b"content"


# What is not there, or does not answer


def test_a_bucket_that_is_not_there_is_named(s3: Bucket) -> None:
    storage = ObjectStorage("s3://bucket-none/a")
    asked: list[Callable[[], object]] = [
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.files(),
        lambda: storage.write_if("a", b"", None),
    ]
    for ask in asked:
        with pytest.raises(StoreError, match=f"no bucket bucket-none at {s3.endpoint}"):
            ask()


def test_a_host_that_does_not_answer_is_an_error_in_bounded_time(
    s3: Bucket, isolated: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    isolated.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"127.0.0.1:1 cannot be reached.*nothing answers there"):
        ObjectStorage(s3.url, HASTY).read("a")
    with pytest.raises(StoreError, match=r"cannot be reached.*its host has no address"):
        ObjectStorage("https://host.invalid", HASTY).read("a")
    assert time.monotonic() - began < 10


def test_a_server_that_hangs_is_an_error_in_bounded_time(web: Web) -> None:
    web.write("a", b"content")
    web.delay = 3
    limits = Limits(retries=1, retry_within=0.5, connect=1, stall=0.5)
    began = time.monotonic()
    with pytest.raises(StoreError, match="does not answer in time"):
        ObjectStorage(web.url, limits).read("a")
    assert time.monotonic() - began < 2.5


# A web server


def served(web: Web, n: int, size: int = 1000) -> dict[str, bytes]:
    """The names and contents of `n` files that `web` has."""
    contents = {f"c/{i}": bytes([i]) * size for i in range(n)}
    for name, content in contents.items():
        web.write(name, content)
    return contents


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


@pytest.mark.parametrize("faults", [Faults(every_nth_503=2), Faults(cut_every_nth_body=2)])
def test_what_fails_now_and_then_is_asked_for_again(web: Web, faults: Faults) -> None:
    contents = served(web, 10, size=100_000)
    web.site.faults = faults
    assert fetched(ObjectStorage(web.url), contents) == contents


def test_files_are_fetched_side_by_side(web: Web) -> None:
    web.delay = 0.02
    names = [f"{i}" for i in range(40)]
    for name in names:
        web.write(name, name.encode() * 1000)
    storage = ObjectStorage(web.url)
    storage.read("0")
    began = time.monotonic()
    assert storage.read_many(names) == [name.encode() * 1000 for name in names]
    assert time.monotonic() - began < 0.2, "one after the other they take 0.8 s"


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


# The cache


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


def test_processes_share_a_cache(web: Web, tmp_path: Path) -> None:
    contents = served(web, 60)
    cache = DiskCache(tmp_path / "cache", budget=20_000)  # each evicts what the other has written
    code = (
        "import pickle, sys; storage, contents = pickle.load(sys.stdin.buffer)\n"
        "from tests.storage.test_storage import fetched\n"
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
