"""A Zarr v3 array, as hdmf-zarr 0.14 and later keep NWB in: metadata, chunk keys, decoding.

https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html. It is decoded here, not by
zarr-python, because every decoder must be bounded. Extensions that are not known here are named,
and the array is not read.

A chunk that is not in the store is the fill value. Writers leave out chunks of nothing else, so
that a lost chunk cannot be told from one of silence: `unwritten` counts them.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from neurobrick.readers.tree import Kind
from neurobrick.readers.zarr.codecs import MAX_DIMENSIONS, Length
from neurobrick.readers.zarr.v3_chunks import (
    MAX_CODECS,
    TEXTS,
    ChunkDecoder,
    Extension,
    Room,
    Shape,
    pipeline,
    put,
)

NUMBERS = frozenset(
    {
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    }
)  # fmt: skip
FIXED_TEXTS = {"fixed_length_utf32": ("U", 4), "null_terminated_bytes": ("S", 1)}

MAX_ITEM = 2**20  # bytes of one text of fixed length
SPECIAL = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


class ArrayMetadata(BaseModel, extra="allow"):
    """The `zarr.json` of an array."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: list[Length] = Field(max_length=MAX_DIMENSIONS)
    data_type: Extension
    chunk_grid: Extension
    chunk_key_encoding: Extension
    fill_value: Any
    codecs: list[Extension] = Field(min_length=1, max_length=MAX_CODECS)
    storage_transformers: list[Extension] = Field(default_factory=list)


class ArrayV3:
    """An array's metadata, checked; its chunk keys; and its values from its chunks.

    Raises ValueError, also as pydantic's ValidationError, when the metadata contradict themselves.
    """

    def __init__(self, metadata: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        self._meta = ArrayMetadata.model_validate(metadata)
        self.shape: tuple[int, ...] = tuple(self._meta.shape)
        self._is_reference = attributes.get("_DTYPE") == "object_reference"
        self.dtype = _numpy_dtype(self._meta.data_type)
        self._pipeline = pipeline(self._meta.codecs)
        self.chunks = self._chunk_shape()
        settings = self._meta.chunk_key_encoding.configuration
        plain = self._meta.chunk_key_encoding.name == "v2"
        self._separator = settings.get("separator", "." if plain else "/")
        if self._separator not in (".", "/"):
            raise ValueError(f"chunk keys separated by {self._separator!r:.20}")

    @property
    def kind(self) -> Kind:
        """What its values are."""
        if self._is_reference:
            return "reference"
        name = self._meta.data_type.name
        if name in NUMBERS:
            return "number"
        return "text" if name in TEXTS or name in FIXED_TEXTS else "other"

    def undecodable(self) -> str:
        """What of its encoding is not decoded here; "" when all is."""
        meta = self._meta
        names = self._pipeline.unknown()
        if self.kind in ("reference", "other"):
            names.insert(0, "references" if self._is_reference else meta.data_type.name)
        if meta.chunk_grid.name != "regular":
            names.append(f"a grid {meta.chunk_grid.name}")
        if meta.chunk_key_encoding.name not in ("default", "v2"):
            names.append(f"chunk keys {meta.chunk_key_encoding.name}")
        names += [transformer.name for transformer in meta.storage_transformers]
        names += [
            name
            for name, value in (meta.model_extra or {}).items()
            if name not in ("attributes", "dimension_names")
            and not (isinstance(value, dict) and value.get("must_understand") is False)
        ]
        return ", ".join(names)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def whole(self) -> tuple[int, ...]:
        """The shape of all its chunks: those at the edges are kept whole."""
        return tuple(n * c for n, c in zip(self.grid, self.chunks, strict=True))

    def chunk_names(self, stored: Collection[str]) -> list[str]:
        """Those of the names `stored` below the array that are chunks of it."""
        return [name for name in stored if self._position(name) is not None]

    def unwritten(self, stored: Collection[str]) -> int:
        """How many of its chunks are not among the names `stored`: they are the fill value."""
        return prod(self.grid) - len(self.chunk_names(stored))

    def decode(self, chunks: dict[str, bytes]) -> NDArray[Any]:
        """The array of `chunks`, by name, which this empties.

        Raises ValueError when a chunk is not what the metadata say, and what numcodecs raises.
        """
        room = Room(sum(map(len, chunks.values())))
        decoder = ChunkDecoder(self._meta.data_type.name, self.dtype, lambda: self.fill)
        complete = len(chunks) == prod(self.grid)
        values = np.empty(self.shape, dtype=self.dtype)
        if not complete:
            values[...] = self.fill
        for name in list(chunks):
            position = self._position(name)
            if position is None:
                raise ValueError(f"{name!r} is no chunk of it")
            chunk = decoder.decode(self._pipeline, chunks.pop(name), self.chunks, room)
            start = [k * c for k, c in zip(position, self.chunks, strict=True)]
            put(values, start, chunk)
        return values

    @cached_property
    def fill(self) -> Any:
        """The fill value. Raises ValueError when it is none of the data type's."""
        value, kind = self._meta.fill_value, self.dtype.kind
        if kind in "OU" and isinstance(value, str):
            return value
        if kind == "S" and isinstance(value, str):
            return base64.b64decode(value, validate=True)
        if kind == "b" and isinstance(value, bool):
            return value
        if kind in "iu" and type(value) is int:
            return np.array(value, dtype=self.dtype)[()]  # OverflowError when it does not fit
        if kind == "f" and isinstance(value, str):
            if value in SPECIAL:
                return self.dtype.type(SPECIAL[value])
            bits = bytes.fromhex(value.removeprefix("0x"))  # big-endian, as numbers are written
            return np.frombuffer(bits, self.dtype.newbyteorder(">"))[0]
        if kind == "f" and type(value) in (int, float):
            return self.dtype.type(value)
        raise ValueError(f"a fill value {value!r:.40} of {self._meta.data_type.name}")

    def _chunk_shape(self) -> tuple[int, ...]:
        if self._meta.chunk_grid.name != "regular":
            return tuple(max(n, 1) for n in self.shape)
        chunks = Shape.validate_python(self._meta.chunk_grid.configuration.get("chunk_shape"))
        if len(chunks) != len(self.shape):
            raise ValueError(f"chunks of {chunks}, a shape of {list(self.shape)}")
        return tuple(chunks)

    def _position(self, name: str) -> tuple[int, ...] | None:
        """Where in the grid the chunk called `name` is; None if it is no chunk."""
        parts = name.split(self._separator)
        if self._meta.chunk_key_encoding.name == "default":
            if parts[0] != "c":
                return None
            parts = parts[1:]
        elif not self.shape:
            return () if name == "0" else None
        if len(parts) != len(self.shape):
            return None
        if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            return None
        position = tuple(map(int, parts))
        inside = all(k < n for k, n in zip(position, self.grid, strict=True))
        exact = [str(k) for k in position] == parts  # 01 is no key
        return position if inside and exact else None


def _numpy_dtype(data_type: Extension) -> np.dtype[Any]:
    """Its type in memory: object for texts of any length and for what is not decoded here."""
    if data_type.name in NUMBERS:
        return np.dtype(data_type.name)
    if data_type.name in FIXED_TEXTS:
        letter, width = FIXED_TEXTS[data_type.name]
        size = data_type.configuration.get("length_bytes")
        if type(size) is not int or not 0 < size <= MAX_ITEM or size % width:
            raise ValueError(f"texts of {size!r:.20} bytes")
        return np.dtype(f"{letter}{size // width}")
    return np.dtype(object)
