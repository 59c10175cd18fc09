"""Files that are fetched before they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

MOST = 256  # files, of a megabyte at the most, that wait to be asked for

Key = tuple[str, int]  # a file's name, and the crc32c of what should be in it


class Ahead:
    """Fetches that have begun, each of which is given out once. The oldest are let go."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._begun: dict[Key, Future[bytes]] = {}

    def begin(self, keys: list[Key], fetch: Callable[[str], Future[bytes]]) -> None:
        """Begin to fetch those that have not begun; of very many, the first."""
        with self._lock:
            for key in keys[:MOST]:
                if key not in self._begun:
                    self._begun[key] = fetch(key[0])
            for key in list(self._begun)[: max(0, len(self._begun) - MOST)]:
                self._begun.pop(key).cancel()

    def take(self, key: Key) -> Future[bytes] | None:
        """What was begun for `key`, unless it has failed: then it is better fetched again."""
        with self._lock:
            found = self._begun.pop(key, None)
        failed = found is not None and found.done() and found.exception() is not None
        return None if failed else found
