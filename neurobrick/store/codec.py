"""Chunks as bytes: blosc zstd, shuffled, then crc32c.

Measured on sessions of 1.4 million spikes (benchmarks/encoding.py): the bytes of an integer are
shuffled, the bits of a float, which a smooth signal changes in its lower half only. Beyond level 3
zstd takes several times longer and gains one per cent. Where the values fill a byte almost evenly,
as the rows of some hundred units do, level 1 finds the 6 % that level 3 gives up; so both are tried
where it costs next to nothing.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from neurobrick.storage import blosc

LEVEL = 3
SECOND_LEVEL = 1
CHECKSUM_BYTES = 4

Array = NDArray[Any]


def shuffle(dtype: np.dtype[Any]) -> str:
    """Zarr's name of the filter that chunks of `dtype` pass before they are compressed."""
    return "bitshuffle" if dtype.kind == "f" else "shuffle"


def encode(block: Array) -> bytes:
    """The bytes of a chunk that holds `block`."""
    block = np.ascontiguousarray(block)
    bits = shuffle(block.dtype) == "bitshuffle"
    levels = (LEVEL, SECOND_LEVEL) if block.dtype.itemsize <= 2 else (LEVEL,)
    payload = min((blosc.compress(block, level, bits) for level in levels), key=len)
    return payload + int(google_crc32c.value(payload)).to_bytes(CHECKSUM_BYTES, "little")


def decode(content: bytes, into: Array) -> None:
    """Undo `encode`: fill `into`, a contiguous array of the chunk's shape and type.

    The crc32c at the end is not checked. The caller has checked all of `content` against the
    store's inventory. Raises ValueError when `content` is not such a chunk.
    """
    blosc.decompress(memoryview(content)[:-CHECKSUM_BYTES], into)
