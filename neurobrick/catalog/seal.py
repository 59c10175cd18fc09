"""The seal: a checksum of a whole Parquet file, kept inside the file.

Parquet's own checksums cover the pages but not the footer, where a flipped bit renames a column.
The seal is a value of fixed length in the file's metadata: the crc32c of the file with zeros in
place of the seal. Other readers ignore it, and one request still fetches all that opening needs.
"""

from __future__ import annotations

import google_crc32c

KEY = b"neurobrick.seal"
_MARK = b"crc32c:"
_BLANK = b"00000000"
UNSEALED = _MARK + _BLANK  # the value of KEY in the metadata while the file is written


def sealed(content: bytes) -> bytes:
    """`content` with its seal. It was written with UNSEALED in its metadata."""
    return _with(content, _seal(content))


def is_intact(content: bytes) -> bool:
    """Whether `content` has a seal, and the seal fits."""
    at = content.rfind(_MARK)
    if at < 0:
        return False
    stored = content[at + len(_MARK) : at + len(UNSEALED)]
    return stored == _seal(_with(content, _BLANK))


def _seal(unsealed: bytes) -> bytes:
    return format(google_crc32c.value(unsealed), "08x").encode()


def _with(content: bytes, seal: bytes) -> bytes:
    at = content.rindex(_MARK) + len(_MARK)
    return content[:at] + seal + content[at + len(seal) :]
