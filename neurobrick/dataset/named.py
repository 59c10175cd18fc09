"""Mappings by name, whose KeyError lists the names that there are.

A name in another Unicode form is found, too; see `neurobrick.catalog.names`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from neurobrick.catalog.names import same_name
from neurobrick.errors import listed

T = TypeVar("T")


def resolved(name: str, names: Collection[str], owner: str, kind: str) -> str:
    """The one of `names` that `name` means.

    Raises KeyError where there is none: `a/b has no behavior 'x'; there is: y, z`, where `owner` is
    `a/b` and `kind` is `behavior`.
    """
    if name in names:
        return name
    same = same_name(name, names)
    if same is None:
        raise KeyError(f"{owner} has no {kind} {name!r}; there is: {listed(names)}")
    return same


class LazyNamed(Mapping[str, T]):
    """`names`, and values that `make` computes at each access. `owner` and `kind` are for the
    message of a KeyError; see `resolved`."""

    def __init__(
        self, names: Collection[str], make: Callable[[str], T], owner: str, kind: str
    ) -> None:
        self._names = names
        self._make = make
        self._owner = owner
        self._kind = kind

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            name = resolved(name, self._names, self._owner, self._kind)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names or same_name(name, self._names) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{{{', '.join(self._names)}}}"


class Named(LazyNamed[T]):
    """`values` by name."""

    def __init__(self, values: Mapping[str, T], owner: str, kind: str) -> None:
        super().__init__(values, values.__getitem__, owner, kind)

    def __repr__(self) -> str:
        return repr(self._names)
