"""HDF5 read without leaving the file: objects elsewhere count as absent, exceptions as CorruptFile.

h5py follows external links, virtual sources and external raw storage without a word, so that a
file could name any other on the machine; what is found here lies in the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurobrick.errors import CorruptFile, NeurobrickError, UnsupportedFile


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError as error:
        raise UnsupportedFile(f"there is no file {path}") from error
    except OSError as error:
        if "truncated" in str(error):
            raise CorruptFile(f"{path} breaks off (truncated): fetch it again") from error
        raise UnsupportedFile(f"{path} is not an NWB file (HDF5 says: {reason(error)})") from error
    with file:
        if "nwb_version" not in file.attrs and "session_description" not in file:
            raise UnsupportedFile(f"{path} is HDF5 but not NWB: it declares no nwb_version")
        yield file


@contextmanager
def boundary(what: str) -> Iterator[None]:
    """Exceptions of h5py and numpy, as CorruptFile."""
    try:
        yield
    except NeurobrickError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise CorruptFile(f"{what} cannot be read ({reason(error)}): fetch it again") from error


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def find_group(parent: h5py.Group, path: str) -> h5py.Group | None:
    found = parent.get(path)
    return found if isinstance(found, h5py.Group) and found.file == parent.file else None


def find_dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """The dataset `name`, unless it is not there or its values lie outside the file."""
    found = group.get(name)
    if not isinstance(found, h5py.Dataset) or found.file != group.file:
        return None
    return None if found.is_virtual or found.external else found


def attribute(item: h5py.HLObject, name: str, default: Any) -> Any:
    value = item.attrs.get(name, default)
    if isinstance(value, h5py.Empty):
        return default
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else default
    return decoded(value) if isinstance(value, bytes | str) else value


def texts(group: h5py.Group | None, names: tuple[str, ...]) -> dict[str, str]:
    if group is None:
        return {}
    found = {name: find_dataset(group, name) for name in names}
    return {name: text(data) for name, data in found.items() if data is not None}


def text(data: h5py.Dataset) -> str:
    value = data[()]
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return decoded(value)


def decoded(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else str(value)
