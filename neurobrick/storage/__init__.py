"""Where the files of a corpus lie: a folder, or an object store.

Files are small whole objects, a kilobyte to a megabyte, under names with slashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from neurobrick.errors import StoreError
from neurobrick.storage import per_process as per_process  # it must know of every fork
from neurobrick.storage.folder import Folder


class Storage(Protocol):
    """Named files. Every method raises StoreError when the storage does not do as it should, and
    FileNotFoundError, with the name, when a file is not there."""

    @property
    def url(self) -> str:
        """Where this is, as a user would write it, without credentials."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether reading means asking another machine."""
        ...

    @property
    def lists(self) -> bool:
        """Whether it can tell what files it has."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files, fetched at once."""
        ...

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Begin to fetch files; each call waits for one and gives its content.

        By their crc32c, content is told that is already here.
        """
        ...

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Begin to fetch files that will be asked for soon."""
        ...

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and their bytes."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or what was there stays."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        ...


def open_storage(root: str | Path, disk_cache_bytes: int | None = None) -> Storage:
    """The storage at `root`: a path, or a URL (s3://, gs://, az://, https://, http://, file://).

    Of what is fetched from another machine, `disk_cache_bytes` are kept in the user's cache folder,
    or as many as `DiskCache` keeps for None. Raises StoreError when `root` is no such address.
    """
    place = str(root)
    scheme, separator, rest = place.partition("://")
    if not separator:
        return Folder(Path(place))
    if scheme == "file":
        if not rest.startswith("/"):
            raise StoreError(f"{place} is no file of this machine: expected file:///PATH")
        return Folder(Path(unquote(rest)))
    from neurobrick.storage.remote.cached import CachedStorage
    from neurobrick.storage.remote.disk_cache import DiskCache
    from neurobrick.storage.remote.objects import ObjectStorage

    cache = DiskCache() if disk_cache_bytes is None else DiskCache(budget=disk_cache_bytes)
    return CachedStorage(ObjectStorage(place), cache)
