"""Calls of a bucket's methods that go on side by side."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from neurobrick.storage.address import Limits, StorageUrl
from neurobrick.storage.remote.bucket import Bucket


class Calls(Protocol):
    """What makes them: the threads of this process, or another process."""

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Begin to call a method of Bucket."""
        ...


class Threads:
    """Calls by threads, which are started as they are needed."""

    def __init__(self, place: StorageUrl, limits: Limits) -> None:
        self._bucket = Bucket(place, limits)
        self._pool = ThreadPoolExecutor(limits.at_once, thread_name_prefix="neurobrick-read")

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Begin to call a method of the bucket."""
        return self._pool.submit(getattr(self._bucket, method), *args)

    def close(self) -> None:
        """End, when the calls that have begun have ended."""
        self._pool.shutdown(cancel_futures=True)
