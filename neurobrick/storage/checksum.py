"""The checksum of a file, as manifests list it: a crc32c, which tools for crc32c verify."""

from __future__ import annotations

import google_crc32c

# The crc32c of any bytes that are followed by their own crc32c: the residue of a cyclic code.
RESIDUE = 0x48674BC7
CRC_BYTES = 4


def checksum(content: bytes) -> int:
    """The crc32c of `content`; of a chunk, without its last four bytes, which are that crc32c.

    A chunk of a store ends with the crc32c of its other bytes. A crc32c of the whole is the same
    number for every chunk, so it would not tell one chunk from another.
    """
    whole = int(google_crc32c.value(content))
    return int.from_bytes(content[-CRC_BYTES:], "little") if whole == RESIDUE else whole


def checksum_of_format_2(content: bytes) -> int:
    """The crc32c of the last four bytes of `content`, followed by the others."""
    head = google_crc32c.value(content[-CRC_BYTES:])
    return int(google_crc32c.extend(head, content[:-CRC_BYTES]))


def matches(content: bytes, crc: int) -> bool:
    """Whether `content` has the checksum `crc`, of either format."""
    return checksum(content) == crc or checksum_of_format_2(content) == crc
