"""Whether arrays can be what they say they are: spikes of neurons, positions and their velocities.

Pure functions of arrays, each with the source of its threshold. They find what a schema cannot: a
velocity in cm/s that is labelled m/s keeps every promise of the format.
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

REFRACTORY = 0.0015  # s; as in Siegle et al. 2021, Nature 592, 86–92
MULTI_UNIT = 0.02  # share of intervals within it, above which a unit is hardly one neuron
FEWEST_INTERVALS = 100  # of a unit, for a share of 2 % to be more than two of them
HIGHEST_RATE = 500.0  # Hz
FEWEST_SHARED = 20  # spikes that two units must have for one to be called the other's copy
FROZEN = 60.0  # s, and a twentieth of the series, after which standing still is odd
GAP = 3.0  # times the median step of a series: further apart, nothing was recorded between
LAG = 0.05  # s over which displacements are compared with velocities
FEWEST_WINDOWS = 50


def firing_rates(units: NDArray[np.integer], n_units: int, duration: float) -> list[Finding]:
    """Units that fire above 500 Hz on average, and those that are silent.

    `units` (n,) are the rows that spikes belong to, `duration` the recorded time in s. A mean of
    500 Hz leaves 2 ms to every spike and no pause in a whole session; fast-spiking cortical
    interneurons reach such rates for moments only (McCormick et al. 1985, J Neurophysiol 54,
    782–806).
    """
    if not duration > 0:
        return [Finding("error", "units", "nothing was recorded: the domain is empty")]
    rates = np.bincount(units, minlength=n_units) / duration
    found = []
    if len(fast := np.flatnonzero(rates > HIGHEST_RATE)):
        text = f"{_named(fast)} fire above {HIGHEST_RATE:g} Hz on average, up to"
        text += f" {rates.max():.0f} Hz: noise, several neurons, or times not in seconds"
        found.append(Finding("warning", "units", text))
    if len(silent := np.flatnonzero(rates == 0)):
        level: Level = "warning" if 2 * len(silent) > n_units else "info"
        found.append(Finding(level, "units", f"{_named(silent)} of {n_units} never fire"))
    return found


def violations(
    times: FloatArray, units: NDArray[np.integer], n_units: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """For every unit (n_units,), the share of its interspike intervals shorter than 1.5 ms, and
    how many intervals it has; the share is NaN where it has none.

    `times` (n,) s, sorted, of the spikes of rows `units` (n,). A neuron cannot fire again within
    its refractory period, so these intervals count spikes of others (Hill, Mehta & Kleinfeld 2011,
    J Neurosci 31, 8699–8705). Spikes stamped alike are doubled rather than fast, and not counted.
    """
    order = np.argsort(units, kind="stable")
    sorted_units = units[order]
    steps = np.diff(times[order])
    own = (sorted_units[1:] == sorted_units[:-1]) & (steps > 0)
    owner = sorted_units[1:][own]
    counts = np.bincount(owner, minlength=n_units)
    short = np.bincount(owner[steps[own] < REFRACTORY], minlength=n_units)
    share = np.full(n_units, np.nan)
    np.divide(short, counts, out=share, where=counts > 0)
    return share, counts


def refractory(times: FloatArray, units: NDArray[np.integer], n_units: int) -> list[Finding]:
    """The units of which more than 2 % of the intervals are `violations`, and the median of all.

    Both are facts of how spikes were sorted, and no fault: threshold crossings are multi-units.
    """
    share, counts = violations(times, units, n_units)
    judged = counts >= FEWEST_INTERVALS
    if not judged.any():
        return []
    multi = int(np.sum(judged & (share > MULTI_UNIT)))
    text = (
        f"{multi or 'none'} of {int(judged.sum())} have more than {MULTI_UNIT:.0%} of their"
        f" intervals below {REFRACTORY * 1e3:g} ms, as multi-units do; the median is"
        f" {float(np.median(share[judged])):.2%}"
    )
    return [Finding("info", "units", text)]


def duplicates(times: FloatArray, units: NDArray[np.integer], n_units: int) -> list[Finding]:
    """Spikes that a unit has twice, and units that share more than half of their spikes.

    `times` (n,) s, sorted, of the spikes of rows `units` (n,). One neuron sorted twice, or one
    table stacked twice, is the usual cause.
    """
    twice = 0
    shared: dict[tuple[int, int], int] = {}
    counts = np.bincount(units, minlength=n_units)
    first = np.flatnonzero(np.diff(times) == 0)
    lag = 1
    while len(first) and lag <= 8:  # more spikes at one instant are an artifact of all channels
        a, b = units[first].astype(np.int64), units[first + lag].astype(np.int64)
        twice += int(np.sum(a == b))
        low, high = np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]
        pairs, n = np.unique(low * n_units + high, return_counts=True)
        for pair, count in zip(pairs.tolist(), n.tolist(), strict=True):
            key = divmod(pair, n_units)
            shared[key] = shared.get(key, 0) + count
        lag += 1
        first = first[first + lag < len(times)]
        first = first[times[first + lag] == times[first]]
    found = []
    if twice:
        level: Level = "warning" if twice > 0.001 * len(times) else "info"
        found.append(Finding(level, "units", f"spikes that a unit has twice: {twice:,}"))
    for (a_row, b_row), count in shared.items():
        fewest = int(min(counts[a_row], counts[b_row]))
        if fewest >= FEWEST_SHARED and count > 0.5 * fewest:
            text = f"{a_row} and {b_row} share {count:,} of {fewest:,} spikes: one neuron twice?"
            found.append(Finding("warning", "units", text))
    return found


def samples(name: str, series: Series, *, is_target: bool) -> list[Finding]:
    """Columns that never change or are mostly missing, long standstill, an uneven clock.

    `is_target`: whether decoders read it, which makes a dead column a warning.
    """
    found = []
    values, labels = series.values, series.columns or tuple(map(str, range(series.values.shape[1])))
    if not len(values):
        return [Finding("warning", name, "it has no samples")]
    missing = np.isnan(values).mean(axis=0)
    level: Level
    dead = [
        label
        for k, label in enumerate(labels)
        if missing[k] < 1 and np.nanmin(values[:, k]) == np.nanmax(values[:, k])
    ]
    if dead:
        level = "warning" if is_target else "info"
        found.append(Finding(level, name, f"column {', '.join(dead)} never changes"))
    start, stop = still(series)
    if stop - start > max(FROZEN, 0.05 * np.ptp(series.timestamps)) and len(dead) < len(labels):
        text = f"not one column changes from {start:.1f} to {stop:.1f} s: was it recorded then?"
        found.append(Finding("warning" if is_target else "info", name, text))
    if (most := float(missing.max())) > 0:
        level = "warning" if most > 0.5 else "info"
        found.append(Finding(level, name, f"{most:.1%} of its samples are missing (NaN)"))
    steps = np.diff(series.timestamps)
    if equal := int(np.sum(steps == 0)):
        found.append(Finding("info", name, f"samples with the time of the one before: {equal:,}"))
    steps = steps[steps > 0]
    if len(steps) > 1:
        low, middle, high = np.percentile(steps, (5, 50, 95)).tolist()
        if high - low > 0.1 * middle:
            text = f"its clock is uneven: steps of {_ms(middle)}, nine in ten between"
            found.append(Finding("info", name, f"{text} {_ms(low)} and {_ms(high)}"))
    return found


def still(series: Series) -> tuple[float, float]:
    """The longest time, (start, stop) in s, in which no column of `series` (n > 0 samples) changes.

    A tracker that has lost its light goes on reporting where it was last.
    """
    moves = np.flatnonzero(np.any(series.values[1:] != series.values[:-1], axis=1)) + 1
    first = np.concatenate([[0], moves])
    last = np.concatenate([moves, [len(series.values)]]) - 1
    start, stop = series.timestamps[first], series.timestamps[last]
    longest = int(np.argmax(stop - start))
    return float(start[longest]), float(stop[longest])


@dataclass(frozen=True)
class Agreement:
    """How a velocity follows the position it is named after, over all columns.

    `correlation` is the worst column's, `factor` the velocity over the position's derivative,
    (d,), negative where the sign is turned.
    """

    correlation: float
    factor: FloatArray


def derivative(position: Series, velocity: Series) -> Agreement | None:
    """Compare displacements over 50 ms (at least four samples) with the velocity's integral.

    Windows are taken where neither has a gap or a NaN, and the one in a hundred with the largest
    displacement or integral is left out: a cursor that is put back between trials jumps. The
    factor is the ratio of standard deviations (reduced major axis), which noise in either biases
    least. None where fewer than 50 windows are left or nothing moves.
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
        moved = np.interp(t1, slow.times, slow.values[:, k])
        moved -= np.interp(t0, slow.times, slow.values[:, k])
        meant = integral[stop[whole], k] - integral[start[whole], k]
        usual = np.abs(moved) <= np.quantile(np.abs(moved), 0.99)
        usual &= np.abs(meant) <= np.quantile(np.abs(meant), 0.99)
        moved, meant = moved[usual], meant[usual]
        if not (np.ptp(moved) > 0 and np.ptp(meant) > 0):
            continue
        r = float(np.corrcoef(moved, meant)[0, 1])
        correlations.append(r)
        factors.append(np.sign(r) * np.std(meant) / np.std(moved))
    if not correlations:
        return None
    worst = min(correlations, key=abs)
    return Agreement(worst, np.array(factors))


