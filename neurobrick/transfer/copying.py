"""What push and pull share: the outcome of a session, and small questions about its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neurobrick.catalog import Catalog
from neurobrick.catalog.globs import matching
from neurobrick.store import Index
from neurobrick.store.inventory import Inventory, Mismatch

AT_ONCE = 32  # files that are copied at a time
STAGE = "copying"  # for Progress; it counts bytes

Status = Literal["copied", "unchanged", "failed"]


@dataclass(frozen=True)
class Copy:
    """The outcome of one session."""

    session_id: str
    status: Status
    files: int = 0  # copied now
    size: int = 0  # bytes copied now
    reason: str = ""  # of a failure

    @classmethod
    def of(cls, session_id: str, sizes: Sequence[int]) -> Copy:
        """A session that was copied; `sizes` in bytes, 0 for a file that was there already."""
        copied = [size for size in sizes if size]
        return cls(session_id, "copied", len(copied), sum(copied))


def chosen(corpus: Catalog, globs: Sequence[str]) -> list[str]:
    """The ids of the sessions that match any of `globs`; of all sessions if there are no globs.

    Raises FilterError for a glob that matches none.
    """
    ids = corpus.sessions["session"].to_pylist()
    return matching(ids, globs) if globs else ids


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
