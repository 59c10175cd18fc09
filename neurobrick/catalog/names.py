"""Names as people type them: one name can be written in several sequences of code points."""

from __future__ import annotations

from collections.abc import Iterable

from neurobrick.storage.names import composed


def same_name(name: object, names: Iterable[str]) -> str | None:
    """The member of `names` that equals `name` in composed form; None where there is none."""
    if not isinstance(name, str) or name.isascii():
        return None
    form = composed(name)
    return next((candidate for candidate in names if composed(candidate) == form), None)
