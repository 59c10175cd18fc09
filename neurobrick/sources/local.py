"""Files and folders of this machine, as a source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurobrick.errors import SourceError
from neurobrick.sources.asset import FILES, FOLDERS, Asset, may_hold_recording
from neurobrick.sources.source import Gained, uncounted

NAMED_FILES = (*FILES, ".h5", ".hdf5")  # a file of these endings is taken only if it is named


class LocalSource:
    """Files and folders of this machine.

    Folders are searched at any depth for `*.nwb`, `*.mat`, and Zarr folders called `*.zarr` or
    `*.nwb`; links to folders are followed. A file that is named may also be `*.h5` or `*.hdf5`.

    An asset's path is relative to the folder that was given, or the name of the file that was.
    Names that begin with a dot are passed over. Raises SourceError for a path that does not exist
    or may not be listed.
    """

    spec = None
    title = licence = citation = ""

    def __init__(self, paths: Sequence[str | Path], dataset: str = "local") -> None:
        self.dataset = dataset
        self._assets: list[Asset] = []
        self._others: list[Asset] = []
        files: dict[Path, tuple[str, bool]] = {}  # each once, however often it is given
        for path in map(Path, paths):
            try:
                for name, file in _files(path):
                    files.setdefault(file.absolute(), (name, file == path))
            except OSError as error:
                raise SourceError(f"{as_text(path)} cannot be listed: {error.strerror}") from error
        for file, (name, is_named) in files.items():
            try:
                self._add(file, name, is_named)
            except OSError as error:
                raise SourceError(f"{as_text(file)} cannot be read: {error.strerror}") from error

    def _add(self, file: Path, name: str, is_named: bool) -> None:
        is_zarr = file.is_dir()
        asset = Asset(name, _size(file), str(file), is_zarr, is_named)
        named_file = is_named and not is_zarr and name.lower().endswith(NAMED_FILES)
        # A link to nowhere is an asset, and refused by fetch: a clone lacks some of its files.
        is_there = is_zarr or file.is_file() or file.is_symlink()
        may_be_taken = named_file or may_hold_recording(name, is_zarr)
        (self._assets if may_be_taken and is_there else self._others).append(asset)

    def assets(self) -> list[Asset]:
        return list(self._assets)

    def others(self) -> list[Asset]:
        return list(self._others)

    def fetch(self, asset: Asset, folder: Path, gained: Gained = uncounted) -> Path:
        path = Path(asset.location)
        if not (path.is_dir() if asset.is_zarr else path.is_file()):
            hint = "a link to nowhere: `datalad get` it" if path.is_symlink() else "it is gone"
            raise SourceError(f"{as_text(path)} cannot be read: {hint}")
        gained(asset.size)
        return path

    def remote(self, asset: Asset) -> None:
        return None


def as_text(path: Path | str) -> str:
    """A path as text that UTF-8 can hold; bytes of a name that are not UTF-8 become `%E9`."""
    text = os.fspath(path)
    return "".join(
        f"%{ord(letter) - 0xDC00:02X}" if 0xDC80 <= ord(letter) <= 0xDCFF else letter
        for letter in text
    )


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links in a folder are not followed."""
    if path.is_dir():
        inside = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
        return sum(file.lstat().st_size for file in inside if not file.is_symlink())
    return path.stat().st_size if path.is_file() else 0


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(relative path as text, file) for all at or below `path`, sorted; a Zarr counts as one file.

    Raises SourceError when `path` does not exist, OSError for a folder that may not be listed.
    """
    if not path.exists():
        raise SourceError(f"{as_text(path)} is neither a file nor a folder here: check the path")
    if path.is_file() or path.name.lower().endswith(FOLDERS):
        yield as_text(path.name), path
        return
    for file in sorted(_below(path)):
        yield as_text(file.relative_to(path).as_posix()), file


def _below(top: Path) -> Iterator[Path]:
    """The files below a folder, and its Zarr folders; each real folder is searched once.

    Links to folders are followed after all real folders have been searched: a file has its real
    path where it has one below `top`, and a link back to a folder above it ends no search in a
    circle.
    """
    searched: set[tuple[int, int]] = set()
    folders = [top]
    for folder in folders:  # which grows by the links that are met
        for parent, names, files in os.walk(folder, onerror=_raise):
            here = Path(parent)
            status = here.stat()
            identity = status.st_dev, status.st_ino
            if identity in searched:
                names.clear()
                continue
            searched.add(identity)
            shown = [name for name in names if not name.startswith(".")]
            zarrs = [name for name in shown if name.lower().endswith(FOLDERS)]
            inner = [name for name in shown if name not in zarrs]
            links = [here / name for name in sorted(inner) if (here / name).is_symlink()]
            folders += links
            names[:] = sorted(name for name in inner if here / name not in links)
            yield from (here / name for name in (*files, *zarrs) if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise SourceError(f"{as_text(error.filename)} cannot be listed: {error.strerror}") from error
