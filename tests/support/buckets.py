"""Fixtures: an S3 server and a web server on loopback.

A test with `s3` or `web` sees neither the AWS settings nor the cache of the user who runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from demo.loopback import Faults, Handler, Loopback
from neurobrick.storage import Storage
from neurobrick.storage.address import Limits
from neurobrick.storage.checksum import checksum
from neurobrick.storage.remote.cached import CachedStorage

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HASTY = Limits(retries=2, retry_within=2, connect=1, stall=2)

_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the tests end, in whatever way
"""

_numbers = count()


@dataclass(frozen=True)
class Bucket:
    """A bucket that is empty when a test begins."""

    name: str
    endpoint: str  # URL of the server
    client: Any  # boto3's, to look at the bucket without neurobrick

    @property
    def url(self) -> str:
        """A place in the bucket."""
        return f"s3://{self.name}/corpora/one"

    def keys(self) -> list[str]:
        """The keys of all objects in the bucket, also of those that are not below `url`."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [entry["Key"] for entry in found]

    def publish(self, name: str, content: bytes) -> None:
        """Put an object below `url` that everyone may read."""
        key = f"corpora/one/{name}"
        self.client.put_object(Bucket=self.name, Key=key, Body=content, ACL="public-read")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of an S3 server, which runs in another process."""
    pytest.importorskip("moto.server")
    with subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        port = process.stdout.readline().decode().strip()
        assert port, "moto does not start"
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Only the AWS settings and the cache of the test itself."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NEUROBRICK_CACHE_DIR", str(tmp_path / "neurobrick-cache"))
    return monkeypatch


@pytest.fixture
def s3(moto: str, isolated: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket. The environment has its endpoint, and keys for it."""
    import boto3

    isolated.setenv("AWS_ENDPOINT_URL", moto)
    isolated.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    isolated.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    isolated.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, moto, client)
    client.close()


class Web:
    """A web server that sends the files of `folder`, `delay` seconds late."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.delay = 0.0  # seconds
        self.most_at_once = 0  # requests that waited side by side
        self._waiting = 0
        self._lock = Lock()
        self.site = Loopback(Faults())
        self.url = self.site.listen(self._answer)

    @property
    def asked(self) -> list[str]:
        """The paths of all requests so far."""
        return [request.path.lstrip("/") for request in self.site.log]

    def write(self, name: str, content: bytes) -> None:
        """Serve `content` at `name`."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _answer(self, request: Handler) -> None:
        with self._lock:
            self._waiting += 1
            self.most_at_once = max(self.most_at_once, self._waiting)
        time.sleep(self.delay)
        with self._lock:
            self._waiting -= 1
        path = self.folder / request.path.lstrip("/")
        if not path.is_file():
            raise KeyError(request.path)
        request.send_file(path, md5(path.read_bytes()).hexdigest())


@pytest.fixture
def web(tmp_path: Path, isolated: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server of a folder."""
    found = Web(tmp_path / "web")
    with found.site:
        yield found


def crc(content: bytes) -> int:
    """The checksum by which a file is fetched."""
    return checksum(content)


def fetched(storage: Storage, contents: dict[str, bytes]) -> dict[str, bytes]:
    """What a storage gives for the names and checksums of `contents`."""
    gets = storage.fetch(list(contents), [crc(content) for content in contents.values()])
    found = {name: get() for name, get in zip(contents, gets, strict=True)}
    if isinstance(storage, CachedStorage):
        storage.settle()
    return found


def served(web: Web, n: int, size: int = 1000) -> dict[str, bytes]:
    """The names and contents of `n` files that `web` has."""
    contents = {f"c/{i}": bytes([i]) * size for i in range(n)}
    for name, content in contents.items():
        web.write(name, content)
    return contents
