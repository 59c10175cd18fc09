"""The index of a store: the metadata of its nodes, and its inventory.

It is in two files of the store, and also in the catalogue of the corpus. So a store is read without
opening those two files first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import READABLE_VERSIONS
from neurobrick.storage import Storage
from neurobrick.store.inventory import Inventory, Mismatch
from neurobrick.store.layout import MANIFEST
from neurobrick.store.zarr3 import DATA_TYPES, METADATA, chunk_names

CODECS = ["bytes", "blosc", "crc32c"]


@dataclass(frozen=True)
class ArrayNode:
    """The metadata of an array."""

    key: str  # path below the root of the store
    shape: tuple[int, ...]  # at least one dimension
    dtype: np.dtype[Any]  # one of zarr3.DATA_TYPES
    rows: int  # of each chunk; chunks are as wide as the array
    attributes: Mapping[str, Any]  # not validated

    @property
    def n_chunks(self) -> int:
        """The number of chunks; 0 for an empty array."""
        return -(-self.shape[0] // self.rows) if all(self.shape) else 0

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of every chunk. The last one may be padded beyond the end of the array."""
        return (self.rows, *self.shape[1:])

    def chunks(self) -> list[tuple[str, int]]:
        """The names of the chunks, and the first row of each."""
        if not self.n_chunks:
            return []
        return chunk_names(self.key, self.shape[0], len(self.shape), self.rows)


@dataclass(frozen=True)
class Index:
    """Everything that reading a store needs, but for its chunks."""

    path: str  # of the store, below its storage
    metadata: bytes  # content of zarr.json
    manifest: bytes  # content of manifest.json
    times: Mapping[str, Intervals] | None = None  # the sets of time, if a catalogue has them

    def is_current(self, storage: Storage) -> bool:
        """Whether this is still the index of the store at `path`."""
        try:
            return storage.read(f"{self.path}/{MANIFEST}") == self.manifest
        except FileNotFoundError:
            return False

    def check(self, path: str) -> None:
        """Raise StoreError when this neurobrick does not read the format, Mismatch for damage.

        `path` is for the message.
        """
        check_version(path, format_version(self.manifest))
        self.inventory.check(METADATA, self.metadata)
        check_version(path, self.session.get("format_version"))

    @cached_property
    def version(self) -> bytes:
        """A digest of the manifest, which lists every file with its checksum."""
        return hashlib.blake2b(self.manifest, digest_size=16).digest()

    @cached_property
    def inventory(self) -> Inventory:
        """Every file of the store."""
        return Inventory.parse(self.manifest)

    @cached_property
    def session(self) -> Mapping[str, Any]:
        """The session's metadata, not validated."""
        return self._root["attributes"]["neurobrick"]

    @cached_property
    def nodes(self) -> Mapping[str, Mapping[str, Any]]:
        """The metadata of every group and array below the root, by key."""
        return self._root["consolidated_metadata"]["metadata"]

    def children(self, key: str) -> list[str]:
        """The last segments of the keys of the nodes right below `key`."""
        prefix = f"{key}/"
        below = (name.removeprefix(prefix) for name in self.nodes if name.startswith(prefix))
        return sorted(name for name in below if "/" not in name)

    def array(self, key: str) -> ArrayNode:
        """The array at `key`. Raises Mismatch unless there is one, as neurobrick writes it."""
        metadata = self.nodes.get(key)
        if metadata is None or metadata["node_type"] != "array":
            raise Mismatch(f"there is no array {key}")
        if [codec["name"] for codec in metadata["codecs"]] != CODECS:
            raise Mismatch(f"{key} is not encoded as neurobrick does")
        name = metadata["data_type"]
        if not isinstance(name, str) or name not in DATA_TYPES:
            raise Mismatch(f"{key} is of type {str(name)[:50]}, which no store holds")
        node = ArrayNode(
            key,
            tuple(metadata["shape"]),
            DATA_TYPES[name],
            metadata["chunk_grid"]["configuration"]["chunk_shape"][0],
            metadata["attributes"],
        )
        sizes = (*node.shape, node.rows)
        if not all(isinstance(n, int) and n >= 0 for n in sizes) or not node.shape or node.rows < 1:
            raise Mismatch(f"{key} has the shape {node.shape}, in chunks of {node.rows} rows")
        # A forged shape takes no memory: the store must have a file for each chunk.
        if node.n_chunks > len(self.inventory.files):
            raise Mismatch(f"{key} has more chunks than the store has files")
        return node

    @cached_property
    def _root(self) -> Mapping[str, Any]:
        return _loaded(self.metadata, METADATA)


def format_version(manifest: bytes) -> object:
    """The format version in a manifest.json. Raises Mismatch when it is damaged."""
    return _loaded(manifest, MANIFEST).get("format_version")


def check_version(path: str, version: object) -> None:
    """Raise StoreError, with advice, unless this neurobrick reads stores of format `version`."""
    if version in READABLE_VERSIONS:
        return
    older = isinstance(version, int) and version < min(READABLE_VERSIONS)
    advice = (
        "it was written by an older neurobrick; neurobrick prepare --force makes it anew"
        if older
        else "it was written by a newer neurobrick: upgrade this one (pip install -U neurobrick)"
    )
    known = " and ".join(map(str, READABLE_VERSIONS))
    raise StoreError(
        f"{path} has format version {version}, this neurobrick reads {known}: {advice}"
    )


def _loaded(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        loaded = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Mismatch(f"{name} is no JSON ({error})") from error
    if not isinstance(loaded, dict):
        raise Mismatch(f"{name} is no JSON object")
    return loaded
