"""A finding: one thing to know about a session or a dataset, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = get_args(Level)  # worst first


@dataclass(frozen=True)
class Finding:
    """One thing to know about a session or a dataset.

    An *error* contradicts the rest of the data, or what is known. A *warning* is odd, but may be
    true. An *info* is worth knowing.
    """

    level: Level
    subject: str  # a behavior, units, trials, a dataset, …
    text: str  # one line
