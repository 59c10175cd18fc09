"""Zarr v3 as neurobrick writes it: rows in few large chunks, and every node's metadata at the root.

Any Zarr v3 reader opens it. zarr-python would take a millisecond or two for each array, which is
most of the time for a session of some fifty small arrays. Here the checksum of each file is listed
while it is written, without reading it again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import StoreError
from neurobrick.storage.checksum import checksum
from neurobrick.store.codec import LEVEL, encode, shuffle

METADATA = "zarr.json"
# Zarr's names of the types that stores hold, and numpy's types. A name from a file is looked up
# here and never given to numpy, which makes types of Python objects of some.
DATA_TYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "float32", "float64"),
    )
}

Array = NDArray[Any]


class FolderWriter:
    """A Zarr v3 store that is being written to a folder.

    `files` has the size in bytes and the `checksum` of each file that was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._made: set[str] = set()
        self._nodes: dict[str, dict[str, Any]] = {}
        self.files: dict[str, tuple[int, int]] = {}

    def group(self, key: str, attributes: dict[str, Any] | None = None) -> None:
        """Write a group; `key` is its path below the root."""
        self._parents(key)
        self._group(key, attributes or {})

    def array(
        self,
        key: str,
        data: Array,
        rows: int,
        attributes: dict[str, Any] | None = None,
        *,
        dims: tuple[str, ...],
    ) -> None:
        """Write an array in chunks of `rows` rows, each as wide as the array; see `chunk_rows`.

        `dims` are the names of its dimensions. Arrays that share a name share that dimension in
        xarray. Raises StoreError when the type of `data` is not one of `DATA_TYPES`.
        """
        if data.dtype.name not in DATA_TYPES:
            raise StoreError(f"{key} cannot be stored: its values are of type {data.dtype}")
        data = np.asarray(data, DATA_TYPES[data.dtype.name])
        self._parents(key)
        shape = (chunk_rows(len(data), rows), *(max(1, n) for n in data.shape[1:]))
        self._node(key, _array_metadata(data, shape, dims, attributes or {}))
        if not data.size:
            return
        for name, start in chunk_names(key, len(data), data.ndim, shape[0]):
            block = data[start : start + shape[0]]
            if len(block) < shape[0]:  # Zarr pads the last chunk
                filling = np.zeros((shape[0] - len(block), *shape[1:]), data.dtype)
                block = np.concatenate([block, filling])
            self._write(name, encode(block))

    def root(self, attributes: dict[str, Any]) -> None:
        """Write the root group, with the metadata of every node, so that one file has them all.

        The key `consolidated_metadata` is zarr-python's. Other readers may ignore it.
        """
        nodes = {"kind": "inline", "must_understand": False, "metadata": self._nodes}
        content = {**_group_metadata(attributes), "consolidated_metadata": nodes}
        self._write(METADATA, json.dumps(content, separators=(",", ":")).encode())

    def _parents(self, key: str) -> None:
        """Write the groups above `key` that are not written yet."""
        parent = key.rpartition("/")[0]
        if parent and parent not in self._nodes:
            self._parents(parent)
            self._group(parent, {})

    def _group(self, key: str, attributes: dict[str, Any]) -> None:
        self._node(key, _group_metadata(attributes))

    def _node(self, key: str, metadata: dict[str, Any]) -> None:
        self._nodes[key] = metadata
        self._write(f"{key}/{METADATA}", json.dumps(metadata).encode())

    def _write(self, name: str, content: bytes) -> None:
        path = f"{self._folder}/{name}"
        folder = os.path.dirname(path)  # noqa: PTH120 (hundreds of names, and pathlib is slow)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            self._made.add(folder)
        with open(path, "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content)
        self.files[name] = (len(content), checksum(content))


def chunk_rows(length: int, most: int) -> int:
    """Rows of each chunk of an array of `length` rows, at most `most`.

    As few chunks as possible, then as few rows as possible: the last chunk is hardly padded.
    """
    return max(1, -(-length // max(1, -(-length // most))))


def chunk_names(key: str, length: int, ndim: int, rows: int) -> list[tuple[str, int]]:
    """The names of an array's chunks, and the first row of each."""
    across = "/0" * (ndim - 1)
    return [
        (f"{key}/c/{number}{across}", start) for number, start in enumerate(range(0, length, rows))
    ]


def _group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


def _array_metadata(
    data: Array, chunk: tuple[int, ...], dims: tuple[str, ...], attributes: dict[str, Any]
) -> dict[str, Any]:
    """What `zarr.json` says of an array (Zarr v3 specification, "Array metadata")."""
    endian = {"configuration": {"endian": "little"}} if data.dtype.itemsize > 1 else {}
    blosc = {
        "cname": "zstd",
        "clevel": LEVEL,
        "shuffle": shuffle(data.dtype),
        "typesize": data.dtype.itemsize,
        "blocksize": 0,
    }
    return {
        "shape": list(data.shape),
        "data_type": data.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": data.dtype.type(0).item(),
        "codecs": [
            {"name": "bytes", **endian},
            {"name": "blosc", "configuration": blosc},
            {"name": "crc32c"},
        ],
        "attributes": attributes,
        "dimension_names": list(dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
