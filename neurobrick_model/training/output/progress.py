"""Where a run stands."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Progress:
    """Where a run stands; what a checkpoint keeps beside weights and optimizers."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
