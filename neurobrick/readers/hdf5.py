"""An HDF5 file as a tree that never leaves the file.

h5py follows external links, virtual sources and external raw storage without asking, so a file
could name any other on the machine. Here every link is looked at first. A link inside the file is
followed, at most MAX_HOPS in a row; a link out of the file is never opened.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import RawIOBase
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, NeurobrickError, SourceError, UnsupportedFile
from neurobrick.readers.tree import FREE_BYTES, Array, Kind, bound, boundary, decoded, first, reason

MAX_HOPS = 16  # links followed one after another before they count as a circle
# What HDF5 itself decodes; other filters are plugins, and hdf5plugin brings those that are used.
BUILT_IN_FILTERS = range(1, 7)

LOCK_ERRORS = frozenset({errno.EAGAIN, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

Ranges = Sequence[tuple[int, int]]


@contextmanager
def open_hdf5(
    file: Path | RawIOBase, name: str, fetch: Callable[[Ranges], None] | None = None
) -> Iterator[HDF5Tree]:
    """Open a file, or a stream that can seek, called `name` in messages.

    `fetch` is called with the byte ranges that are about to be read from a stream.

    Raises UnsupportedFile when it is not HDF5, CorruptFile when it breaks off, SourceError when the
    system does not give it: it is open elsewhere for writing, locked, or may not be read.
    """
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise _refusal(error, name) from error
    with opened:
        yield HDF5Tree(opened, fetch)


def _refusal(error: OSError, name: str) -> NeurobrickError:
    """Why HDF5 did not open the file called `name`.

    h5py gives an errno where the system refused. Of a file that is not HDF5 it gives none.
    """
    message = str(error)
    if "unable to lock file" in message or error.errno in LOCK_ERRORS:
        return SourceError(
            f"{name} cannot be locked ({os.strerror(error.errno or errno.EAGAIN)}): another program"
            " has it open for writing, or its file system has no locks; where nobody writes it, set"
            " HDF5_USE_FILE_LOCKING=FALSE"
        )
    if "already open for write" in message:
        return SourceError(
            f"{name} is open for writing, or its writer crashed: close it there, or run h5clear -s"
            " on it"
        )
    if error.errno is not None:
        return SourceError(f"{name} cannot be read ({os.strerror(error.errno)})")
    if "truncated" in message:
        return CorruptFile(f"{name} breaks off (truncated): fetch it again")
    return UnsupportedFile(f"{name} is not an NWB file (HDF5 says: {reason(error)})")


class HDF5Tree:
    """An open HDF5 file."""

    def __init__(self, file: h5py.File, fetch: Callable[[Ranges], None] | None) -> None:
        self._file = file
        self._fetch = fetch

    @property
    def root(self) -> HDF5Group:
        with boundary("the file"):
            return HDF5Group(self._file["/"])

    def prefetch(self, arrays: Iterable[Array]) -> None:
        if self._fetch is None:
            return
        ranges: list[tuple[int, int]] = []
        for array in arrays:
            if isinstance(array, HDF5Array) and array.kind in ("number", "text"):
                with suppress(CorruptFile, UnsupportedFile):  # raised again when it is read
                    array.check()
                    ranges += array.byte_ranges()
        self._fetch(ranges)


class HDF5Group:
    """A group of an HDF5 file."""

    def __init__(self, group: h5py.Group) -> None:
        self._group = group
        with boundary("a group"):
            self.path: str = (group.name or "").strip("/")

    @property
    def identity(self) -> Hashable:
        with boundary(self.path):
            info = h5py.h5o.get_info(self._group.id)
            return (info.fileno, info.addr)

    def names(self) -> list[str]:
        with boundary(self.path or "the file"):
            names = list(self._group)
        if not all(isinstance(name, str) for name in names):  # h5py gives bytes that are no UTF-8
            raise CorruptFile(f"{self.path or 'the file'} has an entry whose name is no text")
        return names

    def __contains__(self, name: object) -> bool:
        with boundary(f"{self.path}/{name}"):
            return self._link(name) is not None

    def link(self, name: str) -> str | None:
        with boundary(f"{self.path}/{name}"):
            link = self._link(name)
        if isinstance(link, h5py.ExternalLink):
            return "a link to another file, not followed"
        return f"a link to {link.path}" if isinstance(link, h5py.SoftLink) else None

    def group(self, name: str) -> HDF5Group | None:
        target = self._resolve(name)
        return HDF5Group(target) if isinstance(target, h5py.Group) else None

    def array(self, name: str) -> HDF5Array | None:
        target = self._resolve(name)
        with boundary(f"{self.path}/{name}"):
            if not isinstance(target, h5py.Dataset) or target.is_virtual or target.external:
                return None
            return HDF5Array(target)

    def attribute(self, name: str, default: Any) -> Any:
        return _attribute(self._group, self.path, name, default)

    def attributes(self, name: str) -> list[str]:
        return _attributes(self._group, self.path, name)

    def attribute_names(self) -> list[str]:
        return _attribute_names(self._group, self.path)

    def _link(self, name: object) -> Any:
        """The link called `name`. None for a path: HDF5 would follow all but its last part."""
        if not isinstance(name, str) or name in ("", ".") or "/" in name:
            return None
        with boundary(f"{self.path}/{name}"):
            return self._group.get(name, getlink=True)

    def _resolve(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """The object called `name`, through soft links of this file; None if it leads outside."""
        with boundary(f"{self.path}/{name}"):
            here, ahead, hops = self._group, name.split("/"), 0
            while ahead:
                part = ahead.pop(0)
                if part in ("", "."):
                    continue
                if not isinstance(here, h5py.Group):
                    return None
                link = here.get(part, getlink=True)
                if isinstance(link, h5py.HardLink):
                    here = here[part]
                elif isinstance(link, h5py.SoftLink) and hops < MAX_HOPS:
                    hops += 1
                    ahead = [*link.path.split("/"), *ahead]
                    here = here.file["/"] if link.path.startswith("/") else here
                else:
                    return None
            return here


class HDF5Array:
    """A dataset of an HDF5 file, whose bytes are in that file."""

    def __init__(self, data: h5py.Dataset, path: str | None = None) -> None:
        self._data = data
        # Given for the target of a reference: HDF5 would search the whole file for its name.
        self.path: str = (data.name or "").strip("/") if path is None else path

    @property
    def shape(self) -> tuple[int, ...]:
        with boundary(self.path):
            return self._data.shape or ()

    @property
    def dtype(self) -> np.dtype[Any]:
        with boundary(self.path):
            return self._data.dtype

    @property
    def kind(self) -> Kind:
        with boundary(self.path):
            dtype = self._data.dtype
            if h5py.check_string_dtype(dtype) is not None or dtype.kind == "S":
                return "text"
            if h5py.check_ref_dtype(dtype) is not None:
                return "reference"
            return "number" if dtype.kind in "iufb" else "other"

    def attribute(self, name: str, default: Any) -> Any:
        return _attribute(self._data, self.path, name, default)

    def attributes(self, name: str) -> list[str]:
        return _attributes(self._data, self.path, name)

    def attribute_names(self) -> list[str]:
        return _attribute_names(self._data, self.path)

    def check(self) -> None:
        with boundary(self.path):
            self._check_filters()
            self._check_size()

    def read(self) -> NDArray[Any]:
        self.check()
        with boundary(self.path):
            return np.asarray(self._data[()])

    def texts(self) -> list[str]:
        string = h5py.check_string_dtype(self._data.dtype)
        if string is None or string.length is not None or not self.shape:
            return [decoded(value) for value in self.read().reshape(-1)]
        return self._texts_of_any_length()

    def _texts_of_any_length(self) -> list[str]:
        """Texts of any length, which HDF5 keeps apart from the array.

        Many rows can share one text, so they are read in parts: a few bytes must not become more
        text than the file holds.
        """
        self.check()
        with boundary(self.path):
            file_size = self._data.file.id.get_filesize()
            rows = int(np.clip(FREE_BYTES // max(file_size, 1), 16, 4096))
            texts: list[str] = []
            size = 0
            for start in range(0, len(self._data), rows):
                part = self._data[start : start + rows].reshape(-1)
                size += sum(map(len, part))
                if size > max(FREE_BYTES, file_size):
                    raise CorruptFile(f"{self.path} holds more text than the file: not read")
                texts += map(decoded, part)
            return texts

    def unwritten(self) -> int:
        return 0  # `check` refuses an array that lacks chunks

    def cells(self) -> list[HDF5Array]:
        """The arrays that the references in this array lead to, in C order."""
        with boundary(self.path):
            targets = [self._data.file[reference] for reference in self.read().reshape(-1)]
            for item in targets:
                if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
                    raise CorruptFile(f"{self.path} holds references that lead to no array")
            return [HDF5Array(item, f"{self.path}[{k}]") for k, item in enumerate(targets)]

    def byte_ranges(self) -> list[tuple[int, int]]:
        """`[start, stop)` of its bytes in the file: a range a chunk, or one for the whole array."""
        with boundary(self.path):
            if self._data.chunks is None:
                start, size = self._data.id.get_offset(), self._data.id.get_storage_size()
                return [(start, start + size)] if start is not None else []
            ranges: list[tuple[int, int]] = []
            self._data.id.chunk_iter(
                lambda chunk: ranges.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
            )
            return ranges

    def _check_size(self) -> None:
        data = self._data
        if not data.size:
            return
        stored, size = data.id.get_storage_size(), data.dtype.itemsize
        bound(self.path, data.shape, size, stored)
        if data.chunks is not None:
            grid = [-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]
            # Chunks at the edges are stored whole, so that decoding makes all of them.
            bound(self.path, tuple(np.multiply(grid, data.chunks).tolist()), size, stored)
            n_written, n_chunks = data.id.get_num_chunks(), prod(grid)
            if n_written < n_chunks:
                raise CorruptFile(
                    f"{self.path} has {n_written} of its {n_chunks} chunks, the rest was never"
                    " written"
                )

    def _check_filters(self) -> None:
        filters = self._data.id.get_create_plist()
        for k in range(filters.get_nfilters()):
            code, name = filters.get_filter(k)[0], filters.get_filter(k)[3]
            if code not in BUILT_IN_FILTERS and not _available(code):
                raise UnsupportedFile(
                    f"{self.path} is compressed with HDF5 filter {code} ({decoded(name)}), which is"
                    " not installed: pip install hdf5plugin"
                )


def _available(code: int) -> bool:
    """Whether HDF5 can decode filter `code`. Importing hdf5plugin registers filters."""
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")
    return bool(h5py.h5z.filter_avail(code))


def _attribute(item: h5py.Group | h5py.Dataset, path: str, name: str, default: Any) -> Any:
    with boundary(f"{path}: {name}"):
        value = item.attrs.get(name, default)
        return default if isinstance(value, h5py.Empty) else first(value, default)


def _attributes(item: h5py.Group | h5py.Dataset, path: str, name: str) -> list[str]:
    with boundary(f"{path}: {name}"):
        value = item.attrs.get(name, ())
        if isinstance(value, h5py.Empty | h5py.Reference | h5py.RegionReference):
            return []
        flat = np.asarray(value).reshape(-1)
        if h5py.check_ref_dtype(flat.dtype) is not None:
            return []
        return [decoded(item) for item in flat]


def _attribute_names(item: h5py.Group | h5py.Dataset, path: str) -> list[str]:
    with boundary(path or "the file"):
        # h5py gives bytes where a name is no UTF-8: no attribute that is known is called so.
        return [name for name in item.attrs if isinstance(name, str)]
