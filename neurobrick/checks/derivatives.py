"""Whether velocities are the derivatives of the positions that they are named after.

A velocity in cm/s that is labelled m/s keeps every promise of the format, so nothing else finds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurobrick.checks.finding import Finding, Level
from neurobrick.schema import Series

FloatArray = NDArray[np.float64]

GAP = 3.0  # times the median step of a series; a longer step is a gap in the recording
LAG = 0.05  # s over which displacements are compared with velocities
FEWEST_WINDOWS = 50


@dataclass(frozen=True)
class Agreement:
    """How well a velocity agrees with the derivative of a position."""

    correlation: float  # of the worst column
    factor: FloatArray  # (d,) velocity / derivative of the position; negative if the sign is turned


def derivative(position: Series, velocity: Series) -> Agreement | None:
    """Compare displacements over 50 ms (at least four samples) with the velocity's integral.

    Uses windows in which neither series has a gap or a NaN. The one window in a hundred with the
    largest displacement or integral is not used: a cursor that is put back between trials jumps.
    The factor is the ratio of standard deviations (reduced major axis), which noise in either
    series biases least.

    None if there are fewer than 50 such windows, or nothing moves.
    """
    fast, slow = _Track(velocity), _Track(position)
    lag = max(LAG, 4 * fast.step, 4 * slow.step)
    n = max(1, round(lag / fast.step)) if fast.step else 1
    start = np.arange(0, len(fast.times) - n, n)
    stop = start + n
    t0, t1 = fast.times[start], fast.times[stop]
    whole = fast.whole(t0, t1) & slow.whole(t0, t1)
    if whole.sum() < FEWEST_WINDOWS:
        return None
    t0, t1 = t0[whole], t1[whole]
    integral = fast.integral()
    correlations, factors = [], []
    for k in range(velocity.values.shape[1]):
        displacement = np.interp(t1, slow.times, slow.values[:, k])
        displacement -= np.interp(t0, slow.times, slow.values[:, k])
        integrated = integral[stop[whole], k] - integral[start[whole], k]
        usual = np.abs(displacement) <= np.quantile(np.abs(displacement), 0.99)
        usual &= np.abs(integrated) <= np.quantile(np.abs(integrated), 0.99)
        displacement, integrated = displacement[usual], integrated[usual]
        if not (np.ptp(displacement) > 0 and np.ptp(integrated) > 0):
            continue
        r = float(np.corrcoef(displacement, integrated)[0, 1])
        correlations.append(r)
        factors.append(np.sign(r) * np.std(integrated) / np.std(displacement))
    if not correlations:
        return None
    worst = min(correlations, key=abs)
    return Agreement(worst, np.array(factors))


def derivatives(behavior: Mapping[str, Series]) -> list[Finding]:
    """Compares each velocity with the position, and each acceleration with the velocity, of its
    name.

    They agree if r > 0.9 and the factor is within 10 % of 1. A factor of 2 or more contradicts the
    unit of one of them. It is an error if both are SI.
    """
    findings = []
    for integral, name in pairs(behavior):
        agreement = derivative(behavior[integral], behavior[name])
        if agreement is None:
            continue
        r, ratio = agreement.correlation, float(np.median(np.abs(agreement.factor)))
        factor = f"{float(f'{ratio:.2g}'):g}"
        level: Level = "warning"
        if abs(r) <= 0.9:
            text = f"it does not follow {integral}: r {r:.2f} with its derivative"
        elif np.any(agreement.factor < 0):
            text = f"it is the derivative of {integral} with the sign turned (r {r:.3f})"
        elif np.all(np.abs(agreement.factor - 1) <= 0.1):
            level = "info"
            text = f"it is the derivative of {integral} (r {r:.3f}, factor {factor})"
        elif not _commensurable(behavior[integral].unit, behavior[name].unit):
            units = f"{behavior[name].unit!r} and {behavior[integral].unit!r}"
            level, text = "info", f"it is {factor} times the derivative of {integral}, in {units}"
        else:
            level = "warning" if 0.5 < ratio < 2 else "error"
            text = f"it is {factor} times the derivative of {integral} (r {r:.3f}):"
            text += " the unit of one of them is wrong"
        findings.append(Finding(level, name, text))
    return findings


_ORDERS = {
    **dict.fromkeys(("pos", "position", "positions", "ang", "angle", "angles", "len", "length"), 0),
    **dict.fromkeys(("vel", "velocity", "velocities"), 1),
    **dict.fromkeys(("acc", "acceleration", "accelerations"), 2),
}


def pairs(behavior: Mapping[str, Series]) -> list[tuple[str, str]]:
    """Names of (position, velocity) and (velocity, acceleration) with equally many columns.

    The two names differ in one word only: `hand_pos` and `hand_vel`, `Position.Cursor` and
    `Velocity.Cursor`, `WheelPosition` and `WheelVelocity`.
    """
    by_stem: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for name in behavior:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
        folded = [word.casefold() for word in words]
        orders = {_ORDERS[word] for word in folded if word in _ORDERS}
        if len(orders) == 1:
            stem = tuple("" if word in _ORDERS else word for word in folded)
            by_stem.setdefault((stem, orders.pop()), []).append(name)
    matches = []
    for (stem, order), names in by_stem.items():
        integrals = by_stem.get((stem, order - 1), [])
        if len(integrals) == len(names) == 1:  # of two positions, either may be meant
            pair = integrals[0], names[0]
            if behavior[pair[0]].values.shape[1] == behavior[pair[1]].values.shape[1]:
                matches.append(pair)
    return matches


class _Track:
    """A series without repeated timestamps, and where it has no gap."""

    def __init__(self, series: Series) -> None:
        kept = np.append(True, np.diff(series.timestamps) > 0)[: len(series.timestamps)]
        self.times = series.timestamps[kept]
        self.values = series.values[kept].astype(np.float64)
        steps = np.diff(self.times)
        self.step = float(np.median(steps)) if len(steps) else 0.0
        self._finite = np.isfinite(self.values).all(axis=1)
        if series.unit == "rad":  # an angle that passes 2π has not jumped
            self.values[self._finite] = np.unwrap(self.values[self._finite], axis=0)
        bad = (steps > GAP * self.step) | ~self._finite[1:] | ~self._finite[:-1]
        self._bad_before = np.concatenate([[0], np.cumsum(bad)])

    def whole(self, t0: FloatArray, t1: FloatArray) -> NDArray[np.bool_]:
        """Which windows [t0, t1] (n,) are covered without a gap or a NaN: (n,)."""
        if len(self.times) < 2:
            return np.zeros(len(t0), bool)
        first = np.searchsorted(self.times, t0, side="right") - 1
        last = np.searchsorted(self.times, t1, side="left")
        inside = (first >= 0) & (last < len(self.times))
        last = np.minimum(last, len(self.times) - 1)
        return inside & (self._bad_before[last] == self._bad_before[np.maximum(first, 0)])

    def integral(self) -> FloatArray:
        """The integral of the values over time, (n, d): trapezoidal rule, NaN counts as 0."""
        values = np.where(self._finite[:, None], self.values, 0.0)
        steps = np.diff(self.times)[:, None] * (values[1:] + values[:-1]) / 2
        return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])


def _commensurable(unit: str, per_second: str) -> bool:
    """Whether `per_second` is the SI unit of the derivative of a series in `unit`."""
    return per_second == (unit[:-2] + "/s^2" if unit.endswith("/s") else f"{unit}/s")
