"""What a run tells while it trains."""

from __future__ import annotations

from neurobrick_model.training.throughput import Reading


class Watch:
    """Told how training goes; this one says nothing."""

    def say(self, line: str) -> None:
        """A line worth reading."""

    def step(self, step: int, loss: float, reading: Reading) -> None:
        """`step` steps are done."""
