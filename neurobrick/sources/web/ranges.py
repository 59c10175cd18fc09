"""Parts of a file that stays in its archive, requested side by side.

An archive redirects to the address of the bytes. For a file that is not public, it signs that
address. The redirect is followed once, and again when the signature has expired.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

import requests

from neurobrick.errors import RangesIgnored, RequestRefused, SourceError
from neurobrick.sources.web.transport import Web, blocks, persevere, side_by_side


class RangeReader:
    """The bytes of one file of an archive, by ranges.

    Attributes: `size` of the file in bytes; `requests` sent so far; `bytes` received so far.
    """

    def __init__(
        self, title: str, url: str, size: int, archive: Web, store: Web, absent: str
    ) -> None:
        """`archive` answers at `url`, with its key. It may redirect to another address, which is
        read through `store`, without a key."""
        self.title = title
        self.size = size
        self.requests = 0
        self.bytes = 0
        self._url = url
        self._archive = archive
        self._store = store
        self._absent = absent
        self._address: str | None = None
        self._address_lock = threading.Lock()
        self._count_lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """A reader that is sent to another process begins anew there."""
        given = (self.title, self._url, self.size, self._archive, self._store, self._absent)
        return RangeReader, given

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes `[start, stop)` of each range, fetched side by side. Ranges that break off are
        continued. Several threads may call this.

        Raises RangesIgnored when the server sends whole files only, SourceError when the file is
        not available or is no longer the same.
        """
        return side_by_side(self._read, ranges)

    def _read(self, span: tuple[int, int]) -> bytes:
        start, stop = span
        if not 0 <= start <= stop <= self.size:
            raise SourceError(f"{self.title} has {self.size} bytes: there is no range {span} in it")
        data = bytearray()
        persevere(
            gain=lambda: self._extend(data, start, stop),
            held=lambda: len(data),
            size=stop - start,
            patience=self._store.patience,
            title=f"the range {start}–{stop} of {self.title}",
            advice="try again later",
        )
        return bytes(data)

    def _extend(self, data: bytearray, start: int, stop: int) -> None:
        """Request the bytes from the end of `data` to `stop`, and add those that come.

        `data` begins at byte `start` of the file.
        """
        first = start + len(data)
        with self._get({"Range": f"bytes={first}-{stop - 1}"}) as response:
            if response.status_code != 206:
                raise RangesIgnored(
                    f"the server of {self.title} ignores ranges: fetch the file whole"
                )
            content_range = response.headers.get("Content-Range", "")
            sent = re.fullmatch(rf"bytes {first}-([0-9]{{1,19}})/{self.size}", content_range)
            if sent is None or int(sent[1]) >= stop:
                raise SourceError(
                    f"{self.title} is not what was listed: expected bytes {first}-{stop - 1}/"
                    f"{self.size}, got {content_range[:60]!r}: list it again"
                )
            for block in blocks(response):
                data += block
                self._count(n_bytes=len(block))

    def _get(self, headers: dict[str, str]) -> requests.Response:
        """The store's answer, from an address that has not expired."""
        address = self._locate()
        self._count(n_requests=1)
        try:
            return self._store.get(address, self._absent, headers)
        except RequestRefused:
            address = self._locate(stale=address)
            self._count(n_requests=1)
            return self._store.get(address, self._absent, headers)

    def _locate(self, stale: str | None = None) -> str:
        """The address of the bytes; requested anew if the known one is `stale`."""
        with self._address_lock:
            if self._address in (None, stale):
                headers = {"Range": "bytes=0-0"}  # where there is no redirect, this is an answer
                self._count(n_requests=1)
                with self._archive.get(
                    self._url, self._absent, headers, redirects=False
                ) as response:
                    moved = response.headers.get("Location", "") if response.is_redirect else ""
                self._address = urljoin(self._url, moved)
            return str(self._address)

    def _count(self, n_requests: int = 0, n_bytes: int = 0) -> None:
        with self._count_lock:
            self.requests += n_requests
            self.bytes += n_bytes
