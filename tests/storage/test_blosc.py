"""No header makes c-blosc read past the end of a payload: for stores and for NWB's Zarr arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from numcodecs import blosc as c_blosc

from neurobrick.readers.zarr import codecs
from neurobrick.storage import blosc
from neurobrick.store import codec

CONTENT = np.random.default_rng(0).integers(0, 50, 20_000, dtype=np.int32)


def by_store(payload: bytes) -> bytes:
    made = np.full(len(CONTENT), -1, np.int32)
    codec.decode(payload + b"CRC4", made)
    return made.tobytes()


def by_zarr_codecs(payload: bytes) -> bytes:
    return codecs.decompress("blosc", payload, CONTENT.nbytes)


USERS = pytest.mark.parametrize("decode", [by_store, by_zarr_codecs])
Decode = Callable[[bytes], bytes]

# Each field of the header: where it starts, and its struct format.
FIELDS = {
    "version": (0, "<B"),
    "codec_version": (1, "<B"),
    "flags": (2, "<B"),
    "type_size": (3, "<B"),
    "size": (4, "<I"),
    "block_size": (8, "<I"),
    "stored": (12, "<I"),
}
# Those whose every other value is refused. Copied content lies in no blocks.
CHECKED = {
    "zstd": ("version", "size", "block_size", "stored"),
    "copied": ("version", "size", "stored"),
}


def payload(kind: str = "zstd") -> bytes:
    """CONTENT as blosc keeps it: compressed, or as it is."""
    level = 0 if kind == "copied" else 3
    return bytes(c_blosc.compress(CONTENT, b"zstd", level, c_blosc.SHUFFLE, 0, 4))


@USERS
@pytest.mark.parametrize("kind", ["zstd", "copied"])
def test_a_sound_payload_is_decoded(decode: Decode, kind: str) -> None:
    assert decode(payload(kind)) == CONTENT.tobytes()


@USERS
@pytest.mark.parametrize("kind", ["zstd", "copied"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_header_field_with_another_value_is_refused_or_does_no_harm(
    decode: Decode, field: str, kind: str
) -> None:
    start, form = FIELDS[field]
    whole = payload(kind)
    (right,) = struct.unpack_from(form, whole, start)
    values = {*range(256)}
    if form == "<I":
        values |= {right - 1, right + 1, 2 * right, *(2**k for k in range(8, 32)), 2**32 - 1}
    for value in sorted(values - {right}):
        forged = bytearray(whole)
        struct.pack_into(form, forged, start, value)
        try:
            made = decode(bytes(forged))
        except ValueError:
            continue
        assert field not in CHECKED[kind], f"{field} = {value} is believed"
        assert len(made) == CONTENT.nbytes


@USERS
@pytest.mark.parametrize("kind", ["zstd", "copied"])
def test_a_payload_that_breaks_off_is_refused(decode: Decode, kind: str) -> None:
    whole = payload(kind)
    for length in (0, 1, 4, 15, 16, 17, 20, len(whole) // 2, len(whole) - 1):
        for stored in (len(whole), length):  # as it was, and forged to fit
            cut = bytearray(whole[:length])
            if length >= 16:
                struct.pack_into("<I", cut, 12, stored)
            with pytest.raises(ValueError, match=r"blosc|break off"):
                decode(bytes(cut))


def test_what_follows_a_payload_in_memory_is_never_read() -> None:
    whole = payload()
    for length in range(16, len(whole), 97):
        cut = bytearray(whole)
        struct.pack_into("<I", cut, 12, length)
        made = np.zeros_like(CONTENT)
        with pytest.raises(ValueError, match="blosc"):
            # The rest of the payload lies right behind it in memory.
            blosc.decompress(memoryview(cut)[:length], made)


@pytest.mark.parametrize("block_size", [1, 2**31, 2**32 - 1])
def test_more_blocks_than_the_payload_can_place_are_refused(block_size: int) -> None:
    forged = bytearray(payload())
    struct.pack_into("<I", forged, 8, block_size)
    with pytest.raises(ValueError, match="blosc data"):
        blosc.read_header(bytes(forged))


def test_content_beyond_the_limit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="more than 79,999"):
        codecs.decompress("blosc", payload(), CONTENT.nbytes - 1)
