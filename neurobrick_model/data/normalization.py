"""z-scores: behavior in units of its own deviation, as it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]  # mean and deviation


def moments(
    pools: Sequence[NDArray[np.float64]], by_session: bool, settled: Moments | None = None
) -> Moments:
    """Mean and deviation (sessions, d) of the samples (n, d) of each session: its own, or that of
    all together, or what is `settled` (d,) for all. Where there are no samples, 0 and 1; an axis
    that never moves has deviation 1."""
    n = len(pools)
    if settled is not None:
        mean, std = (np.tile(moment, (n, 1)) for moment in settled)
        return mean, std
    if not by_session:
        pools = [np.concatenate(pools)]
    mean = np.stack([pool.mean(0) if len(pool) else np.zeros(pool.shape[1]) for pool in pools])
    std = np.stack([pool.std(0) if len(pool) else np.ones(pool.shape[1]) for pool in pools])
    std[std == 0] = 1
    return (mean, std) if by_session else (mean.repeat(n, axis=0), std.repeat(n, axis=0))


def zscores(
    values: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Of `values` (m, d), by `mean` and `std` (d,); 0 where the source has NaN."""
    scores = np.nan_to_num((values - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
    return scores.astype(np.float32)