def derivatives(behavior: Mapping[str, Series]) -> list[Finding]:
    """Each velocity against the position, and each acceleration against the velocity, of its name.

    They agree when r > 0.9 and the factor is within 10 % of 1. A factor of 2 or more contradicts
    the units of one of them, and is an error where both are SI.
    """
    found = []
    for of, name in pairs(behavior):
        agreement = derivative(behavior[of], behavior[name])
        if agreement is None:
            continue
        r, ratio = agreement.correlation, float(np.median(np.abs(agreement.factor)))
        factor = f"{float(f'{ratio:.2g}'):g}"
        level: Level = "warning"
        if abs(r) <= 0.9:
            text = f"it does not follow {of}: r {r:.2f} with its derivative"
        elif np.any(agreement.factor < 0):
            text = f"it is the derivative of {of} with the sign turned (r {r:.3f})"
        elif np.all(np.abs(agreement.factor - 1) <= 0.1):
            level, text = "info", f"it is the derivative of {of} (r {r:.3f}, factor {factor})"
        elif not _commensurable(behavior[of].unit, behavior[name].unit):
            units = f"{behavior[name].unit!r} and {behavior[of].unit!r}"
            level, text = "info", f"it is {factor} times the derivative of {of}, in {units}"
        else:
            level = "warning" if 0.5 < ratio < 2 else "error"
            text = f"it is {factor} times the derivative of {of} (r {r:.3f}):"
            text += " the unit of one of them is wrong"
        found.append(Finding(level, name, text))
    return found


