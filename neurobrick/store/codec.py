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
from numcodecs import blosc
from numpy.typing import NDArray

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
    filtered = blosc.BITSHUFFLE if shuffle(block.dtype) == "bitshuffle" else blosc.SHUFFLE
    levels = (LEVEL, SECOND_LEVEL) if block.dtype.itemsize <= 2 else (LEVEL,)
    payload = min(
        (blosc.compress(block, b"zstd", n, filtered, 0, block.dtype.itemsize) for n in levels),
        key=len,
    )
    return bytes(payload) + int(google_crc32c.value(payload)).to_bytes(CHECKSUM_BYTES, "little")


def decode(content: bytes, into: Array) -> None:
    """Undo `encode`, of a chunk of the shape and type of `into`, a contiguous array.

    The chunk's own checksum is not looked at: whoever read `content` held it against the store's
    inventory, which covers it. Raises ValueError when it is not such a chunk.
    """
    payload = memoryview(content)[:-CHECKSUM_BYTES]
    # Bytes 4 to 8 of blosc's header are how many it holds; with fewer, `into` would keep garbage.
    if int.from_bytes(payload[4:8], "little") != into.nbytes:
        raise ValueError(f"does not hold {into.nbytes} bytes")
    try:
        blosc.decompress(payload, into)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot be decompressed ({error})") from error
