"""Where files come from: the protocol of a source, and files on this machine as one.

A source lists its assets and fetches them one at a time; what `fetch` returns is whole. The other
sources are in `dandi_source` and `zenodo_source`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from neurobrick.errors import SourceError
from neurobrick.sources.zarr_checksum import checksum

if TYPE_CHECKING:
    from neurobrick.sources.ranges import RangeReader
    from neurobrick.storage.zarr_files import Files

Progress = Callable[[int], None]

_FILES = (".nwb", ".mat")
_GIVEN_FILES = (*_FILES, ".h5", ".hdf5")  # in a folder these may be anything
_FOLDERS = (".zarr", ".nwb")  # that are one asset, with all that is in them


@dataclass(frozen=True)
class Asset:
    """A file or a Zarr folder that a source has; `path` is relative, with `/` between its parts."""

    path: str
    size: int  # bytes; of a Zarr, all its files together
    location: str  # where the bytes are: an absolute path, or the address to download from
    is_zarr: bool = False
    asset_id: str | None = None
    sha256: str | None = None
    md5: str | None = None  # what Zenodo gives
    etag: str | None = None  # "dandi-etag": on a fresh draft there is no other digest yet
    checksum: str | None = None  # "dandi-zarr-checksum" of a Zarr
    dandiset: str | None = None
    version: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether it is not on this machine."""
        return self.location.startswith(("http://", "https://"))

    @property
    def digest(self) -> str | None:
        """The best digest that is known of it, as `algorithm:value`."""
        known = {
            "sha256": self.sha256,
            "dandi-zarr-checksum": self.checksum,
            "dandi-etag": self.etag,
            "md5": self.md5,
        }
        return next((f"{name}:{value}" for name, value in known.items() if value), None)


def unwatched(_: int) -> None:
    pass


class Source(Protocol):
    """Somewhere files come from. `dataset` is the first part of the ids of their sessions."""

    dataset: str

    def assets(self) -> list[Asset]:
        """What may hold a recording, sorted by path (local ones in the order they were given)."""
        ...

    def others(self) -> list[Asset]:
        """What is there beside them."""
        ...

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        """A path where all of the asset's bytes are, verified; under `folder` if it had to be made.

        `progress` is told each number of bytes gained, and a negative one when bytes turn out to
        be wrong: what it was told adds up to the asset's size. Several threads may call this,
        for different assets. Raises SourceError.
        """
        ...

    def remote(self, asset: Asset) -> RangeReader | Files | None:
        """What reads parts of an asset that is elsewhere, of a Zarr its files; None of one here.

        It can be pickled. Nothing is asked of the archive yet.
        """
        ...


def may_hold_recording(path: str, is_zarr: bool) -> bool:
    """Whether an asset is worth opening, by its name: NWB in HDF5 or in Zarr, or MATLAB's files.

    OME-Zarr holds images, often terabytes.
    """
    name = path.lower()
    if is_zarr:
        return name.endswith(_FOLDERS) and not name.endswith(".ome.zarr")
    return name.endswith(_FILES)


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


def with_digest(asset: Asset, file: Path) -> Asset:
    """The asset with a digest of what is at `file`: sha256, or dandi-zarr-checksum of a Zarr."""
    if asset.is_zarr:
        return replace(asset, checksum=checksum(file))
    return replace(asset, sha256=sha256_of(file))


class LocalSource:
    """Files and folders of this machine.

    Folders are searched at any depth for `*.nwb`, `*.mat`, and Zarr folders called `*.zarr` or
    `*.nwb`. A file that is given may also be `*.h5` or `*.hdf5`.

    An asset's path is relative to the folder that was given, or the name of the file that was.
    Names that begin with a dot are passed over. Raises SourceError for a path that does not exist.
    """

    def __init__(self, paths: Sequence[str | Path], dataset: str = "local") -> None:
        self.dataset = dataset
        self._assets: list[Asset] = []
        self._others: list[Asset] = []
        found: dict[Path, tuple[str, bool]] = {}
        for path in map(Path, paths):
            for name, file in _files(path):
                found.setdefault(file.absolute(), (name, file == path))
        for file, (name, given) in found.items():
            is_zarr = file.is_dir()
            asset = Asset(name, _size(file), str(file), is_zarr)
            named = given and not is_zarr and name.lower().endswith(_GIVEN_FILES)
            wanted = named or may_hold_recording(name, is_zarr)
            # A link to nowhere is listed, and refused by fetch: a clone lacks some of its files.
            real = is_zarr or file.is_file() or file.is_symlink()
            (self._assets if wanted and real else self._others).append(asset)

    def assets(self) -> list[Asset]:
        return list(self._assets)

    def others(self) -> list[Asset]:
        return list(self._others)

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        path = Path(asset.location)
        if not (path.is_dir() if asset.is_zarr else path.is_file()):
            hint = "a link to nowhere: `datalad get` it" if path.is_symlink() else "it is gone"
            raise SourceError(f"{path} cannot be read: {hint}")
        progress(asset.size)
        return path

    def remote(self, asset: Asset) -> None:
        return None


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links in a folder are not followed."""
    if path.is_dir():
        inside = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
        return sum(file.lstat().st_size for file in inside if not file.is_symlink())
    return path.stat().st_size if path.is_file() else 0


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of what lies at or under `path`, sorted; a Zarr counts as one file."""
    if not path.exists():
        raise SourceError(f"{path} is neither a file nor a folder here: check the path")
    if path.is_file() or path.name.lower().endswith(_FOLDERS):
        yield path.name, path
        return

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    for parent, folders, files in os.walk(path, onerror=refuse):
        zarrs = [name for name in folders if name.lower().endswith(_FOLDERS)]
        folders[:] = [n for n in folders if not n.startswith(".") and n not in zarrs]
        found += [Path(parent, n) for n in (*files, *zarrs) if not n.startswith(".")]
    yield from sorted((file.relative_to(path).as_posix(), file) for file in found)
