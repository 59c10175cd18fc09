"""An HTTP server on loopback that keeps a log and misbehaves as `Faults` say.

Its user decides what is served: a function answers each request through a `Handler`.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

JSON = dict[str, Any]


@dataclass(frozen=True)
class Faults:
    """How a server misbehaves. For fields with "every nth", 1 means always and 0 never."""

    every_nth_503: int = 0
    retry_after: int = 0  # seconds of the Retry-After header of a 503; 0: no such header
    cut_every_nth_body: int = 0  # each n-th answer with a file's bytes breaks off half way
    wrong_digest: Collection[str] = ()  # paths of files with a wrong digest
    no_sha256: Collection[str] = ()  # paths of assets with only a dandi-etag, as on a fresh draft
    ignore_ranges: bool = False  # files are sent whole, also when a range is requested
    require_token: str | None = None  # every dandiset is embargoed, and opens to this key only
    signature_lasts: int = 0  # number of requests for which a signed address is valid


class Request(NamedTuple):
    """A line of the log: a request, and how it was answered."""

    method: str
    path: str
    query: dict[str, str]
    range: str | None  # the header, as `bytes=0-9`
    status: int  # of the answer
    authorized: bool  # whether it came with a key


class Loopback:
    """One or more ports of this machine, served while used as a context manager.

    `log` holds every request that was answered, in the order of the answers.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.log: list[Request] = []
        self._asked, self.bodies = count(1), count(1)
        self._servers: list[_Server] = []

    def listen(self, answer: Callable[[Handler], None], port: int = 0) -> str:
        """The address of a new port. `answer` answers its requests; KeyError from it is a 404."""
        server = _Server(("127.0.0.1", port), Handler)
        server.site, server.answer = self, answer
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def overloaded(self) -> bool:
        """Whether to refuse this request with a 503."""
        return _nth(self._asked, self.faults.every_nth_503)

    def cut(self) -> bool:
        """Whether to break this body off."""
        return _nth(self.bodies, self.faults.cut_every_nth_body)


class _Server(ThreadingHTTPServer):
    site: Loopback
    answer: Callable[[Handler], None]
    daemon_threads = True
    request_queue_size = 64  # clients come with many connections at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close their connection; report anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection; `path` and `query` are those of its current request."""

    server: _Server
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # or each answer waits for the client's delayed acknowledgement

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.path = unquote(url.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        try:
            if self.server.site.overloaded():
                seconds = self.server.site.faults.retry_after
                return self.send(503, {"Retry-After": str(seconds)} if seconds else {})
            self.server.answer(self)
        except KeyError:
            self.send_json({"detail": "Not found."}, 404)
        except ConnectionError:  # the client went away
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def send_file(self, file: Path, etag: str) -> None:
        """Send the bytes of `file`, or the range of them that is requested."""
        start, stop, size, status = 0, file.stat().st_size, file.stat().st_size, 200
        headers = {"ETag": f'"{etag}"'}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if part and not self.server.site.faults.ignore_ranges:
            start, stop = int(part[1]), min(int(part[2] or size - 1) + 1, size)
            if start >= size:
                return self.send(416, {"Content-Range": f"bytes */{size}"})
            status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        self.send(status, headers | {"Content-Length": str(stop - start)})
        if self.command == "HEAD":
            return
        if self.server.site.cut():
            stop -= (stop - start + 1) // 2
            self.close_connection = True
        with file.open("rb") as stream:
            stream.seek(start)
            while block := stream.read(min(stop - stream.tell(), 1 << 20)):
                self.wfile.write(block)

    def send_json(self, answer: JSON, status: int = 200) -> None:
        """Send a JSON document."""
        body = json.dumps(answer).encode()
        self.send(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send(self, status: int, headers: dict[str, str]) -> None:
        """Send the head of an answer. There is no body unless `headers` hold its length."""
        span, key = self.headers["Range"], "Authorization" in self.headers
        self.server.site.log.append(Request(self.command, self.path, self.query, span, status, key))
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing to standard error: the requests are in `log`."""


def _nth(counter: count[int], n: int) -> bool:
    return n > 0 and next(counter) % n == 0
