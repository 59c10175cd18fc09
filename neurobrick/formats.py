"""Which reader reads a file: HDF5 or Zarr, NWB or a dataset's own layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurobrick.errors import UnsupportedFile
from neurobrick.hdf5 import open_hdf5
from neurobrick.manifest import UnitsSpec
from neurobrick.nwb import is_nwb, read_nwb
from neurobrick.raw import Recording
from neurobrick.tree import Tree


@contextmanager
def open_recording(path: Path, units: UnitsSpec | None = None) -> Iterator[Recording]:
    """Open a recording on this machine and take stock of it; it is valid while it is open.

    Raises UnsupportedFile when no reader knows it, CorruptFile when it breaks off or contradicts
    itself.
    """
    with open_hdf5(path, path.name) as tree:
        yield read(tree, path.name, units or UnitsSpec())


def read(tree: Tree, name: str, units: UnitsSpec) -> Recording:
    """Take stock of an open file called `name`."""
    if is_nwb(tree.root):
        return read_nwb(tree, units.tables, units.keep)
    raise UnsupportedFile(f"{name} is not NWB: it declares no nwb_version")
