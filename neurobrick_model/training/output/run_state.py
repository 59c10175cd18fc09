"""How far a run is."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class RunState:
    """How far a run is. A checkpoint keeps it beside the weights and the optimizers."""

    step: int = 0  # steps taken
    best: float = -math.inf  # the best validation R²
    best_step: int = 0  # the step of that validation
    seconds: float = 0.0  # spent on training, over all resumes
