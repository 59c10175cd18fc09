"""A corpus in an object store, or on a web server: s3://, gs://, az://, https://."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from neurobrick.storage.address import Limits, StorageUrl
from neurobrick.storage.names import check_name
from neurobrick.storage.remote.ahead import Ahead
from neurobrick.storage.remote.calls import Calls, Threads
from neurobrick.storage.remote.forks import obstore_is_broken


class ObjectStorage:
    """The objects below `url`, fetched by as many threads at once as `limits` says.

    Nothing is asked until a method is called. It may be used by several threads, in forks of this
    process, and by processes to which it is sent; each finds the credentials for itself.

    Raises StoreError when `url` is not that of a storage, and from every method when the storage
    does not answer, refuses, or has no such bucket.
    """

    is_remote = True

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self._place = StorageUrl.parse(url)
        self._limits = limits or Limits()
        self._processes: dict[int, _Process] = {}  # what each fork has; threads do not survive it

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str, Limits]]:
        return (ObjectStorage, (self.url, self._limits))

    def __repr__(self) -> str:
        return f"ObjectStorage({self.url!r})"

    @property
    def url(self) -> str:
        """Where this is, without a slash at its end."""
        return self._place.url

    @property
    def lists(self) -> bool:
        """Whether it can tell what files it has: a web server cannot."""
        return not self._place.is_plain_http

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        return self._begin(name).result()

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files, fetched at once. Raises FileNotFoundError."""
        return [begun.result() for begun in [self._begin(name) for name in names]]

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Begin to fetch files; each call waits for one and gives its content.

        What was read ahead is not fetched again; calls raise FileNotFoundError.
        """
        ahead = self._here.ahead
        keys = zip(names, crcs, strict=True)
        return [(ahead.take(key) or self._begin(key[0])).result for key in keys]

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Begin to fetch files that will be asked for soon."""
        self._here.ahead.begin(list(zip(names, crcs, strict=True)), self._begin)

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and their bytes.

        Raises StoreError over plain HTTP, which cannot list.
        """
        return dict(sorted(self._call("list", prefix).items()))

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or what was there stays."""
        check_name(name, self.url)
        self._call("put", name, content)

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        for name in names:
            check_name(name, self.url)
        if names:
            self._call("delete", list(names))

    def read_version(self, name: str) -> tuple[bytes, str]:
        """The content of a file, and its version for `write_if`. Raises FileNotFoundError."""
        check_name(name, self.url)
        return self._call("get_version", name)

    def write_if(self, name: str, content: bytes, version: str | None) -> str | None:
        """Put `content` under `name` if that is still `version`, or, for None, not there yet.

        Returns the new version. None says that another was faster: read it again, and write what
        comes of both. (It may have been this call: an answer that is lost is asked for again.)
        """
        check_name(name, self.url)
        return self._call("put_if", name, content, version)

    def _begin(self, name: str) -> Future[bytes]:
        check_name(name, self.url)
        return self._here.calls.submit("get", name)

    def _call(self, method: str, *args: Any) -> Any:
        return self._here.calls.submit(method, *args).result()

    @property
    def _here(self) -> _Process:
        pid = os.getpid()
        found = self._processes.get(pid)  # without a lock: a fork may inherit one that is held
        if found is None:
            found = self._processes.setdefault(pid, _Process(self._place, self._limits))
        return found


class _Process:
    """What one process has of a storage."""

    def __init__(self, place: StorageUrl, limits: Limits) -> None:
        self.ahead = Ahead()
        self.calls: Calls
        if obstore_is_broken():
            from neurobrick.storage.remote.forked import Helper

            self.calls = Helper(place, limits)
            weakref.finalize(self, self.calls.close)
        else:
            self.calls = Threads(place, limits)
