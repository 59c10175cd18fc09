"""A Zarr v2 array, as hdmf-zarr up to 0.13 kept NWB in: metadata, chunk keys, decoding.

zarr-python opens no such store as a group, but does open its arrays one by one. So each array is
given to it in a store of its own, in memory, with its own chunks and nothing else. Filters that are
not on the lists below are not decoded: pickled objects would run code.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from neurobrick.readers.tree import FREE_BYTES, MAX_RATIO, Kind
from neurobrick.readers.zarr.codecs import (
    COMPRESSORS,
    MAX_DIMENSIONS,
    Length,
    decompress,
    text_items,
)

# Filters that zarr undoes. None of them makes an object of a class that the file names.
NUMBER_FILTERS = frozenset({"shuffle", "delta", "fixedscaleoffset"})
TEXT_FILTERS = frozenset({"vlen-utf8", "vlen-bytes"})


class Codec(BaseModel, extra="allow"):
    """A filter or a compressor, with its settings."""

    id: str


class ArrayMetadata(BaseModel):
    """A `.zarray`: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#arrays."""

    zarr_format: Literal[2]
    shape: list[Length] = Field(max_length=MAX_DIMENSIONS)
    chunks: list[Length] = Field(max_length=MAX_DIMENSIONS)
    dtype: str | list[Any]
    compressor: Codec | None
    filters: list[Codec] | None
    order: Literal["C", "F"]
    dimension_separator: Literal[".", "/"] = "."

    @model_validator(mode="after")
    def _chunks_fit(self) -> ArrayMetadata:
        if len(self.chunks) != len(self.shape):
            raise ValueError(f"chunks of {self.chunks}, a shape of {self.shape}")
        if 0 in self.chunks and 0 not in self.shape:
            raise ValueError("chunks of length 0")
        return self

    @property
    def plain_filters(self) -> list[Codec]:
        """The filters without those at the end that compress. An HDF5 dataset with gzip becomes a
        Zarr array with a filter zlib and a compressor."""
        filters = list(self.filters or [])
        while filters and filters[-1].id in COMPRESSORS:
            filters.pop()
        return filters

    @property
    def compression(self) -> list[str]:
        """The codecs that compress a chunk, in the order of decoding."""
        last = [] if self.compressor is None else [self.compressor.id]
        n_plain = len(self.plain_filters)
        return [*last, *(item.id for item in reversed((self.filters or [])[n_plain:]))]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Its type in memory; object for records and everything else that numpy has no name for."""
        return np.dtype(self.dtype) if isinstance(self.dtype, str) else np.dtype(object)

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension; zeros for an empty array."""
        if 0 in self.shape:
            return (0,) * max(1, len(self.shape))
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def chunk_names(self) -> list[str]:
        """The name of every chunk, in C order."""
        steps = product(*(range(n) for n in self.grid))
        return [self.dimension_separator.join(map(str, step)) or "0" for step in steps]

    def not_decoded(self) -> list[str]:
        """The filters and the compressor that are not on the list."""
        kind = self.numpy_dtype.kind
        allowed = NUMBER_FILTERS if kind in "iufb" else TEXT_FILTERS if kind == "O" else frozenset()
        unknown = [item.id for item in self.plain_filters if item.id not in allowed]
        return unknown + [name for name in self.compression if name not in COMPRESSORS]


