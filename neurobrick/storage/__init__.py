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
    """Named files.

    Every method raises StoreError when the storage fails or refuses. Methods that read raise
    FileNotFoundError, with the name, when a file is not there.
    """

    @property
    def url(self) -> str:
        """The path or the URL, without credentials."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether the files are on another machine."""
        ...

    @property
    def lists(self) -> bool:
        """Whether `files` can list them."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file."""
        ...

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files, fetched at once."""
        ...

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Begin to fetch files. Each of the calls waits for one file and returns its content.

        `crcs` are the checksums of the files, by which a cache finds them. Nothing is checked here.
        """
        ...

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Begin to fetch files that will be read soon."""
        ...

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and the bytes of each file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or the file stays as it was."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; absent ones are no error."""
        ...


def open_storage(root: str | Path, disk_cache_bytes: int | None = None) -> Storage:
    """The storage at `root`: a path, or a URL (s3://, gs://, az://, https://, http://, file://).

    `disk_cache_bytes` bounds the files of other machines that are kept in the user's cache folder;
    None is the default of `DiskCache`. Raises StoreError when `root` is no such address.
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
