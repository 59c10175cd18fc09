"""Sessions chosen by globs on their ids: one dialect wherever sessions are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from neurobrick.errors import FilterError, listed
from neurobrick.storage.names import composed

MOST_SHOWN = 5  # ids in a message


def matching(
    ids: Sequence[str], globs: str | Iterable[str], *, may_be_none: bool = False
) -> list[str]:
    """The `ids` that match any of `globs`, in the order of `ids`.

    `*` matches any characters, also `/`; `?` matches one character; `[ab]` matches `a` or `b`.
    Upper and lower case differ. Different Unicode forms of a name do not: `ë` matches `e` with a
    combining diaeresis.

    Raises FilterError for a glob that matches no id, unless `may_be_none`.
    """
    globs = [globs] if isinstance(globs, str) else list(globs)
    names = {id: composed(id) for id in ids}
    kept: set[str] = set()
    for glob in globs:
        matches = {id for id, name in names.items() if fnmatchcase(name, composed(glob))}
        if not matches and not may_be_none:
            raise FilterError(
                f"no session matches {glob!r}; there is: {listed(ids, most=MOST_SHOWN)}"
            )
        kept |= matches
    return [id for id in ids if id in kept]
