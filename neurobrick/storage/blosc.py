"""Blosc payloads, decompressed without reading or writing past their ends.

The chunks of stores and those of NWB's Zarr arrays both pass through here. c-blosc believes the
header of a payload: a header that claims more bytes than there are makes it read foreign memory. So
every field is checked first. Format: c-blosc, README_CHUNK_FORMAT.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

VERSION = 2  # of the format, which every c-blosc 1.x writes
LARGEST = 2**31 - 1 - 16  # bytes of content; c-blosc counts in int32
COPIED = 0b10  # flag: the content follows the header as it is
RESERVED = 0b1000  # flag: never set

Buffer = bytes | memoryview

_FIELDS = struct.Struct("<BBBBIII")


@dataclass(frozen=True)
class Header:
    """The first 16 bytes of a payload. They have been checked against its length."""

    version: int
    codec_version: int  # of the compressor inside, as zstd
    flags: int
    type_size: int  # bytes of one element, as the shuffle takes them
    size: int  # bytes of the content
    block_size: int  # bytes of one block of the content
    stored: int  # bytes of the payload, with this header


def read_header(payload: Buffer) -> Header:
    """The header of `payload`.

    Raises ValueError when a field contradicts the format or the length of `payload`.
    """
    if len(payload) < _FIELDS.size:
        raise ValueError("blosc data break off")
    header = Header(*_FIELDS.unpack_from(payload))
    if header.version != VERSION or header.flags & RESERVED:
        raise ValueError(f"blosc data of version {header.version}, flags {header.flags:#x}")
    if header.stored != len(payload):
        raise ValueError(f"blosc data of {len(payload)} bytes, declared as {header.stored}")
    if header.size > LARGEST:
        raise ValueError(f"blosc data that declare {header.size:,} bytes of content")
    if not header.type_size or not 0 < header.block_size <= max(1, header.size):
        raise ValueError(
            f"blosc data in blocks of {header.block_size} bytes, elements of {header.type_size}"
        )
    if header.flags & COPIED:
        fits = header.stored == _FIELDS.size + header.size
    else:  # after the header, the place of each block as int32
        n_blocks = -(-header.size // header.block_size)
        fits = header.stored >= _FIELDS.size + 4 * n_blocks
    if not fits:
        raise ValueError(f"blosc data of {header.stored} bytes cannot hold {header.size:,}")
    return header


def decompress(payload: Buffer, into: NDArray[Any]) -> None:
    """Fill `into`, a contiguous array, with the content of `payload`.

    Raises ValueError when the content has another size, or `payload` is damaged.
    """
    header = read_header(payload)
    if header.size != into.nbytes:
        raise ValueError(f"blosc data of {header.size:,} bytes of content, not {into.nbytes:,}")
    try:
        blosc.decompress(payload, into)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"damaged blosc data: {error}") from error


def compress(block: NDArray[Any], level: int, bitshuffle: bool) -> bytes:
    """The payload that holds `block`, a contiguous array, compressed by zstd.

    `bitshuffle` sorts the bits of the elements by place first; otherwise their bytes are sorted.
    """
    filtered = blosc.BITSHUFFLE if bitshuffle else blosc.SHUFFLE
    return bytes(blosc.compress(block, b"zstd", level, filtered, 0, block.dtype.itemsize))


def content(payload: Buffer, limit: int) -> bytes:
    """The content of `payload`.

    Raises ValueError when it is more than `limit` bytes, or `payload` is damaged.
    """
    size = read_header(payload).size
    if size > limit:
        raise ValueError(f"blosc data make {size:,} bytes, more than {limit:,}")
    made = np.empty(size, np.uint8)
    decompress(payload, made)
    return made.tobytes()
