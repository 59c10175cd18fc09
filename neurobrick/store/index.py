"""What must be known to read a store: the metadata of its nodes, and its inventory.

Both are in two files of the store, and in the corpus's catalogue, so that a store can be read
without being asked what it is.
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
from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage import Storage
from neurobrick.store.inventory import Inventory, Mismatch
from neurobrick.store.layout import MANIFEST
from neurobrick.store.zarr3 import METADATA, chunk_names

CODECS = ["bytes", "blosc", "crc32c"]


@dataclass(frozen=True)
class ArrayNode:
    """An array's place, shape, type, rows a chunk, and attributes."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    attributes: Mapping[str, Any]

    @property
    def n_chunks(self) -> int:
        """How many chunks hold the array."""
        return -(-self.shape[0] // self.rows) if all(self.shape) else 0

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of every chunk; the last one of an array may hold more than is wanted."""
        return (self.rows, *self.shape[1:])

    def chunks(self) -> list[tuple[str, int]]:
        """The names of the chunks, and the first row of each."""
        if not self.n_chunks:
            return []
        return chunk_names(self.key, self.shape[0], len(self.shape), self.rows)


@dataclass(frozen=True)
class Index:
    """`metadata` and `manifest` are the zarr.json and manifest.json, as they are, of the store that
    is at `path` below its storage; `times` its sets of time, where they are known."""

    path: str
    metadata: bytes
    manifest: bytes
    times: Mapping[str, Intervals] | None = None

    def is_current(self, storage: Storage) -> bool:
        """Whether the store is still the one that this is the index of."""
        try:
            return storage.read(f"{self.path}/{MANIFEST}") == self.manifest
        except FileNotFoundError:
            return False

    def check(self, path: str) -> None:
        """Raise StoreError unless this is the index of a store that this neurobrick reads, and
        Mismatch when it is damaged. `path` is for the message."""
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
        """The last segments of the groups right below `key`."""
        prefix = f"{key}/"
        below = (name.removeprefix(prefix) for name in self.nodes if name.startswith(prefix))
        return sorted(name for name in below if "/" not in name)

    def array(self, key: str) -> ArrayNode:
        """The array at `key`. Raises Mismatch when there is none, or not one as neurobrick's."""
        found = self.nodes.get(key)
        if found is None or found["node_type"] != "array":
            raise Mismatch(f"there is no array {key}")
        if [codec["name"] for codec in found["codecs"]] != CODECS:
            raise Mismatch(f"{key} is not encoded as neurobrick does")
        node = ArrayNode(
            key,
            tuple(found["shape"]),
            np.dtype(found["data_type"]),
            found["chunk_grid"]["configuration"]["chunk_shape"][0],
            found["attributes"],
        )
        sizes = (*node.shape, node.rows)
        if not all(isinstance(n, int) and n >= 0 for n in sizes) or not node.shape or node.rows < 1:
            raise Mismatch(f"{key} has the shape {node.shape}, in chunks of {node.rows} rows")
        # A shape is only believed, and memory taken for it, where there are chunks for it.
        if node.n_chunks > len(self.inventory.files):
            raise Mismatch(f"{key} has more chunks than the store has files")
        return node

    @cached_property
    def _root(self) -> Mapping[str, Any]:
        return _loaded(self.metadata, METADATA)


def format_version(manifest: bytes) -> object:
    """What a manifest.json says of its version. Raises Mismatch when it is damaged."""
    return _loaded(manifest, MANIFEST).get("format_version")


def check_version(path: str, version: object) -> None:
    """Raise StoreError, with what to do, unless stores of format `version` are read here."""
    if version == FORMAT_VERSION:
        return
    older = isinstance(version, int) and version < FORMAT_VERSION
    advice = (
        "it was written by an older neurobrick; neurobrick prepare --force makes it anew"
        if older
        else "it was written by a newer neurobrick: upgrade this one (pip install -U neurobrick)"
    )
    raise StoreError(
        f"{path} has format version {version}, this neurobrick reads {FORMAT_VERSION}: {advice}"
    )


def _loaded(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Mismatch(f"{name} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise Mismatch(f"{name} is no JSON object")
    return found
