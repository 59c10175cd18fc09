"""A Zarr v2 store, as hdmf-zarr keeps NWB in one, as a tree that never leaves the store.

zarr-python 3.1 does not open such a store as a group, but does open its arrays one by one. So the
metadata are read here, and each array is given to zarr in a store of its own, in memory, with its
own chunks and nothing else: files here and files far away share one path, and nothing outside the
store can be reached. Links to another store are named and not followed; pickled references, which
run code when they are decoded, are not decoded.
"""

from __future__ import annotations

import json
import posixpath
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, UnsupportedFile
from neurobrick.readers.tree import Array, Kind, bound, boundary, decoded, first
from neurobrick.readers.zarr.codecs import TEXT_FILTERS, ArrayMetadata, decode
from neurobrick.storage.zarr_files import Files

MAX_HOPS = 16  # links followed one after another before they count as a circle
MAX_METADATA = 64 * 2**20  # bytes of all .zgroup, .zarray and .zattrs; an NWB file has under 1 MB

OUTSIDE = "a link to another file, not followed"


@contextmanager
def open_zarr(files: Files, name: str) -> Iterator[ZarrTree]:
    """Open a store of Zarr format 2, called `name` in messages.

    Raises UnsupportedFile when it is none, CorruptFile when its metadata contradict themselves,
    and what `files` raises.
    """
    store = _Store(files, name)
    try:
        yield ZarrTree(store)
    finally:
        store.held.clear()


