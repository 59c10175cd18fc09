"""The checksum of a file, as manifests list it."""

from __future__ import annotations

import google_crc32c

TAIL = 4  # bytes of a crc32c


def checksum(content: bytes) -> int:
    """The crc32c of the last four bytes of `content` followed by the others.

    A chunk of a store ends with the crc32c of its other bytes. A crc32c over both, in their order,
    is the same number for every chunk there is (the residue of a cyclic code), and would take any
    chunk for any other of its size.
    """
    head = google_crc32c.value(content[-TAIL:])
    return int(google_crc32c.extend(head, content[:-TAIL]))
