"""Buckets: conditional writes, credentials, regions, and servers that refuse or are not there."""

from __future__ import annotations

import base64
import hashlib
import pickle
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from neurobrick.errors import StoreError
from neurobrick.storage import open_storage
from neurobrick.storage.address import Limits
from neurobrick.storage.remote.objects import ObjectStorage
from tests.support.buckets import ACCESS_KEY, HASTY, SECRET_KEY, Bucket, Web


@pytest.mark.slow
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


# Credentials


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


@pytest.mark.slow
def test_a_host_that_does_not_answer_is_an_error(s3: Bucket, isolated: pytest.MonkeyPatch) -> None:
    isolated.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"127.0.0.1:1 cannot be reached.*nothing answers there"):
        ObjectStorage(s3.url, HASTY).read("a")
    with pytest.raises(StoreError, match=r"cannot be reached.*its host has no address"):
        ObjectStorage("https://host.invalid", HASTY).read("a")


@pytest.mark.slow
def test_a_server_that_hangs_is_an_error_after_its_retries(web: Web) -> None:
    web.write("a", b"content")
    web.delay = 3
    limits = Limits(retries=1, retry_within=0.5, connect=1, stall=0.5)
    with pytest.raises(StoreError, match="does not answer in time"):
        ObjectStorage(web.url, limits).read("a")
    assert len(web.asked) <= 2
