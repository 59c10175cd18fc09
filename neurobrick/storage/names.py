"""Names of files and sessions: relative paths with slashes, in one form of Unicode."""

from __future__ import annotations

import unicodedata

from neurobrick.errors import StoreError


def check_name(name: str, url: str) -> None:
    """Raise StoreError unless `name` is relative and cannot lead out of `url`."""
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name:
        raise StoreError(f"{name!r} is no name of a file in {url}: it must be relative, as a/b/c")


def composed(name: str) -> str:
    """`name` in Unicode's composed form (NFC): `e` followed by a combining diaeresis becomes `ë`.

    macOS gives file names in decomposed form; a keyboard types the composed one.
    """
    return unicodedata.normalize("NFC", name)
