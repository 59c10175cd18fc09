"""Names for objects of a file: the last part of the path, or more where that is not unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from neurobrick.errors import HarmonizeError


def distinct_names(paths: Sequence[str]) -> list[str]:
    """One name for each path: its last part; if several paths share that, as many more parts as
    make it unique, joined by dots.

    Raises HarmonizeError when two names are equal all the same.
    """
    names = []
    for path in paths:
        parts = path.split("/")
        length = 1
        while length < len(parts) and _number_ending_in(parts[-length:], paths) > 1:
            length += 1
        names.append(".".join(parts[-length:]))
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise HarmonizeError(f"two objects of the file are called {repeated[0]!r}")
    return names


def unused_name(name: str, used: Collection[str]) -> str:
    """The first of `name_in_file`, `name_in_file_2`, … that is not in `used`."""
    new, number = f"{name}_in_file", 2
    while new in used:
        new, number = f"{name}_in_file_{number}", number + 1
    return new


def _number_ending_in(tail: list[str], paths: Iterable[str]) -> int:
    return sum(path.split("/")[-len(tail) :] == tail for path in paths)
