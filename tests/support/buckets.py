"""Fixtures: an S3 server and a web server on loopback.

Whoever asks for `s3` or `web` is cut off from the AWS settings and the cache of who runs the tests.
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
from typing import Any

import pytest

from demo.loopback import Faults, Handler, Loopback
from neurobrick.storage.address import Limits

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HASTY = Limits(retries=2, retry_within=2, connect=1, stall=2)
STARTS_WITHIN = 30  # seconds; it takes less than one, but on a machine that does much else

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
    """An empty bucket of its own; `client` is boto3's, which looks at it from outside."""

    name: str
    endpoint: str
    client: Any

    @property
    def url(self) -> str:
        """A place in the bucket."""
        return f"s3://{self.name}/corpora/one"

    def keys(self) -> list[str]:
        """Of every object in it, not all of which are below `url`."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [entry["Key"] for entry in found]

    def publish(self, name: str, content: bytes) -> None:
        """Put an object below `url` that everyone may read."""
        key = f"corpora/one/{name}"
        self.client.put_object(Bucket=self.name, Key=key, Body=content, ACL="public-read")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of an S3 server, which runs in a process of its own."""
    pytest.importorskip("moto.server")
    with subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        began = time.monotonic()
        port = process.stdout.readline().decode().strip()
        assert port, "moto does not start"
        assert time.monotonic() - began < STARTS_WITHIN
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No AWS settings and no cache but those of the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NEUROBRICK_CACHE_DIR", str(tmp_path / "neurobrick-cache"))
    return monkeypatch


@pytest.fixture
def s3(moto: str, isolated: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket; the environment tells where, and has keys for it."""
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
    """The files of `folder`, which a web server sends `delay` seconds late."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.delay = 0.0
        self.site = Loopback(Faults())
        self.url = self.site.listen(self._answer)

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, so far."""
        return [request.path.lstrip("/") for request in self.site.log]

    def write(self, name: str, content: bytes) -> None:
        """Serve `content` at `name`."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _answer(self, request: Handler) -> None:
        time.sleep(self.delay)
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
