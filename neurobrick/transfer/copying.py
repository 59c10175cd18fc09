"""What is said of a copy, and which sessions are wanted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from neurobrick.catalog import Catalog
from neurobrick.errors import StoreError
from neurobrick.store import Index
from neurobrick.store.inventory import Inventory, Mismatch

AT_ONCE = 32  # files on their way

Status = Literal["copied", "unchanged", "failed"]


@dataclass(frozen=True)
class Copy:
    """What became of one session: `files`, and `size` in bytes, are what was copied now."""

    session_id: str
    status: Status
    files: int = 0
    size: int = 0
    reason: str = ""

    @classmethod
    def of(cls, session_id: str, sizes: Sequence[int]) -> Copy:
        """A session that was copied; `sizes` of its files, 0 for those that were there."""
        moved = [size for size in sizes if size]
        return cls(session_id, "copied", len(moved), sum(moved))


@dataclass(frozen=True)
class Watch:
    """Who is told what while a copy goes on; called from many threads."""

    planned: Callable[[int], None] = field(default=lambda n_bytes: None)
    moved: Callable[[int], None] = field(default=lambda n_bytes: None)
    finished: Callable[[Copy], None] = field(default=lambda copy: None)


def chosen(corpus: Catalog, globs: Sequence[str]) -> list[str]:
    """The sessions that match any of `globs`; all without one.

    Raises StoreError for a glob that matches none.
    """
    ids = corpus.sessions["session"].to_pylist()
    for glob in globs:
        if not fnmatch.filter(ids, glob):
            raise StoreError(
                f"{corpus.storage.url} has no session that matches {glob!r}; neurobrick list"
                f" --root {corpus.storage.url} names those it has"
            )
    return [i for i in ids if not globs or any(fnmatch.fnmatchcase(i, glob) for glob in globs)]


def size_of(index: Index) -> int:
    """Bytes of all files of a store."""
    return index.inventory.size + len(index.manifest)


def is_file_of(inventory: Inventory, name: str, content: bytes) -> bool:
    """Whether `content` is that of the file `name`."""
    try:
        inventory.check(name, content)
    except Mismatch:
        return False
    return True
