"""A file as a tree of groups and arrays, whatever its format.

`hdf5` and `zarr` make such trees, and `nwb` walks them. No tree leaves its file: an entry that
leads elsewhere is named by `Group.link` and never followed, and nothing pickled is decoded. The
sizes that a file claims are bounded here, before a byte of them is read.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, Literal, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, NeurobrickError, SourceError

Kind = Literal["number", "text", "reference", "other"]

MAX_BYTES = 8 * 2**30  # of one decoded array; the largest spike_times of the archive is 1 GB
FREE_BYTES = 64 * 2**20  # that an array may claim, however few bytes are stored
MAX_RATIO = 250  # claimed to stored bytes; deflate never reaches it on recorded numbers
MAX_NAME = 200  # bytes; file systems allow 255


class Array(Protocol):
    """An array in a file. Its values are read by `read` and `texts` only."""

    @property
    def path(self) -> str:
        """Where it is in the file, without a leading slash."""
        ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements. It has a meaning only where `kind` is number."""
        ...

    @property
    def kind(self) -> Kind: ...

    def attribute(self, name: str, default: Any) -> Any:
        """A scalar attribute: a number, or text."""
        ...

    def attributes(self, name: str) -> list[str]:
        """An attribute's values as texts, flat; empty when it is absent or holds references."""
        ...

    def attribute_names(self) -> list[str]:
        """The names of its attributes."""
        ...

    def check(self) -> None:
        """Raise CorruptFile when it claims more than the file holds, UnsupportedFile when nothing
        here decodes it."""
        ...

    def read(self) -> NDArray[Any]:
        """All values, in `shape`. Raises what `check` raises, and CorruptFile for damaged bytes."""
        ...

    def texts(self) -> list[str]:
        """All values as texts, flat, in C order. Raises what `read` raises."""
        ...

    def unwritten(self) -> int:
        """How many of its chunks are not in the file, where the format reads them as fill values.

        0 where the format lets `check` refuse such an array.
        """
        ...


class Group(Protocol):
    """A group: named entries, each a group, an array, or a link."""

    @property
    def path(self) -> str:
        """Where it is in the file, without a leading slash."""
        ...

    @property
    def identity(self) -> Hashable:
        """Equal for two paths to the same group."""
        ...

    def names(self) -> list[str]:
        """The names of its entries."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def link(self, name: str) -> str | None:
        """Where the entry `name` leads, in words, if it is a soft or an outward link."""
        ...

    def group(self, name: str) -> Group | None:
        """The group `name`, through links inside the file; None if there is none."""
        ...

    def array(self, name: str) -> Array | None:
        """The array `name`, through links inside the file; None if it is not in the file."""
        ...

    def attribute(self, name: str, default: Any) -> Any:
        """A scalar attribute: a number, or text."""
        ...

    def attributes(self, name: str) -> list[str]:
        """An attribute's values as texts, flat; empty when it is absent or holds references."""
        ...

    def attribute_names(self) -> list[str]:
        """The names of its attributes."""
        ...


class Tree(Protocol):
    """An open file."""

    @property
    def root(self) -> Group: ...

    def prefetch(self, arrays: Iterable[Array]) -> None:
        """Fetch the bytes of `arrays` in few requests, where they are not on this machine."""
        ...


def find(group: Group, path: str) -> Group | None:
    """The group at `path` below `group`: names with slashes between. None if there is none."""
    here: Group | None = group
    for name in path.split("/"):
        here = here.group(name) if here is not None else None
    return here


def too_long(name: str) -> bool:
    """Whether `name`, percent-encoded as stores do, is too long for the name of a file."""
    return len(quote(name)) + 2 * name.count(".") > MAX_NAME


def bound(path: str, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Raise CorruptFile when an array claims more bytes than its `stored` bytes can decode to.

    An array that is not empty and has no stored bytes was never written.
    """
    claimed = prod(shape) * itemsize
    if claimed and not stored:
        raise CorruptFile(f"{path} claims {claimed:,} bytes and holds none: fetch the file again")
    if claimed > MAX_BYTES or claimed > max(FREE_BYTES, MAX_RATIO * stored):
        raise CorruptFile(
            f"{path} claims {claimed:,} bytes out of {stored:,}: not read, so that it cannot fill"
            " the memory"
        )


@contextmanager
def boundary(what: str) -> Iterator[None]:
    """Turn the exceptions of h5py, zarr and numcodecs into CorruptFile, and those of the system
    into SourceError. `what` names the object that is being read."""
    try:
        yield
    except NeurobrickError:
        raise
    except RecursionError as error:
        raise CorruptFile(f"{what} is nested without end") from error
    except OSError as error:
        if error.errno is None:  # a library's own: the content is damaged
            raise CorruptFile(f"{what} cannot be read ({reason(error)}): fetch it again") from error
        raise SourceError(f"{what} cannot be read ({os.strerror(error.errno)})") from error
    except (
        KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError,
        OverflowError, ZeroDivisionError, NotImplementedError, SystemError,
    ) as error:  # fmt: skip
        raise CorruptFile(f"{what} cannot be read ({reason(error)}): fetch it again") from error


def reason(error: Exception) -> str:
    """An exception of a library in one line."""
    return " ".join(str(error).split())[:200]


def first(value: Any, default: Any) -> Any:
    """The value of an attribute as one number or text. Some files keep a scalar as an array."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else default
    elif isinstance(value, list):
        value = value[0] if value else default
    if isinstance(value, bytes | str):
        return decoded(value)
    return value.item() if isinstance(value, np.generic) else value


def decoded(value: object) -> str:
    """A value of a file as text. Bytes that are no UTF-8 are replaced."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else str(value)
