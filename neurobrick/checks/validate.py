"""Validation of a store: the schema's promises again, then what physics says of the arrays.

Unlike `verify`, which finds bytes that changed, this finds data that were wrong from the start.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from neurobrick.checks import plausibility
from neurobrick.checks.finding import LEVELS, Finding, Level
from neurobrick.errors import HarmonizeError
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS, Series, SessionData, check
from neurobrick.store import SessionStore

FEW = 0.01  # a share of spikes outside the domain that rounding of its edges explains
MOST = 0.9  # of a session's time, below which a behavior's gaps are worth a word


def validate(store: SessionStore) -> list[Finding]:
    """What is to be known of a store's session, worst first; empty arrays are no fault of form.

    Raises StoreError when the store cannot be read.
    """
    session = load(store)
    try:
        check(session)
    except HarmonizeError as error:
        return [Finding("error", "schema", str(error))]
    times, units, n_units = session.spike_times, session.spike_units, session.units.num_rows
    found = plausibility.firing_rates(units, n_units, session.domain.duration)
    found += plausibility.refractory(times, units, n_units)
    found += plausibility.duplicates(times, units, n_units)
    for name, series in session.behavior.items():
        found += plausibility.samples(name, series, is_target=name == session.metadata.target)
    found += plausibility.derivatives(session.behavior)
    found += coverage(session)
    found += division(session)
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


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


def coverage(session: SessionData) -> list[Finding]:
    """Spikes outside the domain, behavior that no spikes go with, trials of another time."""
    found = []
    times, domain = session.spike_times, session.domain
    if outside := len(times) - int(domain.contains(times).sum()):
        level: Level = "warning" if outside > FEW * len(times) else "info"
        share = f"{outside:,} of {len(times):,} spikes"
        found.append(Finding(level, "spikes", f"{share} lie outside the recorded time"))
    for name, series in session.behavior.items():
        found += _beside_spikes(name, series, times)
        # Of a series without a clock nobody knows how long a sample lasts.
        seconds = len(series.timestamps) / series.clock.rate if series.clock else np.inf
        if seconds < MOST * domain.duration:
            share = f"{seconds / domain.duration:.0%}"
            found.append(Finding("info", name, f"recorded for {share} of the session only"))
    for name, table in session.intervals.items():
        found += _rows_outside(name, table, domain)
    return found


def _beside_spikes(name: str, series: Series, times: np.ndarray) -> list[Finding]:
    """Whether a behavior was recorded while spikes were."""
    if not len(series.timestamps) or not len(times):
        return []
    first, last = float(series.timestamps[0]), float(series.timestamps[-1])
    with_it = int(np.searchsorted(times, last, "right") - np.searchsorted(times, first, "left"))
    if with_it:
        return []
    text = (
        f"no spike falls into its time, {first:g} to {last:g} s; spikes are from {times[0]:g} to"
        f" {times[-1]:g} s: two clocks"
    )
    return [Finding("error", name, text)]


def _rows_outside(name: str, table: pa.Table, domain: Intervals) -> list[Finding]:
    start = np.asarray(table["start"], dtype=np.float64)
    stop = np.asarray(table["stop"], dtype=np.float64)
    found = []
    if backwards := int(np.sum(stop < start)):
        text = f"{backwards} of {len(start)} rows stop before they start"
        found.append(Finding("warning", name, text))
    known = np.isfinite(start) & (stop >= start)
    if unknown := int(np.sum(~np.isfinite(start) | ~np.isfinite(stop))):
        found.append(Finding("info", name, f"{unknown} of {len(start)} rows lack a start or stop"))
    overlaps = _overlaps(start[known], stop[known], domain)
    if outside := int(np.sum(~overlaps)):
        level: Level = "error" if name == "trials" and not overlaps.any() else "warning"
        text = f"{outside} of {len(start)} rows lie outside the recorded time"
        found.append(Finding(level, name, text))
    return found


def _overlaps(start: np.ndarray, stop: np.ndarray, domain: Intervals) -> np.ndarray:
    """Which closed intervals (n,) hold an instant of `domain`; an instant itself may be one."""
    following = np.searchsorted(domain.stop, start, side="right")
    inside = following < len(domain)
    next_start = domain.start[np.minimum(following, max(0, len(domain) - 1))]
    return inside & (next_start <= stop) if len(domain) else inside


def division(session: SessionData) -> list[Finding]:
    """Splits that hold nothing, or nothing that is scored.

    That they are disjoint and inside the domain is the schema's promise, which `check` holds.
    """
    found = []
    if not session.evaluation.duration:
        found.append(Finding("warning", "evaluation", "no time of the session is scored"))
    for name in SPLITS:
        split = session.splits.get(name, Intervals.empty())
        if not split.duration:
            found.append(Finding("warning", "splits", f"{name} is empty"))
        elif session.evaluation.duration and not (split & session.evaluation).duration:
            found.append(Finding("warning", "splits", f"nothing of {name} is scored"))
    return found
