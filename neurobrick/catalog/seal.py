"""A checksum within a Parquet file, of all of it.

Parquet's own checksums cover the pages, not the footer, where a flipped bit renames a column. The
seal is a value in the file's metadata, of fixed length: the crc32c of the file with zeros in the
seal's place. Other readers pass over it, and one request still brings all that opening needs.
"""

from __future__ import annotations

import google_crc32c

KEY = b"neurobrick.seal"
_MARK = b"crc32c:"
_BLANK = b"00000000"
UNSEALED = _MARK + _BLANK  # what the metadata hold under KEY while the file is written


def sealed(content: bytes) -> bytes:
    """`content`, a file that was written with UNSEALED in its metadata, with its seal."""
    return _with(content, _seal(content))


def is_intact(content: bytes) -> bool:
    """Whether a file is what `sealed` made."""
    at = content.rfind(_MARK)
    if at < 0:
        return False
    found = content[at + len(_MARK) : at + len(UNSEALED)]
    return found == _seal(_with(content, _BLANK))


def _seal(unsealed: bytes) -> bytes:
    return format(google_crc32c.value(unsealed), "08x").encode()


def _with(content: bytes, seal: bytes) -> bytes:
    at = content.rindex(_MARK) + len(_MARK)
    return content[:at] + seal + content[at + len(seal) :]
