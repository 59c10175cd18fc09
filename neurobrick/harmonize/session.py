"""A Recording + its DatasetSpec → one schema: names, SI units, sorted spikes, gaps, a domain.

What is repaired, dropped or doubtful is noted in the session's metadata, so that nothing is lost
silently; what no policy covers is refused. docs/policies.md states every policy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.errors import HarmonizeError, UnsupportedFile
from neurobrick.harmonize import behavior, columns, spikes
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import Blocks, find_blocks
from neurobrick.intervals import Intervals
from neurobrick.readers.raw import Array, RawTable, RawUnits, Recording
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Provenance, Series, SessionData, SessionMetadata, Subject

# What decoders of the field read, most wanted first; the last parts of names, as files have them.
USUAL_TARGETS = ("hand_vel", "finger_vel", "cursor_vel", "velocity", "hand_pos", "position")

BLOCKS_TABLE = "clock_blocks"
# What a file says of itself, under the names that the schema has for it, too.
ABOUT = ("identifier", "session_id", "session_start_time", "lab", "institution")


def harmonize(
    recording: Recording,
    spec: DatasetSpec,
    *,
    session_id: str,
    dataset: str,
    provenance: Provenance,
) -> SessionData:
    """One session in the schema, not yet split.

    Raises UnsupportedFile when there are no spikes, HarmonizeError when the spec names what is not
    there or the arrays cannot be brought into the schema without guessing.
    """
    ledger = Ledger(left=list(recording.left))
    raw_units = spikes_of(recording)
    chosen = behavior.choose(recording.series, spec.behavior, ledger)
    recording.prefetch([series for series, _, _ in chosen])
    raw_times = raw_units.spike_times()
    blocks = None
    if "clock_restarts" in spec.repairs:
        blocks = _blocks(chosen, recording.tables, raw_units, raw_times, ledger)
    hint = _declared_clock(raw_units)
    line = spikes.time_line(
        raw_times, raw_units.ends, spec, blocks, _spans(recording), hint, ledger
    )
    spike_times = line.times
    kept = {}
    for series, series_spec, name in chosen:
        found = behavior.in_schema(series, series_spec, blocks, ledger)
        if found is not None:
            kept[name] = found
    intervals = columns.interval_tables(recording.tables, blocks, ledger)
    if blocks is not None:
        intervals[BLOCKS_TABLE] = _as_table(blocks)
    observed = columns.observed(raw_units, blocks, ledger)
    domain = _domain(observed, spike_times, kept, ledger)
    evaluation = spec.evaluation.intervals(intervals) & domain if spec.evaluation else domain
    about = recording.attributes
    metadata = SessionMetadata(
        id=session_id,
        dataset=dataset,
        **{name: about.get(name) for name in ABOUT},
        description=about.get("session_description"),
        devices=recording.devices,
        subject=_subject(recording.subject),
        target=_target(spec.target, kept),
        provenance=provenance,
        left=tuple(ledger.left),
        notes=tuple(ledger.notes),
    )
    return SessionData(
        metadata=metadata,
        spike_times=spike_times,
        spike_units=line.units,
        units=columns.units_table(raw_units, recording.electrodes),
        behavior=kept,
        intervals=intervals,
        domain=domain,
        evaluation=evaluation,
        spike_ticks=line.ticks,
    )


def spikes_of(recording: Recording) -> RawUnits:
    """The units of a recording. Raises UnsupportedFile where it has no spikes, HarmonizeError where
    several tables could be meant."""
    units = recording.units
    if recording.doubt is not None:
        raise HarmonizeError(recording.doubt)
    if units is None:
        raise UnsupportedFile("it holds no spikes: there is no units table with spike_times")
    if not units.n_spikes:
        raise UnsupportedFile(f"it holds no spikes: {units.table.path} is empty")
    return units


def _declared_clock(units: RawUnits) -> Clock | None:
    """The clock that the units' resolution tells, where it is that of one."""
    resolution = units.resolution
    return Clock(round(1 / resolution)) if resolution and 0 < resolution < 1 else None


def _spans(recording: Recording) -> Iterator[float]:
    """How long each of the file's clocks runs, in seconds, but for that of the spikes; those that
    must be read come last."""
    yield from (series.shape[0] / series.rate for series in recording.series if series.rate)
    for table in recording.tables:
        ends = (table.columns.get(name) for name in ("start_time", "stop_time"))
        times = [c.values.reshape(-1) for c in ends if c and not isinstance(c.values, list)]
        yield _length(np.concatenate([np.zeros(0), *times]))
    for series in recording.series:
        if series.timestamps is not None:
            yield _length(series.timestamps())


