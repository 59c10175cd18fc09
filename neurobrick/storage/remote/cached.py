"""A remote storage whose files are kept on this machine's disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from neurobrick.storage.checksum import matches
from neurobrick.storage.per_process import PerProcess
from neurobrick.storage.remote.disk_cache import DiskCache
from neurobrick.storage.remote.objects import ObjectStorage

MOST_COMING = 500  # files that wait to be written, of at most half a megabyte each
LATER = 0.05  # seconds before writing to disk, so that decoding is not slowed down


class CachedStorage:
    """The storage `remote`. Files that are fetched by their checksum are kept in `cache`."""

    is_remote = True

    def __init__(self, remote: ObjectStorage, cache: DiskCache) -> None:
        self.remote = remote
        self.cache = cache
        self._coming: dict[tuple[str, int], bytes] = {}  # fetched, not on the disk yet
        self._written_by: int | None = None  # the process that is about to write them

    def __reduce__(self) -> tuple[type[CachedStorage], tuple[ObjectStorage, DiskCache]]:
        return (CachedStorage, (self.remote, self.cache))

    def __repr__(self) -> str:
        return f"CachedStorage({self.url!r})"

    @property
    def url(self) -> str:
        """The URL of `remote`."""
        return self.remote.url

    @property
    def lists(self) -> bool:
        """Whether `files` can list them."""
        return self.remote.lists

    def read(self, name: str) -> bytes:
        """The content of a file as it is now. Raises FileNotFoundError."""
        return self.remote.read(name)

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files as they are now. Raises FileNotFoundError."""
        return self.remote.read_many(names)

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Begin to fetch the files that are not in the cache. Each call returns a file's content.

        Content with another checksum is returned, too, but not kept: the caller must check it.
        """
        keys = list(zip(names, crcs, strict=True))
        absent = self._absent(names, crcs)
        begun = dict(zip(absent, self.remote.fetch(*_apart(absent)), strict=True))
        return [
            partial(self._keep, *key, begun[key]) if key in begun else partial(self._kept, *key)
            for key in keys
        ]

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Begin to fetch the files that are not in the cache."""
        self.remote.read_ahead(*_apart(self._absent(names, crcs)))

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and the bytes of each file."""
        return self.remote.files(prefix)

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or the file stays as it was."""
        self.remote.write(name, content)

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; absent ones are no error."""
        self.remote.delete(names)

    def _absent(self, names: Sequence[str], crcs: Sequence[int]) -> list[tuple[str, int]]:
        """The names and checksums that are not in the cache, each once."""
        keys = dict.fromkeys(zip(names, crcs, strict=True))
        return [
            (name, crc)
            for name, crc in keys
            if (name, crc) not in self._coming and not self.cache.holds(self._at(name), crc)
        ]

    def _kept(self, name: str, crc: int) -> bytes:
        content = self._coming.get((name, crc)) or self.cache.get(self._at(name), crc)
        if content is None:  # damaged, or removed since `fetch` looked
            return self._keep(name, crc, partial(self.remote.read, name))
        return content

    def _keep(self, name: str, crc: int, fetched: Callable[[], bytes]) -> bytes:
        content = fetched()
        if not matches(content, crc):  # a second try must not get it again
            return content
        if len(self._coming) >= MOST_COMING:  # the disk is slower than the network
            self.cache.put(self._at(name), crc, content)
            return content
        self._coming[name, crc] = content
        if self._written_by != os.getpid():
            self._written_by = os.getpid()
            _writer.get().submit(self._write_down)
        return content

    def _write_down(self) -> None:
        time.sleep(LATER)
        self._written_by = None  # later files start another task
        for name, crc in list(self._coming):
            self.cache.put(self._at(name), crc, self._coming[name, crc])
            del self._coming[name, crc]

    def settle(self) -> None:
        """Wait until all fetched files are on the disk."""
        _writer.get().submit(int).result()

    def _at(self, name: str) -> str:
        return f"{self.url}/{name}"


# The one thread of this process that writes to the disk. Python waits for it before it exits.
_writer = PerProcess(lambda: ThreadPoolExecutor(1, thread_name_prefix="neurobrick-cache"))


def _apart(keys: Sequence[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [name for name, _ in keys], [crc for _, crc in keys]
