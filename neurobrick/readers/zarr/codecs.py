"""Compressed bytes to bytes, each decoder within a bound: for Zarr format 2 and 3.

A few kilobytes can claim to be terabytes, so every decoder is given the most that it may make.
Codecs that are not in COMPRESSORS are not decoded.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field, StrictInt

from neurobrick.storage import blosc

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


def text_items(data: bytes) -> int:
    """How many texts a chunk behind one of TEXT_FILTERS claims. Its decoder allocates as many."""
    if len(data) < 4:
        raise ValueError("texts break off")
    return int(struct.unpack_from("<I", data)[0])


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
