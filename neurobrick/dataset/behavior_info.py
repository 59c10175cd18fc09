"""What is known of a behavior before any of it is read."""

from __future__ import annotations

from dataclasses import dataclass

from neurobrick.intervals import Intervals


@dataclass(frozen=True)
class BehaviorInfo:
    """What a behavior is, without reading it.

    `rate` in Hz, or None if it is irregular; `segments` are its gap-free stretches (an irregular
    series has none); `unit` is what its values are in, `source_unit` what the file said.
    """

    name: str
    shape: tuple[int, ...]
    rate: float | None
    segments: Intervals
    unit: str
    source: str
    source_unit: str
    columns: tuple[str, ...]
    description: str

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every column of the values: the file's, or their numbers."""
        return self.columns or tuple(str(k) for k in range(self.shape[1]))
