"""The files of a Zarr store, in a folder of this machine or elsewhere: the interface `Files`.

`LocalFiles` stays in its folder. It refuses symbolic links by name and never follows them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from neurobrick.errors import CorruptFile, UnsupportedFile

# Files of git, datalad and dandi beside a store. The archive neither keeps nor hashes them.
LEFT_OUT = frozenset({".dandi", ".datalad", ".git", ".gitattributes", ".gitmodules"})

BLOCK = 1 << 20


class Files(Protocol):
    """The files of one store, by key: the path below its root, as `a/b/c`.

    Both methods may raise an error of `neurobrick.errors`. Callers pass it on unchanged.
    """

    def listing(self) -> Mapping[str, int]:
        """Every key, with the size of its file in bytes. Called once."""
        ...

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The content of each file. Absent files are left out.

        `keys` are keys of the listing. Files are read side by side where that is faster.
        """
        ...


class LocalFiles:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = os.path.realpath(folder)

    def listing(self) -> dict[str, int]:
        """Every key, with the size of its file in bytes.

        Raises UnsupportedFile when there is no folder, CorruptFile when an entry is a link, is
        neither file nor folder, or cannot be read.
        """
        if not os.path.isdir(self._real):  # noqa: PTH112
            raise UnsupportedFile(f"there is no folder {self.folder.name}")
        try:
            return dict(_walk(Path(self._real), self.folder.name))
        except OSError as error:
            raise CorruptFile(f"{self.folder.name} cannot be listed ({error.strerror})") from error

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The content of each file. Raises CorruptFile when a file cannot be read."""
        contents = {}
        for key in keys:
            path = Path(self._real, *key.split("/"))
            # The listing refuses links. A link that was made since counts as absent.
            if os.path.realpath(path) == str(path) and path.is_file():
                try:
                    contents[key] = path.read_bytes()
                except OSError as error:
                    raise CorruptFile(
                        f"{self.folder.name}/{key} cannot be read ({error.strerror})"
                    ) from error
        return contents


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
