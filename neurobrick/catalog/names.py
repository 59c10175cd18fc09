"""Names as people type them: one name can be written in several sequences of code points."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """`name` in Unicode's composed form (NFC): `e` followed by a combining diaeresis becomes `ë`.

    macOS gives file names in decomposed form; a keyboard types the composed one.
    """
    return unicodedata.normalize("NFC", name)


def same_name(name: object, names: Iterable[str]) -> str | None:
    """The member of `names` that equals `name` in composed form; None where there is none."""
    if not isinstance(name, str) or name.isascii():
        return None
    form = composed(name)
    return next((candidate for candidate in names if composed(candidate) == form), None)
