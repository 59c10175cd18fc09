"""A file as a tree of groups and arrays, whatever its format: what discovery walks.

`hdf5` and `zarr2` make such trees. Neither leaves its file: an entry that leads elsewhere is named
by `Group.link` and never followed, and nothing pickled is decoded. What a file claims is bounded
here, before a byte of it is read.
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
# Past a first allowance, more than deflate ever makes of recorded numbers is a bomb, not data.
FREE_BYTES = 64 * 2**20
MAX_RATIO = 250
MAX_NAME = 200  # of the 255 bytes that file systems grant


class Array(Protocol):
    """An array in a file; nothing of it is read until asked."""

    @property
    def path(self) -> str:
        """Where it is in the file, without a leading slash."""
        ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type; of no meaning unless `kind` is number."""
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
        """All of it, checked first. Raises CorruptFile when it cannot be read."""
        ...

    def texts(self) -> list[str]:
        """All of it, flat, as text."""
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
        """The same for two paths to one group."""
        ...

    def names(self) -> list[str]:
        """Its entries, in the file's order."""
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
        """Bring the bytes of `arrays` here in few requests, where they are not here already."""
        ...


def find(group: Group, path: str) -> Group | None:
    """The group at `path`, a name or several with slashes, below `group`."""
    found: Group | None = group
    for name in path.split("/"):
        found = found.group(name) if found is not None else None
    return found


def too_long(name: str) -> bool:
    """Whether no file can be called `name`, as a store's are, percent-encoded."""
    return len(quote(name)) + 2 * name.count(".") > MAX_NAME


def bound(path: str, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Raise CorruptFile for an array that claims more than its `stored` bytes can hold.

    Zero `stored` bytes of a claim that is not empty means that the array was never written.
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
    """What libraries raise of a file, as CorruptFile; as SourceError where the system refuses."""
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
    """An attribute's value as one number or text: files keep scalars as arrays, too."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else default
    elif isinstance(value, list):
        value = value[0] if value else default
    if isinstance(value, bytes | str):
        return decoded(value)
    return value.item() if isinstance(value, np.generic) else value


def decoded(value: object) -> str:
    """Text of a file, whatever its bytes are."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else str(value)
