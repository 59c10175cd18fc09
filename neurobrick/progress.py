"""Progress: how long work tells how far it is. One interface for all of it."""

from __future__ import annotations


class Progress:
    """Told how far work is; this one says nothing. Derive from it to show or record progress.

    A stage is a word for what is counted: `fetching` and `copying` count bytes, `preparing` counts
    sessions, `training` counts steps. Methods are called from any thread.
    """

    def total(self, stage: str, amount: int) -> None:
        """A stage has `amount` to do."""

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        """A stage has done `amount` more; `state` is a few words on how it goes."""

    def finished(self, item: object) -> None:
        """One item is done: the `Outcome` of a session that was prepared, the `Copy` of a session
        that was pushed or pulled."""

    def say(self, line: str) -> None:
        """A line worth reading: a notice or a warning."""