class _Store:
    """What is in a store: sizes, metadata, and bytes that were fetched ahead."""

    def __init__(self, files: Files, name: str) -> None:
        self.files = files
        self.name = name
        self.sizes = dict(files.listing())
        self.keys = sorted(self.sizes)
        self.held: dict[str, bytes] = {}
        if ".zgroup" not in self.sizes:
            found = "Zarr format 3" if "zarr.json" in self.sizes else "no .zgroup in it"
            raise UnsupportedFile(f"{name} is not an NWB-Zarr store of Zarr format 2: {found}")
        self.metadata = self._metadata()
        self.children: dict[str, set[str]] = {}  # of each group, by its path
        self._build()

    def below(self, path: str) -> list[str]:
        """The keys of the files below `path`."""
        after = chr(ord("/") + 1)
        return self.keys[
            bisect_left(self.keys, f"{path}/") : bisect_left(self.keys, f"{path}{after}")
        ]

    def attributes(self, path: str) -> dict[str, Any]:
        return self.metadata.get(_join(path, ".zattrs"), {})

    def fetch(self, keys: list[str]) -> dict[str, bytes]:
        """The files of `keys`, all of them and whole."""
        found = self.files.read(keys)
        for key in keys:
            if len(found.get(key, b"")) != self.sizes[key]:
                raise CorruptFile(
                    f"{self.name}/{key} has {len(found.get(key, b''))} of its {self.sizes[key]}"
                    " bytes: fetch it again"
                )
        return found

    def _metadata(self) -> dict[str, dict[str, Any]]:
        """The JSON of every metadata file, by its key."""
        keys = [k for k in self.keys if _split(k)[1] in (".zgroup", ".zarray", ".zattrs")]
        if ".zmetadata" in self.sizes:
            entries = self._json([".zmetadata"])[".zmetadata"].get("metadata")
            if not isinstance(entries, dict):
                raise CorruptFile(f"{self.name}/.zmetadata holds no metadata: fetch it again")
            # What was added after the metadata were gathered is not in them.
            if entries.keys() >= {k for k in keys if not k.endswith(".zattrs")}:
                return {key: self._object(key, value) for key, value in entries.items()}
        return self._json(keys)

    def _json(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        size = sum(self.sizes[key] for key in keys)
        if size > MAX_METADATA:
            raise CorruptFile(f"{self.name} has {size:,} bytes of metadata, more than NWB has")
        found = {}
        for key, data in self.fetch(keys).items():
            with boundary(f"{self.name}/{key}"):
                found[key] = self._object(key, json.loads(data))
        return found

    def _object(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise CorruptFile(f"{self.name}/{key} is no JSON object: fetch it again")
        return value

    def _build(self) -> None:
        """Groups and what is in them. A node that no group holds would be left out in silence."""
        nodes = {key: _split(key) for key in self.metadata}
        self.children = {path: set() for path, kind in nodes.values() if kind == ".zgroup"}
        arrays = {path for path, kind in nodes.values() if kind == ".zarray"}
        for key, (path, _) in nodes.items():
            parent, name = _split(path)
            known = path in self.children or path in arrays
            if path and (parent not in self.children or name in ("", ".", "..") or not known):
                raise CorruptFile(f"{self.name}/{key} is in no group of it: fetch the store again")
            if path:
                self.children[parent].add(name)
        if "" not in self.children or "" in arrays or arrays & self.children.keys():
            raise CorruptFile(f"{self.name} has a node that is both group and array")


class ZarrTree:
    """An open store."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    @property
    def root(self) -> ZarrGroup:
        return ZarrGroup(self._store, "")

    def prefetch(self, arrays: Iterable[Array]) -> None:
        keys: dict[str, None] = {}
        for array in arrays:
            if isinstance(array, ZarrArray):
                # One that cannot be read says so when it is read.
                with suppress(CorruptFile, UnsupportedFile):
                    keys |= dict.fromkeys(array.chunk_keys())
        wanted = [key for key in keys if key not in self._store.held]
        if wanted:
            self._store.held |= self._store.fetch(wanted)


class ZarrGroup:
    """A group of a store."""

    def __init__(self, store: _Store, path: str) -> None:
        self._store = store
        self.path = path

    @property
    def identity(self) -> Hashable:
        return self.path

    def names(self) -> list[str]:
        return sorted(self._store.children[self.path] | _links(self._store, self.path).keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names()

    def link(self, name: str) -> str | None:
        links = _links(self._store, self.path)
        if name in self._store.children[self.path] or name not in links:
            return None
        target = links[name]
        return OUTSIDE if target is None else f"a link to {target}"

    def group(self, name: str) -> ZarrGroup | None:
        path = self._resolve(name)
        return ZarrGroup(self._store, path) if path in self._store.children else None

    def array(self, name: str) -> ZarrArray | None:
        path = self._resolve(name)
        if path is None or _join(path, ".zarray") not in self._store.metadata:
            return None
        return ZarrArray(self._store, path)

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
                here = _join(here, part)
                continue
            target = _links(self._store, here).get(part)
            if target is None or hops == MAX_HOPS:
                return None
            hops += 1
            ahead = [*target.split("/"), *ahead]
            here = ""
        return here


class ZarrArray:
    """An array of a store."""

    def __init__(self, store: _Store, path: str) -> None:
        self._store = store
        self.path = path
        with boundary(path):
            meta = ArrayMetadata.model_validate(store.metadata[_join(path, ".zarray")])
            self._dtype = meta.numpy_dtype
        self._meta = meta

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; that of a scalar is (), which hdmf-zarr keeps as an array of one."""
        scalar = self._store.attributes(self.path).get("zarr_dtype") == "scalar"
        return () if scalar and self._meta.shape == [1] else tuple(self._meta.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def kind(self) -> Kind:
        if self._dtype.kind in "SU":
            return "text"
        if self._dtype.kind != "O":
            return "number" if self._dtype.kind in "iufb" else "other"
        if [item.id in TEXT_FILTERS for item in self._meta.plain_filters] == [True]:
            return "text"
        references = self._store.attributes(self.path).get("zarr_dtype") == "object"
        return "reference" if references else "other"

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
        if not keys:
            return np.empty(self.shape, dtype=self._dtype)
        held = {key: self._store.held.pop(key) for key in keys if key in self._store.held}
        missing = [key for key in keys if key not in held]
        held |= self._store.fetch(missing) if missing else {}
        with boundary(self.path):
            chunks = {key.removeprefix(f"{self.path}/"): held.pop(key) for key in keys}
            return decode(self._meta, chunks).reshape(self.shape)

    def texts(self) -> list[str]:
        return [decoded(value) for value in self.read().reshape(-1).tolist()]

    def chunk_keys(self) -> list[str]:
        """The key of each of its chunks, in C order, when it passes `check`."""
        meta = self._meta
        if self.kind in ("reference", "other") or meta.not_decoded():
            how = ", ".join(meta.not_decoded()) or str(meta.dtype)
            raise UnsupportedFile(f"{self.path} is encoded as {how[:80]}, which is not read here")
        wanted = prod(meta.grid)
        if not wanted:
            return []
        there = [key for key in self._store.below(self.path) if not _split(key)[1].startswith(".z")]
        stored = sum(self._store.sizes[key] for key in there)
        # Chunks at the edges are kept whole, and so is what decoding makes of them.
        whole = tuple(n * c for n, c in zip(meta.grid, meta.chunks, strict=True))
        bound(self.path, whole, max(1, self._dtype.itemsize), stored)
        # Zarr reads a missing chunk as the fill value, and some writers leave out chunks of nothing
        # else. hdmf-zarr writes all of them: zarr 2 does unless it is told not to, and hdmf-zarr
        # has no option for that. One that is not there was lost.
        keys = [_join(self.path, n) for n in meta.chunk_names()] if wanted <= len(there) else there
        found = sum(key in self._store.sizes for key in keys)
        if found < wanted:
            raise CorruptFile(
                f"{self.path} has {found} of its {wanted} chunks, the rest is lost: fetch it again"
            )
        return keys


def _links(store: _Store, path: str) -> dict[str, str | None]:
    """Where each link of the group at `path` leads, from the root; None is another store.

    hdmf-zarr writes the source of a link relative to the store: "." is the store itself.
    """
    entries = store.attributes(path).get("zarr_link", [])
    found: dict[str, str | None] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        name, target, source = (
            (entry.get(key) for key in ("name", "path", "source"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if not (isinstance(name, str) and isinstance(target, str)):
            raise CorruptFile(f"{path or store.name} has a link that leads nowhere: {entry!r:.80}")
        inside = isinstance(source, str) and posixpath.normpath(source) == "."
        found[name] = target if inside else None
    return found


def _attribute(attributes: dict[str, Any], name: str, default: Any) -> Any:
    """A scalar attribute; `default` also for a reference, which is a JSON object."""
    value = first(attributes.get(name, default), default)
    return default if value is None or isinstance(value, dict | list) else value


def _attributes(attributes: dict[str, Any], name: str) -> list[str]:
    value = attributes.get(name)
    values = value if isinstance(value, list) else [value]
    return [decoded(item) for item in values if isinstance(item, str | int | float)]


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _split(key: str) -> tuple[str, str]:
    """The folder and the last part of a key."""
    folder, _, name = key.rpartition("/")
    return folder, name
