"""Files that are fetched before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

MOST = 256  # files that wait to be taken, of at most a megabyte each

Key = tuple[str, int]  # name of a file, and the checksum that its content should have


class Ahead:
    """Fetches that have begun. Each is taken once; the oldest are dropped beyond `MOST`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._begun: dict[Key, Future[bytes]] = {}

    def begin(self, keys: list[Key], fetch: Callable[[str], Future[bytes]]) -> None:
        """Begin those fetches of `keys` that have not begun, at most the first `MOST`."""
        with self._lock:
            for key in keys[:MOST]:
                if key not in self._begun:
                    self._begun[key] = fetch(key[0])
            for key in list(self._begun)[: max(0, len(self._begun) - MOST)]:
                self._begun.pop(key).cancel()

    def take(self, key: Key) -> Future[bytes] | None:
        """The fetch of `key`, if it has begun and has not failed."""
        with self._lock:
            fetch = self._begun.pop(key, None)
        failed = fetch is not None and fetch.done() and fetch.exception() is not None
        return None if failed else fetch
