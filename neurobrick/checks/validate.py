"""Validation of a store: the schema's promises again, then whether the data are plausible.

`verify` finds bytes that changed. This finds data that were wrong from the start.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from neurobrick.checks import plausibility
from neurobrick.checks.derivatives import derivatives
from neurobrick.checks.finding import LEVELS, Finding, Level
from neurobrick.errors import HarmonizeError, listed
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS, Series, SessionData, check
from neurobrick.store import SessionStore

FEW = 0.01  # share of spikes outside the domain; the rounding of its edges explains fewer
MOST = 0.9  # share of the session; a behavior that covers less is worth a line


def validate(store: SessionStore) -> list[Finding]:
    """Everything worth knowing about the session in a store, worst first.

    Raises StoreError when the store cannot be read.
    """
    session = load(store)
    try:
        check(session)
    except HarmonizeError as error:
        return [Finding("error", "schema", str(error))]
    times, units, n_units = session.spike_times, session.spike_units, session.units.num_rows
    findings = plausibility.firing_rates(units, n_units, session.domain.duration)
    findings += plausibility.refractory(times, units, n_units)
    findings += plausibility.duplicates(times, units, n_units)
    for name, series in session.behavior.items():
        findings += plausibility.samples(name, series, is_target=name == session.metadata.target)
    findings += derivatives(session.behavior)
    findings += target(session)
    findings += extent(session)
    findings += coverage(session)
    findings += division(session)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def load(store: SessionStore) -> SessionData:
    """Everything that a store holds, in memory."""
    behavior = {}
    for name in store.behavior_names():
        attributes, _, clock = store.behavior_info(name)
        timestamps, values = store.behavior(name)
        behavior[name] = Series(
            timestamps=timestamps,
            values=values,
            unit=attributes["unit"],
            source=attributes["source"],
            source_unit=attributes["source_unit"],
            description=attributes["description"],
            columns=tuple(attributes["columns"]),
            clock=clock,
        )
    times, units = store.spikes()
    sets = store.times()
    return SessionData(
        metadata=store.metadata,
        spike_times=times,
        spike_units=units,
        units=store.units(),
        behavior=behavior,
        intervals={name: store.interval_table(name) for name in store.interval_names()},
        domain=sets.pop("domain"),
        evaluation=sets.pop("evaluation"),
        splits=sets,
    )


def target(session: SessionData) -> list[Finding]:
    """What a decoder of this session would predict, where nothing says so."""
    if session.metadata.target is not None:
        return []
    if not session.behavior:
        return [Finding("info", "target", "none: the session has no behavior to decode")]
    text = f"none: say data.target in a recipe, one of {listed(session.behavior, most=6)}"
    return [Finding("info", "target", text)]


def extent(session: SessionData) -> list[Finding]:
    """Clocks that are perhaps not in seconds, and series whose axes are perhaps exchanged."""
    times = session.spike_times
    spikes = float(times[-1] - times[0]) if len(times) else 0.0
    first, last = session.domain.span
    seconds = {
        name: float(np.ptp(s.timestamps))
        for name, s in session.behavior.items()
        if len(s.timestamps)
    }
    seconds |= {name: _length(table) for name, table in session.intervals.items()}
    findings = plausibility.lengths(seconds, len(times), spikes)
    if not findings:  # the units' obs_intervals may stretch the domain, too
        findings = plausibility.lengths({"domain": last - first}, len(times), spikes)
    for name, series in session.behavior.items():
        others = [length for other, length in seconds.items() if other != name]
        findings += plausibility.orientation(name, series, max([spikes, *others]))
    return findings


def _length(table: pa.Table) -> float:
    """From the first start or stop of an interval table to the last, in s."""
    times = np.concatenate([np.asarray(table[name], np.float64) for name in ("start", "stop")])
    times = times[np.isfinite(times)]
    return float(np.ptp(times)) if len(times) else 0.0


def coverage(session: SessionData) -> list[Finding]:
    """Spikes outside the domain; behavior and trials that were recorded at another time."""
    findings = []
    times, domain = session.spike_times, session.domain
    if outside := len(times) - int(domain.contains(times).sum()):
        level: Level = "warning" if outside > FEW * len(times) else "info"
        share = f"{outside:,} of {len(times):,} spikes"
        findings.append(Finding(level, "spikes", f"{share} lie outside the recorded time"))
    for name, series in session.behavior.items():
        findings += _beside_spikes(name, series, times)
        # Without a clock it is not known how long a sample lasts.
        seconds = len(series.timestamps) / series.clock.rate if series.clock else np.inf
        if seconds < MOST * domain.duration:
            share = f"{seconds / domain.duration:.0%}"
            findings.append(Finding("info", name, f"recorded for {share} of the session only"))
    for name, table in session.intervals.items():
        findings += _rows_outside(name, table, domain)
    return findings


def _beside_spikes(name: str, series: Series, times: np.ndarray) -> list[Finding]:
    """An error if no spike falls into the time of a behavior."""
    if not len(series.timestamps) or not len(times):
        return []
    first, last = float(series.timestamps[0]), float(series.timestamps[-1])
    if np.searchsorted(times, last, "right") > np.searchsorted(times, first, "left"):
        return []
    text = (
        f"no spike falls into its time, {first:g} to {last:g} s; spikes are from {times[0]:g} to"
        f" {times[-1]:g} s: two clocks"
    )
    return [Finding("error", name, text)]


def _rows_outside(name: str, table: pa.Table, domain: Intervals) -> list[Finding]:
    """Rows of an interval table that are inverted, without times, or outside the domain."""
    start = np.asarray(table["start"], dtype=np.float64)
    stop = np.asarray(table["stop"], dtype=np.float64)
    findings = []
    if backwards := int(np.sum(stop < start)):
        text = f"{backwards} of {len(start)} rows stop before they start"
        findings.append(Finding("warning", name, text))
    known = np.isfinite(start) & (stop >= start)
    if unknown := int(np.sum(~np.isfinite(start) | ~np.isfinite(stop))):
        text = f"{unknown} of {len(start)} rows lack a start or stop"
        findings.append(Finding("info", name, text))
    overlaps = _overlaps(start[known], stop[known], domain)
    if outside := int(np.sum(~overlaps)):
        level: Level = "error" if name == "trials" and not overlaps.any() else "warning"
        text = f"{outside} of {len(start)} rows lie outside the recorded time"
        findings.append(Finding(level, name, text))
    return findings


def _overlaps(start: np.ndarray, stop: np.ndarray, domain: Intervals) -> np.ndarray:
    """Which closed intervals (n,) share an instant with `domain`; an interval may be an instant."""
    following = np.searchsorted(domain.stop, start, side="right")
    inside = following < len(domain)
    next_start = domain.start[np.minimum(following, max(0, len(domain) - 1))]
    return inside & (next_start <= stop) if len(domain) else inside


def division(session: SessionData) -> list[Finding]:
    """Splits that are empty, or in which nothing is scored.

    `check` has made sure that they are disjoint and inside the domain.
    """
    findings = []
    if not session.evaluation.duration:
        findings.append(Finding("warning", "evaluation", "no time of the session is scored"))
    for name in SPLITS:
        split = session.splits.get(name, Intervals.empty())
        if not split.duration:
            findings.append(Finding("warning", "splits", f"{name} is empty"))
        elif session.evaluation.duration and not (split & session.evaluation).duration:
            findings.append(Finding("warning", "splits", f"nothing of {name} is scored"))
    return findings