def _length(times: Array) -> float:
    known = times[np.isfinite(times)]
    with np.errstate(over="ignore"):
        return float(known.max() - known.min()) if known.size else 0.0


def _blocks(
    chosen: Sequence[behavior.Chosen],
    tables: Sequence[RawTable],
    units: RawUnits,
    times: NDArray[np.float64],
    ledger: Ledger,
) -> Blocks | None:
    """The blocks of a session whose clock restarts; None where nothing runs backwards."""
    trains = np.split(times[: units.n_spikes], units.ends[:-1])
    candidates: list[NDArray[np.float64]] = [
        stamps for one, _, _ in chosen if one.timestamps and (stamps := one.timestamps()).ndim == 1
    ]
    for table in tables:
        for name in ("start_time", "stop_time"):
            column = table.columns.get(name)
            if column is not None and not isinstance(column.values, list):
                candidates.append(np.asarray(column.values, np.float64).reshape(-1))
    candidates = [times[np.isfinite(times)] for times in candidates]
    # Spikes are recorded for longer than trials last: those that show the same blocks widen them.
    blocks = find_blocks(candidates, trains) or find_blocks(trains)
    ledger.note(_told(blocks))
    return blocks


def _told(blocks: Blocks | None) -> str:
    if blocks is None:
        return "clock_restarts: nothing runs backwards; nothing repaired"
    shown = zip(blocks.first, blocks.last, blocks.shift, strict=True)
    rows = "; ".join(f"{a:.3f} to {b:.3f} s moved by {shift:+.3f} s" for a, b, shift in shown)
    return f"clock_restarts: {len(blocks)} blocks, laid end to end: {rows}"


def _as_table(blocks: Blocks) -> pa.Table:
    start, stop = blocks.first + blocks.shift, blocks.last + blocks.shift
    return pa.table({"start": start, "stop": stop, "shift": blocks.shift})


def _domain(
    observed: Intervals | None,
    times: NDArray[np.float64],
    kept: Mapping[str, Series],
    ledger: Ledger,
) -> Intervals:
    """When there was recording: as the file's units say, or from what there is."""
    domain = observed or _recorded(times, kept, ledger)
    first, last = np.searchsorted(times, (domain.start, domain.stop))
    if outside := len(times) - int((last - first).sum()):
        ledger.note(f"{outside} spikes lie outside the units' obs_intervals; kept")
    return domain


def _recorded(times: NDArray[np.float64], kept: Mapping[str, Series], ledger: Ledger) -> Intervals:
    """From the first event to just after the last, where the file declares no intervals; without
    series on a clock of their own."""
    ends = [(times[0], times[-1])] if len(times) else []
    for series in kept.values():
        start, stop = series.timestamps[0], series.timestamps[-1]
        if len(times) and (start > times[-1] or stop < times[0]):
            ledger.note(
                f"{series.source}: recorded from {start:.10g} to {stop:.10g} s, when there are no"
                " spikes: perhaps on another clock; kept, outside the session's domain"
            )
        else:
            ends.append((start, stop))
    if not ends:
        raise UnsupportedFile("it holds no spikes: none of its spike times is a time")
    first = min(start for start, _ in ends)
    last = max(stop for _, stop in ends)
    return Intervals([first], [np.nextafter(last, np.inf)])


def _subject(raw: Mapping[str, str]) -> Subject:
    return Subject(id=raw.get("subject_id"), **{k: v for k, v in raw.items() if k != "subject_id"})


def _target(wanted: str | None, kept: Mapping[str, Series]) -> str | None:
    """The spec's target; else the most usual one there is; else the only series, if it is one."""
    if wanted is not None:
        if wanted not in kept:
            there = ", ".join(kept) or "none"
            raise HarmonizeError(f"the spec's target {wanted!r} is not kept; there is: {there}")
        return wanted
    return usual_target(kept)


def usual_target(names: Collection[str]) -> str | None:
    """The behavior that decoders of the field would read; the only one, if there is one."""
    for usual in USUAL_TARGETS:
        for name in names:
            if name.casefold().endswith(usual):
                return name
    return next(iter(names)) if len(names) == 1 else None
