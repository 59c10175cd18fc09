"""Open a recording, wherever its bytes are: HDF5 or Zarr, NWB or another layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from neurobrick.errors import UnsupportedFile
from neurobrick.readers.hdf5 import open_hdf5
from neurobrick.readers.nwb import is_nwb, read_nwb
from neurobrick.readers.odoherty import is_odoherty, read_odoherty
from neurobrick.readers.raw import Recording
from neurobrick.readers.stream import RangeFile
from neurobrick.readers.tree import Tree
from neurobrick.readers.zarr.tree import open_zarr
from neurobrick.registry import UnitsSpec
from neurobrick.storage.zarr_files import Files, LocalFiles

# Where a recording is: a file or a Zarr folder on this machine, ranges of a file elsewhere, or the
# files of a Zarr store elsewhere.
FileLocation = Path | RangeFile | Files


@contextmanager
def open_recording(
    place: FileLocation, name: str, units: UnitsSpec | None = None
) -> Iterator[Recording]:
    """Open a recording and list what it holds. The result is valid inside the `with` block.

    `name` is the recording's in messages. `units` are the spec's choices about units tables.

    Raises UnsupportedFile when no reader knows it, CorruptFile when it breaks off or contradicts
    itself, SourceError when its bytes cannot be had: locked, not readable, or, elsewhere, not given
    piece by piece.
    """
    if isinstance(place, RangeFile):
        opened: AbstractContextManager[Tree] = open_hdf5(place, name, place.fetch)
    elif not isinstance(place, Path):
        opened = open_zarr(place, name)
    elif place.is_dir():
        opened = open_zarr(LocalFiles(place), name)
    else:
        opened = open_hdf5(place, name)
    with opened as tree:
        yield _read(tree, name, units or UnitsSpec())


def _read(tree: Tree, name: str, units: UnitsSpec) -> Recording:
    """List what an open file holds, whatever its layout."""
    root = tree.root
    if is_nwb(root):
        return read_nwb(tree, units.tables, units.keep)
    if is_odoherty(root):
        return read_odoherty(root, name, tree.prefetch)
    raise UnsupportedFile(f"{name} is not NWB: it declares no nwb_version")
