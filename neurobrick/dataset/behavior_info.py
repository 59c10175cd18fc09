"""A behavior's shape, rate, unit and columns, without its samples."""

from __future__ import annotations

from dataclasses import dataclass

from neurobrick.intervals import Intervals


@dataclass(frozen=True)
class BehaviorInfo:
    """What is known of a behavior before its samples are read."""

    name: str
    shape: tuple[int, ...]  # (n, d): samples, columns
    rate: float | None  # Hz; None for an irregular series
    segments: Intervals  # gap-free stretches; none for an irregular series
    unit: str  # of the values: SI, where the file's unit is known
    source: str  # path of the series in the source file
    source_unit: str  # the unit that the file states
    columns: tuple[str, ...]  # the file's names of the columns; empty if it has none
    description: str

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each column of the values (d,): the file's names, or else `0`, `1`, …"""
        return self.columns or tuple(str(k) for k in range(self.shape[1]))
