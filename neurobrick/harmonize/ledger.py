"""What is noted and left on the way from a file to a session: nothing is lost without a word."""

from __future__ import annotations

from dataclasses import dataclass, field

from neurobrick.schema import Left


@dataclass(frozen=True)
class Ledger:
    """Notes of what was repaired, dropped or doubtful, and the objects that were left."""

    notes: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def leave(self, path: str, reason: str) -> None:
        self.left.append(Left(path=path, reason=reason))
