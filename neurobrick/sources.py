"""Where files come from: the protocol of a source, and files on this machine as one.

A source lists its assets and fetches them one at a time; what `fetch` returns is whole. The other
source, a version of a dandiset, is in `dandi_source`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neurobrick.errors import SourceError

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Asset:
    """A file that a source has. `path` is relative, with `/` between its parts."""

    path: str
    size: int  # bytes
    location: str  # where the bytes are: an absolute path, or the address to download from
    asset_id: str | None = None
    sha256: str | None = None
    etag: str | None = None  # "dandi-etag": on a fresh draft there is no other digest yet
    dandiset: str | None = None
    version: str | None = None


def unwatched(_: int) -> None:
    pass


class Source(Protocol):
    """Somewhere files come from. `dataset` is the first part of the ids of their sessions."""

    dataset: str

    def assets(self) -> list[Asset]:
        """The NWB files, sorted by path (local ones in the order they were given)."""
        ...

    def others(self) -> list[Asset]:
        """What is there beside them: not NWB, or NWB kept as Zarr, which is not read yet."""
        ...

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        """A path where all of the asset's bytes are, verified; under `folder` if it had to be made.

        `progress` is told each number of bytes gained, and a negative one when bytes turn out to
        be wrong: what it was told adds up to the asset's size. Several threads may call this,
        for different assets. Raises SourceError.
        """
        ...


def select(assets: Sequence[Asset], include: Sequence[str], exclude: Sequence[str]) -> list[Asset]:
    """The assets whose path matches a glob of `include` (none given: all) and none of `exclude`.

    Globs are the archive's: they match the whole path, ignore case, and know only `*`, which
    crosses `/`.
    """
    included, excluded = [_glob(g) for g in include], [_glob(g) for g in exclude]
    return [
        asset
        for asset in assets
        if (not included or any(glob.fullmatch(asset.path) for glob in included))
        and not any(glob.fullmatch(asset.path) for glob in excluded)
    ]


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE | re.DOTALL)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalSource:
    """Files and folders of this machine; folders are searched for `*.nwb` at any depth.

    An asset's path is relative to the folder that was given, or the name of the file that was.
    Names that begin with a dot are passed over. Raises SourceError for a path that does not exist.
    """

    def __init__(self, paths: Sequence[str | Path], dataset: str = "local") -> None:
        self.dataset = dataset
        self._assets: list[Asset] = []
        self._others: list[Asset] = []
        found: dict[Path, str] = {}
        for name, file in (pair for path in paths for pair in _files(Path(path))):
            found.setdefault(file.absolute(), name)
        for file, name in found.items():
            # A link to nowhere is listed, and refused by fetch: a clone lacks some of its files.
            there = file.is_file()
            asset = Asset(name, file.stat().st_size if there else 0, str(file))
            is_nwb = file.suffix.lower() == ".nwb" and (there or file.is_symlink())
            (self._assets if is_nwb else self._others).append(asset)

    def assets(self) -> list[Asset]:
        return list(self._assets)

    def others(self) -> list[Asset]:
        return list(self._others)

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        path = Path(asset.location)
        if not path.is_file():
            hint = "a link to nowhere: `datalad get` it" if path.is_symlink() else "it is gone"
            raise SourceError(f"{path} cannot be read: {hint}")
        progress(asset.size)
        return path


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of what lies at or under `path`, sorted; a Zarr counts as one file."""
    if not path.exists():
        raise SourceError(f"{path} is neither a file nor a folder here: check the path")
    if path.is_file() or _is_zarr(path.name):
        yield path.name, path
        return

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    for parent, folders, files in os.walk(path, onerror=refuse):
        zarrs = [name for name in folders if _is_zarr(name)]
        folders[:] = [n for n in folders if not n.startswith(".") and n not in zarrs]
        found += [Path(parent, n) for n in (*files, *zarrs) if not n.startswith(".")]
    yield from sorted((file.relative_to(path).as_posix(), file) for file in found)


def _is_zarr(folder: str) -> bool:
    return folder.lower().endswith((".zarr", ".nwb"))