_ORDERS = {
    **dict.fromkeys(("pos", "position", "positions", "ang", "angle", "angles", "len", "length"), 0),
    **dict.fromkeys(("vel", "velocity", "velocities"), 1),
    **dict.fromkeys(("acc", "acceleration", "accelerations"), 2),
}


def pairs(behavior: Mapping[str, Series]) -> list[tuple[str, str]]:
    """(position, velocity) and (velocity, acceleration) that names tell, of equally many columns.

    `hand_pos` and `hand_vel`, `Position.Cursor` and `Velocity.Cursor`, `WheelPosition` and
    `WheelVelocity` differ in that one word only.
    """
    by_stem: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for name in behavior:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
        folded = [word.casefold() for word in words]
        orders = {_ORDERS[word] for word in folded if word in _ORDERS}
        if len(orders) == 1:
            stem = tuple("" if word in _ORDERS else word for word in folded)
            by_stem.setdefault((stem, orders.pop()), []).append(name)
    found = []
    for (stem, order), names in by_stem.items():
        of = by_stem.get((stem, order - 1), [])
        if len(of) == len(names) == 1:  # of two positions, either may be the one
            pair = of[0], names[0]
            if behavior[pair[0]].values.shape[1] == behavior[pair[1]].values.shape[1]:
                found.append(pair)
    return found


class _Track:
    """A series without repeated timestamps, and where it is whole."""

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
        self._bad = np.concatenate([[0], np.cumsum(bad)])

    def whole(self, t0: FloatArray, t1: FloatArray) -> NDArray[np.bool_]:
        """Which windows [t0, t1] (n,) are covered without a gap or a NaN."""
        if len(self.times) < 2:
            return np.zeros(len(t0), bool)
        first = np.searchsorted(self.times, t0, side="right") - 1
        last = np.searchsorted(self.times, t1, side="left")
        inside = (first >= 0) & (last < len(self.times))
        last = np.minimum(last, len(self.times) - 1)
        return inside & (self._bad[last] == self._bad[np.maximum(first, 0)])

    def integral(self) -> FloatArray:
        """The values' integral over time, (n, d), by the trapezoidal rule; NaN counts as 0."""
        values = np.where(self._finite[:, None], self.values, 0.0)
        steps = np.diff(self.times)[:, None] * (values[1:] + values[:-1]) / 2
        return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])


def _commensurable(unit: str, per_second: str) -> bool:
    return per_second == (unit[:-2] + "/s^2" if unit.endswith("/s") else f"{unit}/s")


def _named(rows: NDArray[np.integer]) -> str:
    """The first few rows by number, and how many more."""
    if len(rows) > 6:
        return f"{len(rows)} ({', '.join(map(str, rows[:5]))}, …)"
    return ", ".join(map(str, rows))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
