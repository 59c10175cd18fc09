"""Sessions chosen by globs on their ids: one dialect wherever sessions are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from neurobrick.errors import FilterError, listed

MOST_SHOWN = 5  # ids in a message


def matching(ids: Sequence[str], globs: Iterable[str]) -> list[str]:
    """Those of `ids` that match any of `globs`, in the order of `ids`.

    `*` matches any characters, `/` too, `?` any one, `[ab]` one of these; case counts.

    Raises FilterError for a glob that matches none.
    """
    globs = list(globs)
    for glob in globs:
        if not any(fnmatchcase(id, glob) for id in ids):
            raise FilterError(
                f"no session matches {glob!r}; there is: {listed(ids, most=MOST_SHOWN)}"
            )
    return [id for id in ids if any(fnmatchcase(id, glob) for glob in globs)]
