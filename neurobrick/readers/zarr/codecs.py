"""A Zarr v2 array from the bytes of its chunks, decoded within a bound.

A few kilobytes can claim to be terabytes, so every decoder is given the most that it may make.
Codecs that are not on the lists below are not decoded: pickled objects would run code.
"""

from __future__ import annotations

import bz2
import json
import lzma
import struct
import zlib
from collections.abc import Callable
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, model_validator

from neurobrick.readers.tree import FREE_BYTES, MAX_RATIO
from neurobrick.storage import blosc

# Filters that zarr undoes. None of them makes an object of a class that the file names.
NUMBER_FILTERS = frozenset({"shuffle", "delta", "fixedscaleoffset"})
TEXT_FILTERS = frozenset({"vlen-utf8", "vlen-bytes"})

MAX_DIMENSIONS = 32  # of an array, to numpy 1 and zarr 2, which write these stores
LZMA_MEMORY = 256 * 2**20  # bytes of dictionary; xz -9 takes 64 MiB


class _Stream(Protocol):
    """A decoder of the standard library that stops after a number of bytes."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=LZMA_MEMORY)


STREAMS: dict[str, Callable[[], _Stream]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "lzma": _lzma,
}
COMPRESSORS = frozenset({"blosc", "lz4", "zstd", *STREAMS})

Length = Annotated[StrictInt, Field(ge=0, lt=2**63)]


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


def text_items(data: bytes) -> int:
    """How many texts a chunk behind one of TEXT_FILTERS claims. Its decoder allocates as many."""
    if len(data) < 4:
        raise ValueError("texts break off")
    return int(struct.unpack_from("<I", data)[0])


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


def decompress(codec: str, data: bytes, limit: int) -> bytes:
    """`data` as `codec`, one of COMPRESSORS, makes it: at most `limit` bytes.

    Raises ValueError when it makes more or breaks off, RuntimeError when it is damaged.
    """
    if codec in STREAMS:
        return _stream(codec, data, limit)
    if codec == "blosc":
        return blosc.content(data, limit)
    import numcodecs

    size = _declared(codec, data)
    if size > limit:
        raise ValueError(f"{codec} data make {size:,} bytes, more than {limit:,}")
    # Into a buffer of that size: two zstd frames in one chunk would else make the sum of both.
    made = np.empty(size, dtype=np.uint8)
    numcodecs.get_codec({"id": codec}).decode(data, out=made)
    return made.tobytes()


def _stream(codec: str, data: bytes, limit: int) -> bytes:
    stream = STREAMS[codec]()
    try:
        # One byte more shows that the limit is passed. Zero would mean no limit.
        made = stream.decompress(data, limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"damaged {codec} data: {error}") from error
    if len(made) > limit:
        raise ValueError(f"{codec} data make more than {limit:,} bytes")
    if not stream.eof:
        raise ValueError(f"{codec} data break off")
    return made


def _declared(codec: str, data: bytes) -> int:
    """The size that the header of `data` declares, in bytes."""
    if codec == "lz4":
        if len(data) < 4:
            raise ValueError("lz4 data break off")
        return int(struct.unpack_from("<I", data)[0])
    return _zstd_size(data)


def _zstd_size(data: bytes) -> int:
    """The content size in the header of a zstd frame (RFC 8878, section 3.1.1.1)."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("not zstd data")
    descriptor = data[4]
    single_segment = descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    if not width:
        raise ValueError("zstd data that do not declare their size")
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    field = data[start : start + width]
    if len(field) < width:
        raise ValueError("zstd data break off")
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)
