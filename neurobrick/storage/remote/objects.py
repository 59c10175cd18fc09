"""A corpus in an object store, or on a web server: s3://, gs://, az://, https://."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from neurobrick.errors import StoreError
from neurobrick.storage.address import Limits, StorageUrl
from neurobrick.storage.names import check_name
from neurobrick.storage.per_process import PerProcess, loaded_before_fork
from neurobrick.storage.remote.ahead import Ahead
from neurobrick.storage.remote.bucket import Bucket


class ObjectStorage:
    """The objects below `url`, fetched by `limits.at_once` threads.

    No request is made before a method is called. Several threads may use it, and processes to which
    it is sent; each process finds the credentials for itself. A forked child of a process that has
    loaded obstore cannot use it: obstore's threads do not survive a fork.

    Raises StoreError when `url` is not that of a storage. Every method raises StoreError when the
    storage does not answer, refuses, or has no such bucket, and in such a forked child.
    """

    is_remote = True

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self._place = StorageUrl.parse(url)
        self._limits = limits or Limits()
        self._here = PerProcess(partial(_Requests, self._place, self._limits))

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str, Limits]]:
        return (ObjectStorage, (self.url, self._limits))

    def __repr__(self) -> str:
        return f"ObjectStorage({self.url!r})"

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return self._place.url

    @property
    def lists(self) -> bool:
        """Whether `files` can list them: a web server cannot."""
        return not self._place.is_plain_http

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        return self._begin(name).result()

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files, fetched at once. Raises FileNotFoundError."""
        return [begun.result() for begun in [self._begin(name) for name in names]]

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Begin to fetch files. Each call waits for one file and returns its content.

        A file that was read ahead is not fetched again. The calls raise FileNotFoundError.
        """
        ahead = self._here.get().ahead
        keys = zip(names, crcs, strict=True)
        return [(ahead.take(key) or self._begin(key[0])).result for key in keys]

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Begin to fetch files that will be read soon."""
        self._here.get().ahead.begin(list(zip(names, crcs, strict=True)), self._begin)

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and the bytes of each file.

        Raises StoreError over plain HTTP, which cannot list.
        """
        return dict(sorted(self._call("list", prefix).items()))

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or the file stays as it was."""
        check_name(name, self.url)
        self._call("put", name, content)

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; absent ones are no error."""
        for name in names:
            check_name(name, self.url)
        if names:
            self._call("delete", list(names))

    def read_version(self, name: str) -> tuple[bytes, str]:
        """The content of a file, and its version for `write_if`. Raises FileNotFoundError."""
        check_name(name, self.url)
        return self._call("get_version", name)

    def write_if(self, name: str, content: bytes, version: str | None) -> str | None:
        """Write a file if it still has this `version`; for None, if it does not exist.

        Returns the new version. None: another writer was faster; read the file again and merge. The
        other writer may have been this call, whose first answer was lost.
        """
        check_name(name, self.url)
        return self._call("put_if", name, content, version)

    def _begin(self, name: str) -> Future[bytes]:
        check_name(name, self.url)
        return self._here.get().begin("get", name)

    def _call(self, method: str, *args: Any) -> Any:
        return self._here.get().begin(method, *args).result()


class _Requests:
    """What one process has of a storage: its client, and the threads that wait for answers."""

    def __init__(self, place: StorageUrl, limits: Limits) -> None:
        if loaded_before_fork("obstore"):
            raise StoreError(
                f"{place.url} cannot be used in a forked process, because obstore does not survive"
                " a fork: start processes by spawn or forkserver, as DataLoader(…,"
                ' multiprocessing_context="spawn") does'
            )
        self.ahead = Ahead()
        self._bucket = Bucket(place, limits)
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="neurobrick-read")

    def begin(self, method: str, *args: Any) -> Future[Any]:
        """Begin to call a method of Bucket in a thread."""
        return self._threads.submit(getattr(self._bucket, method), *args)
