"""When a behavior was sampled: its rate, its gaps, and its change over time.

Timestamps (n,) are in seconds, sorted. They may repeat: files that repeat them are prepared as they
are. So intervals between samples are those between different times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

GAP = 1.5  # sampling intervals; a longer one is a gap
RATE_TOLERANCE = 1e-3  # share by which a clock's rate may exceed the nominal one


def sampling_interval(times: FloatArray) -> float:
    """The median interval between different `times`, s, which gaps do not move; 0 when there are
    fewer than two."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 0.0


def sampling_rate(times: FloatArray) -> float:
    """Samples a second, Hz, rounded to six digits, as timestamps are rounded; 0 when there are
    fewer than two different times."""
    interval = sampling_interval(times)
    if not interval:
        return 0.0
    per_time = len(times) / (1 + np.count_nonzero(np.diff(times)))  # 1 where no time repeats
    return float(f"{per_time / interval:.6g}")


def decimation(times: FloatArray, rate: float) -> int:
    """The stride that leaves at most `rate` samples a second, Hz."""
    return max(1, int(np.ceil(sampling_rate(times) / rate - RATE_TOLERANCE)))


def derivative(times: FloatArray, values: FloatArray) -> FloatArray:
    """The change a second of `values` (n, d) at `times` (n,): (n, d).

    Central differences; one-sided at the edges of a stretch without gaps; NaN for a stretch of one
    time. Of samples that share a time, the mean is taken.
    """
    distinct, first, row, count = np.unique(
        times, return_index=True, return_inverse=True, return_counts=True
    )
    if len(distinct) < len(times):
        means = np.add.reduceat(values, first, axis=0) / count[:, None]
        return derivative(distinct, means)[row]
    edges = np.flatnonzero(np.diff(times) * sampling_rate(times) > GAP) + 1
    change = np.full_like(values, np.nan)
    for stretch in np.split(np.arange(len(times)), edges):
        if len(stretch) > 1:
            change[stretch] = np.gradient(values[stretch], times[stretch], axis=0)
    return change


def interpolated(times: FloatArray, stamps: FloatArray, values: FloatArray) -> FloatArray:
    """`values` (n, d) at `stamps` (n,), interpolated linearly at `times` (m,): (m, d).

    NaN in gaps, and before the first and after the last stamp.
    """
    if len(stamps) < 2:
        return np.full((len(times), values.shape[1]), np.nan)
    result = np.stack([np.interp(times, stamps, axis, np.nan, np.nan) for axis in values.T], axis=1)
    after = np.searchsorted(stamps, times).clip(1, len(stamps) - 1)
    in_gap = stamps[after] - stamps[after - 1] > GAP * sampling_interval(stamps)
    at_stamp = (stamps[after] == times) | (stamps[after - 1] == times)
    result[in_gap & ~at_stamp] = np.nan
    return result
