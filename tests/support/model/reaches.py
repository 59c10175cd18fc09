"""Simulated reaches, decoded with errors: what scores and their intervals are tested on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def reaches(
    random: np.random.Generator,
    trials: int,
    samples: int = 10,
    *,
    rest: float = 0.0,
    spread: float = 0.0,
    missed: float = 0.3,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Recorded and decoded velocities (n, 2) of reaches, and the trial (n,) of each sample.

    The decoder errs by `missed` on each reach as a whole, and a little on each sample. In a share
    `rest` of the trials nothing moves but for jitter, while the decoder errs as usual. The size of
    reaches is log-normal, with `spread` as the deviation of its logarithm.
    """
    angle = random.uniform(0, 2 * np.pi, (trials, 1, 1))
    profile = np.sin(np.pi * np.linspace(0, 1, samples))[:, None]
    truth = profile * np.concatenate([np.cos(angle), np.sin(angle)], axis=2)
    error = missed * profile * random.standard_normal((trials, 1, 2))
    noise = 0.1 * random.standard_normal(truth.shape)
    if rest or spread:
        size = np.exp(spread * random.standard_normal(trials)) * (random.random(trials) >= rest)
        truth = truth * size[:, None, None] + 0.01 * random.standard_normal(truth.shape)
    guess = 0.9 * truth + error + noise
    return truth.reshape(-1, 2), guess.reshape(-1, 2), np.repeat(np.arange(trials), samples)
