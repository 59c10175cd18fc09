"""Whether spikes can be those of neurons, and series those of a body. Pure functions of arrays.

Each threshold names its source, or what it was chosen for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurobrick.checks.finding import Finding, Level
from neurobrick.errors import listed
from neurobrick.schema import Series

FloatArray = NDArray[np.float64]

REFRACTORY = 0.0015  # s; as in Siegle et al. 2021, Nature 592, 86–92
MULTI_UNIT = 0.02  # share of intervals shorter than that; a unit with more is hardly one neuron
FEWEST_INTERVALS = 100  # of a unit, so that a share of 2 % is at least two intervals
HIGHEST_RATE = 500.0  # Hz
FEWEST_SHARED = 20  # spikes of a unit, before it can be called a copy of another
FROZEN = 60.0  # s, and a twentieth of the series; standing still for longer is odd
FEWEST_SPIKES = 20  # before the length of a recording is compared with that of its spikes
LONG = 3.0  # times the length of the spikes; a series that lasts longer is odd
TOO_LONG = 500.0  # times the length of the spikes; a clock in milliseconds gives 1,000
SHORT = 0.1  # share of the recording; a series with few, wide samples that lasts less is odd


def firing_rates(units: NDArray[np.integer], n_units: int, duration: float) -> list[Finding]:
    """Units that fire above 500 Hz on average, and units that are silent.

    `units` (n,) is the row of each spike's unit, `duration` the recorded time in s. A mean of
    500 Hz leaves 2 ms to every spike and no pause in a whole session. Fast-spiking cortical
    interneurons reach such rates for moments only (McCormick et al. 1985, J Neurophysiol 54,
    782–806).
    """
    if not duration > 0:
        return [Finding("error", "units", "nothing was recorded: the domain is empty")]
    rates = np.bincount(units, minlength=n_units) / duration
    findings = []
    if len(fast := np.flatnonzero(rates > HIGHEST_RATE)):
        text = f"{_rows(fast)} fire above {HIGHEST_RATE:g} Hz on average, up to"
        text += f" {rates.max():.0f} Hz: noise, several neurons, or times not in seconds"
        findings.append(Finding("warning", "units", text))
    if len(silent := np.flatnonzero(rates == 0)):
        level: Level = "warning" if 2 * len(silent) > n_units else "info"
        findings.append(Finding(level, "units", f"{_rows(silent)} of {n_units} never fire"))
    return findings


def violations(
    times: FloatArray, units: NDArray[np.integer], n_units: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """The share of each unit's interspike intervals that are shorter than 1.5 ms, and the number of
    its intervals: (n_units,) each. The share is NaN where a unit has no interval.

    `times` (n,) s, sorted, are the spikes of the unit rows `units` (n,). A neuron cannot fire again
    within its refractory period, so a short interval has a spike of another neuron (Hill, Mehta &
    Kleinfeld 2011, J Neurosci 31, 8699–8705). Two spikes at the same time are one spike stored
    twice, and are not counted.
    """
    order = np.argsort(units, kind="stable")
    sorted_units = units[order]
    steps = np.diff(times[order])
    same_unit = (sorted_units[1:] == sorted_units[:-1]) & (steps > 0)
    unit = sorted_units[1:][same_unit]
    counts = np.bincount(unit, minlength=n_units)
    short = np.bincount(unit[steps[same_unit] < REFRACTORY], minlength=n_units)
    share = np.full(n_units, np.nan)
    np.divide(short, counts, out=share, where=counts > 0)
    return share, counts


def refractory(times: FloatArray, units: NDArray[np.integer], n_units: int) -> list[Finding]:
    """How many units have `violations` in more than 2 % of their intervals, and the median share.

    Both depend on how spikes were sorted, and are no fault: threshold crossings are multi-units.
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
    """Spikes that a unit has twice, and pairs of units that share more than half of their spikes.

    `times` (n,) s, sorted, are the spikes of the unit rows `units` (n,). The usual cause is one
    neuron that was sorted twice, or one table that was stacked twice.
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
    findings = []
    if twice:
        level: Level = "warning" if twice > 0.001 * len(times) else "info"
        findings.append(Finding(level, "units", f"spikes that a unit has twice: {twice:,}"))
    for (a_row, b_row), count in shared.items():
        fewest = int(min(counts[a_row], counts[b_row]))
        if fewest >= FEWEST_SHARED and count > 0.5 * fewest:
            text = f"{a_row} and {b_row} share {count:,} of {fewest:,} spikes: one neuron twice?"
            findings.append(Finding("warning", "units", text))
    return findings


def samples(name: str, series: Series, *, is_target: bool) -> list[Finding]:
    """Columns that never change or are mostly missing, long standstill, an uneven clock.

    `is_target`: whether decoders read the series. A dead column is a warning then.
    """
    findings = []
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
        columns = listed(dead, most=6)
        findings.append(Finding(level, name, f"column {columns} never changes"))
    start, stop = still(series)
    if stop - start > max(FROZEN, 0.05 * np.ptp(series.timestamps)) and len(dead) < len(labels):
        text = f"no column changes from {start:.1f} to {stop:.1f} s: was it recorded then?"
        findings.append(Finding("warning" if is_target else "info", name, text))
    if (most := float(missing.max())) > 0:
        level = "warning" if most > 0.5 else "info"
        findings.append(Finding(level, name, f"{most:.1%} of its samples are missing (NaN)"))
    return findings + _clock(name, series)


def _clock(name: str, series: Series) -> list[Finding]:
    """Timestamps that repeat, and timestamps at uneven steps."""
    findings = []
    steps = np.diff(series.timestamps)
    if repeats := int(np.sum(steps == 0)):
        text = f"samples with the time of the one before: {repeats:,}"
        findings.append(Finding("info", name, text))
    steps = steps[steps > 0]
    if len(steps) > 1:
        low, middle, high = np.percentile(steps, (5, 50, 95)).tolist()
        if high - low > 0.1 * middle:
            text = f"its clock is uneven: steps of {_ms(middle)}, nine in ten between"
            findings.append(Finding("info", name, f"{text} {_ms(low)} and {_ms(high)}"))
    return findings


def lengths(seconds: dict[str, float], n_spikes: int, spikes: float) -> list[Finding]:
    """Series, tables and domains that last several times as long as the spikes.

    `seconds` is the length of each, `spikes` that of all `n_spikes` spikes, in s. Electrodes record
    for about as long as behavior does; a clock in milliseconds seems to last 1,000 times as long.
    """
    findings = []
    for name, length in seconds.items():
        if n_spikes < FEWEST_SPIKES or not length > LONG * spikes > 0:
            continue
        level: Level = "error" if length > TOO_LONG * spikes else "warning"
        text = f"it lasts {length:,.0f} s, {length / spikes:,.1f} times as long as the spikes"
        findings.append(Finding(level, name, f"{text}: perhaps its clock is not in seconds"))
    return findings


def orientation(name: str, series: Series, recorded: float) -> list[Finding]:
    """A series with fewer samples than columns that lasts a moment of the `recorded` seconds.

    An array of (2, 3000) at 50 Hz is more likely 60 s of 2 columns than 0.04 s of 3,000.
    """
    n, width = series.values.shape
    length = float(np.ptp(series.timestamps)) if n else 0.0
    if not 0 < n < width or length >= SHORT * recorded:
        return []
    text = (
        f"{n} samples of {width:,} values, in {length:.3g} of {recorded:,.1f} s: perhaps its time"
        " lies along the other axis (prepare with repairs: [transpose])"
    )
    return [Finding("warning", name, text)]


def still(series: Series) -> tuple[float, float]:
    """The longest time, (start, stop) in s, in which no column of `series` (n > 0 samples) changes.

    A tracker that has lost its light goes on reporting the last position.
    """
    moves = np.flatnonzero(np.any(series.values[1:] != series.values[:-1], axis=1)) + 1
    first = np.concatenate([[0], moves])
    last = np.concatenate([moves, [len(series.values)]]) - 1
    start, stop = series.timestamps[first], series.timestamps[last]
    longest = int(np.argmax(stop - start))
    return float(start[longest]), float(stop[longest])


def _rows(rows: NDArray[np.integer]) -> str:
    """The first few rows by number, and how many there are in all."""
    if len(rows) > 6:
        return f"{len(rows)} ({', '.join(map(str, rows[:5]))}, …)"
    return ", ".join(map(str, rows))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
