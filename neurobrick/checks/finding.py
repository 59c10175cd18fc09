"""A finding: one thing to know about a session or a dataset, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = get_args(Level)  # worst first


@dataclass(frozen=True)
class Finding:
    """Something to know about `subject`: a behavior's name, `units`, `trials`, a dataset, …

    An *error* contradicts itself or what is known; a *warning* is odd, and may be so in truth; an
    *info* is worth knowing.
    """

    level: Level
    subject: str
    text: str
