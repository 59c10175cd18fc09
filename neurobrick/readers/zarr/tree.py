"""A Zarr store, as hdmf-zarr keeps NWB in one, as a tree that never leaves the store.

Links to another store are named and not followed. Pickled references, which run code when they are
decoded, are not decoded.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, UnsupportedFile
from neurobrick.readers.tree import FREE_BYTES, Array, Kind, bound, boundary, decoded, first
from neurobrick.readers.zarr.store import Store, join
from neurobrick.readers.zarr.v2 import ArrayV2
from neurobrick.readers.zarr.v3 import ArrayV3
from neurobrick.storage.zarr_files import Files

MAX_HOPS = 16  # links followed one after another before they count as a circle

OUTSIDE = "a link to another file, not followed"


@contextmanager
def open_zarr(files: Files, name: str) -> Iterator[ZarrTree]:
    """Open a store of Zarr format 2 or 3, called `name` in messages.

    Raises UnsupportedFile when it is none, CorruptFile when its metadata contradict themselves,
    and what `files` raises.
    """
    store = Store(files, name)
    try:
        yield ZarrTree(store)
    finally:
        store.held.clear()


class ZarrTree:
    """An open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def root(self) -> ZarrGroup:
        return ZarrGroup(self._store, "")

    def prefetch(self, arrays: Iterable[Array]) -> None:
        keys: dict[str, None] = {}
        for array in arrays:
            if isinstance(array, ZarrArray):
                # An array that cannot be read says so when it is read.
                with suppress(CorruptFile, UnsupportedFile):
                    keys |= dict.fromkeys(array.chunk_keys())
        missing = [key for key in keys if key not in self._store.held]
        if missing:
            self._store.held |= self._store.fetch(missing)


class ZarrGroup:
    """A group of a store."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self.path = path

    @property
    def identity(self) -> Hashable:
        return self.path

    def names(self) -> list[str]:
        return sorted(self._store.children[self.path] | self._store.links(self.path).keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names()

    def link(self, name: str) -> str | None:
        links = self._store.links(self.path)
        if name in self._store.children[self.path] or name not in links:
            return None
        target = links[name]
        return OUTSIDE if target is None else f"a link to {target}"

    def group(self, name: str) -> ZarrGroup | None:
        path = self._resolve(name)
        return ZarrGroup(self._store, path) if path in self._store.children else None

    def array(self, name: str) -> ZarrArray | None:
        path = self._resolve(name)
        return ZarrArray(self._store, path) if path in self._store.arrays else None

    def attribute(self, name: str, default: Any) -> Any:
        return _attribute(self._store.attributes(self.path), name, default)

    def attributes(self, name: str) -> list[str]:
        return _attributes(self._store.attributes(self.path), name)

    def attribute_names(self) -> list[str]:
        return list(self._store.attributes(self.path))

    def _resolve(self, name: str) -> str | None:
        """The path of the node called `name`, through links of this store; None if it is not
        there or outside."""
        here, ahead, hops = self.path, name.split("/"), 0
        while ahead:
            part = ahead.pop(0)
            if part in ("", "."):
                continue
            if here not in self._store.children:
                return None
            if part in self._store.children[here]:
                here = join(here, part)
                continue
            target = self._store.links(here).get(part)
            if target is None or hops == MAX_HOPS:
                return None
            hops += 1
            ahead = [*target.split("/"), *ahead]
            here = ""
        return here


class ZarrArray:
    """An array of a store."""

    def __init__(self, store: Store, path: str | None) -> None:
        assert path is not None
        self._store = store
        self.path = path
        layout = ArrayV3 if store.format == 3 else ArrayV2
        with boundary(path):
            self._layout: ArrayV2 | ArrayV3 = layout(store.arrays[path], store.attributes(path))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._layout.dtype

    @property
    def kind(self) -> Kind:
        return self._layout.kind

    def attribute(self, name: str, default: Any) -> Any:
        return _attribute(self._store.attributes(self.path), name, default)

    def attributes(self, name: str) -> list[str]:
        return _attributes(self._store.attributes(self.path), name)

    def attribute_names(self) -> list[str]:
        return list(self._store.attributes(self.path))

    def check(self) -> None:
        self.chunk_keys()

    def read(self) -> NDArray[Any]:
        keys = self.chunk_keys()
        if not prod(self._layout.grid):
            return np.empty(self.shape, dtype=self.dtype)
        held = {key: self._store.held.pop(key) for key in keys if key in self._store.held}
        missing = [key for key in keys if key not in held]
        held |= self._store.fetch(missing) if missing else {}
        with boundary(self.path):
            return self._layout.decode({self._name(key): held.pop(key) for key in keys})

    def texts(self) -> list[str]:
        return [decoded(value) for value in self.read().reshape(-1).tolist()]

    def unwritten(self) -> int:
        return self._layout.unwritten(self._stored())

    def chunk_keys(self) -> list[str]:
        """The key of each of its chunks that is in the store, when it passes `check`."""
        layout = self._layout
        if unknown := layout.undecodable():
            raise UnsupportedFile(f"{self.path} is encoded as {unknown[:80]}, which is not read")
        n_chunks = prod(layout.grid)
        if not n_chunks:
            return []
        names = self._stored()
        size = sum(self._store.sizes[join(self.path, name)] for name in names)
        itemsize = max(1, self.dtype.itemsize)
        # Zarr 3 does not write chunks of nothing but the fill value: a small array may have none.
        small = prod(layout.whole) * itemsize <= FREE_BYTES
        if size or self._store.format == 2 or not small:
            bound(self.path, layout.whole, itemsize, size)
        keys = [join(self.path, name) for name in layout.chunk_names(names)]
        lost = layout.unwritten(names)
        if lost and self._store.format == 2:
            raise CorruptFile(
                f"{self.path} has {n_chunks - lost} of its {n_chunks} chunks, the rest is lost:"
                " fetch it again"
            )
        return keys

    def _stored(self) -> list[str]:
        """The names of the files below the array."""
        return [self._name(key) for key in self._store.below(self.path)]

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self.path}/")


def _attribute(attributes: dict[str, Any], name: str, default: Any) -> Any:
    """A scalar attribute; `default` also for a reference, which is a JSON object."""
    value = first(attributes.get(name, default), default)
    return default if value is None or isinstance(value, dict | list) else value


def _attributes(attributes: dict[str, Any], name: str) -> list[str]:
    value = attributes.get(name)
    values = value if isinstance(value, list) else [value]
    return [decoded(item) for item in values if isinstance(item, str | int | float)]
