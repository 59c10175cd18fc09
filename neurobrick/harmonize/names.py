"""Names for objects of a file: the last part of a path, or as much of it as tells two apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from neurobrick.errors import HarmonizeError


def distinct_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path; where two share one, the shortest tails that differ, dotted.

    Raises HarmonizeError when two paths come out the same all the same.
    """
    names = []
    for path in paths:
        parts = path.split("/")
        length = 1
        while length < len(parts) and _sharing(paths, parts[-length:]) > 1:
            length += 1
        names.append(".".join(parts[-length:]))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise HarmonizeError(f"two objects of the file are called {twice[0]!r}")
    return names


def _sharing(paths: Iterable[str], tail: list[str]) -> int:
    return sum(path.split("/")[-len(tail) :] == tail for path in paths)