class ArrayV2:
    """An array's metadata, checked; its chunk keys; and its values from its chunks.

    Raises pydantic's ValidationError when the metadata contradict themselves.
    """

    def __init__(self, metadata: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        self._meta = ArrayMetadata.model_validate(metadata)
        self._zarr_dtype = attributes.get("zarr_dtype")
        self.dtype: np.dtype[Any] = self._meta.numpy_dtype
        # hdmf-zarr keeps a scalar as an array of one.
        scalar = self._zarr_dtype == "scalar" and self._meta.shape == [1]
        self.shape: tuple[int, ...] = () if scalar else tuple(self._meta.shape)

    @property
    def kind(self) -> Kind:
        """What its values are."""
        if self.dtype.kind in "SU":
            return "text"
        if self.dtype.kind != "O":
            return "number" if self.dtype.kind in "iufb" else "other"
        if [item.id in TEXT_FILTERS for item in self._meta.plain_filters] == [True]:
            return "text"
        return "reference" if self._zarr_dtype == "object" else "other"

    def undecodable(self) -> str:
        """What of its encoding is not decoded here; "" when all is."""
        unknown = ", ".join(self._meta.not_decoded())
        return unknown or (str(self._meta.dtype) if self.kind in ("reference", "other") else "")

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return self._meta.grid

    @property
    def whole(self) -> tuple[int, ...]:
        """The shape of all its chunks: those at the edges are kept whole."""
        return tuple(n * c for n, c in zip(self.grid, self._meta.chunks, strict=True))

    def chunk_names(self, stored: Collection[str]) -> list[str]:
        """Those of the names `stored` below the array that are chunks of it."""
        if prod(self.grid) > len(
            stored
        ):  # some are lost: do not name all of them, there can be billions
            return list(stored)
        names = set(stored)
        return [name for name in self._meta.chunk_names() if name in names]

    def unwritten(self, stored: Collection[str]) -> int:
        """How many of its chunks are not among the names `stored`.

        Zarr reads such a chunk as the fill value, and some writers leave out chunks of nothing
        else. hdmf-zarr writes all of them: zarr 2 does unless an option says otherwise, and
        hdmf-zarr has no such option. So a chunk that is not there was lost.
        """
        return prod(self.grid) - len(self.chunk_names(stored))

    def decode(self, chunks: dict[str, bytes]) -> NDArray[Any]:
        """The array of `chunks`, all of its chunks by name, which this empties."""
        return decode(self._meta, chunks).reshape(self.shape)


def decode(meta: ArrayMetadata, chunks: dict[str, bytes]) -> NDArray[Any]:
    """The array of `chunks`, all of its chunks by name, which this empties.

    Raises ValueError when a chunk is not what `meta` says, and what zarr and numcodecs raise.
    """
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    held = default_buffer_prototype().buffer
    # Compression is undone here. No chunk is absent, so that nothing is filled.
    plain = meta.model_dump() | {"compressor": None, "fill_value": None}
    # zarr warns of an empty list.
    plain["filters"] = [item.model_dump() for item in meta.plain_filters] or None
    memory = {".zarray": held.from_bytes(json.dumps(plain).encode())}
    left = max(FREE_BYTES, MAX_RATIO * sum(map(len, chunks.values())))
    for name in list(chunks):
        data = _chunk(meta, chunks.pop(name), left)
        left -= len(data) if meta.numpy_dtype.kind == "O" else 0
        memory[name] = held.from_bytes(data)
    array = zarr.open_array(MemoryStore(memory), zarr_format=2, mode="r")
    return np.asarray(array[...])


def _chunk(meta: ArrayMetadata, data: bytes, limit: int) -> bytes:
    """A chunk without its compression, with as many bytes as its filters take."""
    items = prod(meta.chunks)
    texts = meta.numpy_dtype.kind == "O"
    if not texts:
        limit = items * _encoded_dtype(meta).itemsize
    for number, codec in enumerate(meta.compression, 1):
        # Compression that is not the last to be undone may have made its input longer.
        room = 0 if number == len(meta.compression) else limit // 64 + 1024
        data = decompress(codec, data, limit + room)
    actual, expected = (text_items(data), items) if texts else (len(data), limit)
    if actual != expected:
        raise ValueError(f"a chunk of {actual} {'texts' if texts else 'bytes'}, not {expected}")
    return data


def _encoded_dtype(meta: ArrayMetadata) -> np.dtype[Any]:
    """The type of the elements of a chunk before NUMBER_FILTERS are undone."""
    dtype = meta.numpy_dtype
    for item in meta.plain_filters:
        settings = item.model_dump()
        if settings.get("scale") == 0:
            raise ValueError("a filter divides by 0")
        if item.id != "shuffle":
            name = settings.get("astype") or settings.get("dtype")
            dtype = np.dtype(name) if isinstance(name, str) else np.dtype(object)
            if dtype.kind not in "iufb":
                raise ValueError(f"a filter makes {name!r}, no numbers")
    return dtype
