"""z-scores: the behavior minus its mean, divided by its standard deviation, as it is trained on.

Values that do not vary, and values that are absurdly far from the others, are found here too: they
have no z-score, or spoil those of all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurobrick import RecipeError

ROUNDING = 1e-9  # share of the largest value; values that differ by less are one value
TYPICAL = 0.99  # quantile of distances from the median that counts as typical
FAR = 1000.0  # times the typical distance

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]  # mean and deviation, (d,) each


def moments(
    pools: Sequence[NDArray[np.float64]], by_session: bool, inherited: Moments | None = None
) -> Moments:
    """Mean and deviation, (sessions, d) each, to normalize each session with.

    `pools` are each session's training samples (n, d). With `by_session`, a session has its own
    mean and deviation; else all have those of all samples together. With `inherited`, all have
    these. Where there are no samples: 0 and 1. The deviation of an axis that does not vary: 1.
    """
    n = len(pools)
    if inherited is not None:
        mean, std = (np.tile(moment, (n, 1)) for moment in inherited)
        return mean, std
    if not by_session:
        pools = [np.concatenate(pools)]
    mean = np.stack([pool.mean(0) if len(pool) else np.zeros(pool.shape[1]) for pool in pools])
    std = np.stack([pool.std(0) if len(pool) else np.ones(pool.shape[1]) for pool in pools])
    std[std <= ROUNDING * np.abs(mean)] = 1
    return (mean, std) if by_session else (mean.repeat(n, axis=0), std.repeat(n, axis=0))


def zscores(
    values: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float32]:
    """`values` (m, d) z-scored with `mean` and `std` (d,): (m, d); 0 where a value is NaN."""
    scores = np.nan_to_num((values - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
    return scores.astype(np.float32)


def varies(values: NDArray[np.float64]) -> bool:
    """Whether `values` (n, d) differ in any axis by more than rounding."""
    return bool(len(values) and np.ptp(values, axis=0).max() > ROUNDING * np.abs(values).max())


def check_varies(values: NDArray[np.float64], session_id: str, target: str, unit: str) -> None:
    """Raises RecipeError when `values` (n, d), the training samples of a session, are all alike:
    then there is nothing to decode, and R² is not defined."""
    if varies(values):
        return
    value = ", ".join(f"{axis:.4g}" for axis in values[0])
    raise RecipeError(
        f"{target!r} of {session_id} does not vary: each of its {len(values):,} training samples "
        f"is {value} {unit}; leave the session out of data.sessions, or set data.target to another "
        "behavior"
    )


def far_samples(values: NDArray[np.float64], session_id: str, target: str, unit: str) -> str | None:
    """A warning about `values` (n, d), finite, that lie absurdly far from the others; None where
    none does.

    A value is far when its distance from the axis's median is more than `FAR` times the typical
    one, the 99 % quantile of the distances that are not 0. Movements are within some ten times of
    it; a sample of 1e30, or one that a device writes where it has none, is far beyond.
    """
    distance = np.abs(values - np.median(values, axis=0))
    far = np.zeros(len(values), dtype=np.bool_)
    for axis in distance.T:
        moved = axis[axis > 0]
        if len(moved):
            far |= axis > FAR * np.quantile(moved, TYPICAL, method="lower")
    if not far.any():
        return None
    largest = values[far].flat[np.abs(values[far]).argmax()]
    return (
        f"warning: {far.sum():,} of {len(values):,} samples of {target!r} of {session_id} are more "
        f"than {FAR:,.0f} times as far from the median as 99 % of them, up to {largest:.4g} "
        f"{unit}: they dominate normalization, loss and R²; mend them in the file, or leave them "
        "out with data.splits"
    )
