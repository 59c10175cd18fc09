"""A record of everything that harmonizing repairs, doubts or leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field

from neurobrick.schema import Left


@dataclass(frozen=True)
class Ledger:
    """Notes and left objects of one session; both end up in its metadata."""

    notes: list[str] = field(default_factory=list)  # repairs, dropped values, doubts
    left: list[Left] = field(default_factory=list)  # objects of the file that are not kept

    def note(self, text: str) -> None:
        """Add a note."""
        self.notes.append(text)

    def leave(self, path: str, reason: str) -> None:
        """Record that the object at `path` is not kept, and why."""
        self.left.append(Left(path=path, reason=reason))
