"""Where the files of a Zarr store are: in a folder here, or behind any other `Files`.

`LocalFiles` stays in its folder: a symbolic link is refused by name and never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from neurobrick.errors import CorruptFile, UnsupportedFile

# What git, datalad and dandi keep beside a store; the archive neither holds nor hashes it.
LEFT_OUT = frozenset({".dandi", ".datalad", ".git", ".gitattributes", ".gitmodules"})

BLOCK = 1 << 20


class Files(Protocol):
    """The files of one store, by key: a path below its root, with slashes, without a leading one.

    Both methods may raise an error of `neurobrick.errors`, which is passed on as it is.
    """

    def listing(self) -> Mapping[str, int]:
        """Every key, with the size of its file in bytes. Asked for once."""
        ...

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The whole of each file, concurrently where that is faster; absent ones are left out.

        Only keys of the listing are asked for.
        """
        ...


class LocalFiles:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = os.path.realpath(folder)

    def listing(self) -> dict[str, int]:
        """Every key with its size. Raises UnsupportedFile when there is no folder, CorruptFile
        when an entry is a link or neither file nor folder, or cannot be looked at."""
        if not os.path.isdir(self._real):  # noqa: PTH112
            raise UnsupportedFile(f"there is no folder {self.folder.name}")
        try:
            return dict(_walk(Path(self._real), self.folder.name))
        except OSError as error:
            raise CorruptFile(f"{self.folder.name} cannot be listed ({error.strerror})") from error

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The files of `keys`. Raises CorruptFile when one is there and cannot be read."""
        found = {}
        for key in keys:
            path = Path(self._real, *key.split("/"))
            # The listing refuses links; one that was put there since is absent.
            if os.path.realpath(path) == str(path) and path.is_file():
                try:
                    found[key] = path.read_bytes()
                except OSError as error:
                    raise CorruptFile(
                        f"{self.folder.name}/{key} cannot be read ({error.strerror})"
                    ) from error
        return found


def _walk(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    """Keys and sizes below `folder`, of a store called `name` in messages."""
    ahead = [folder]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                if entry.name in LEFT_OUT:
                    continue
                key = Path(entry.path).relative_to(folder).as_posix()
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    ahead.append(Path(entry.path))
                elif stat.S_ISREG(info.st_mode):
                    yield key, info.st_size
                else:
                    what = "a symbolic link" if entry.is_symlink() else "no regular file"
                    raise CorruptFile(
                        f"{name}/{key} is {what}, which is not followed: put the file itself there"
                    )
