"""A Recording and its DatasetSpec → SessionData: names, SI units, sorted spikes, gaps, a domain.

Whatever is repaired, dropped or doubtful is noted in the session's metadata: nothing is lost
silently. A fault that no policy covers is refused. docs/policies.md states every policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.errors import HarmonizeError, UnsupportedFile, listed
from neurobrick.harmonize import choice, columns, spikes
from neurobrick.harmonize.behavior import in_schema
from neurobrick.harmonize.domain import domain_of, doubts, note_long, spans_in_file
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import unused_name
from neurobrick.harmonize.restarts import Blocks, find_blocks
from neurobrick.harmonize.si import in_seconds, seconds_in
from neurobrick.readers.raw import RawTable, RawUnits, Recording
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Provenance, Series, SessionData, SessionMetadata, Subject

BLOCKS_TABLE = "clock_blocks"
# Attributes that the file and the schema call by the same name.
ATTRIBUTES = ("identifier", "session_id", "session_start_time", "lab", "institution")


def harmonize(
    recording: Recording,
    spec: DatasetSpec,
    *,
    session_id: str,
    dataset: str,
    provenance: Provenance,
) -> SessionData:
    """One session in the schema, not yet split.

    Raises UnsupportedFile when there are no spikes, HarmonizeError when the spec names something
    that the file does not have, or the arrays cannot be brought into the schema without guessing.
    """
    ledger = Ledger(left=list(recording.left))
    raw_units = spikes_of(recording)
    chosen = choice.choose(recording.series, spec.behavior, ledger)
    recording.prefetch([series for series, _, _ in chosen])
    spike_list = spikes.spike_list(raw_units, spec.units, ledger)
    blocks = None
    if "clock_restarts" in spec.repairs:
        blocks = _blocks(chosen, recording.tables, spike_list, ledger)
    line = spikes.time_line(spike_list, spec, blocks, spans_in_file(recording), ledger)
    intervals = _interval_tables(recording.tables, blocks, ledger)
    behavior, doubtful = _behavior(chosen, spec, blocks, line.times, intervals, ledger)
    observed = columns.observed(raw_units, blocks, ledger)
    note_long(line.times, behavior, intervals, observed, ledger)
    domain = domain_of(observed, line.times, behavior, ledger)
    units = columns.units_table(raw_units, recording.electrodes, ledger)
    evaluation = spec.evaluation.intervals(intervals) & domain if spec.evaluation else domain
    attributes = recording.attributes
    beside = [name for series, _, name in chosen if series.beside]
    metadata = SessionMetadata(
        id=session_id,
        dataset=dataset,
        **{name: attributes.get(name) for name in ATTRIBUTES},
        description=attributes.get("session_description"),
        devices=recording.devices,
        subject=_subject(recording.subject),
        target=choice.target(spec.target, behavior, beside, doubtful),
        provenance=provenance,
        left=tuple(ledger.left),
        notes=tuple(ledger.notes),
    )
    return SessionData(
        metadata=metadata,
        spike_times=line.times,
        spike_units=line.units,
        units=units,
        behavior=behavior,
        intervals=intervals,
        domain=domain,
        evaluation=evaluation,
        spike_ticks=line.ticks,
    )


def spikes_of(recording: Recording) -> RawUnits:
    """The units of a recording.

    Raises UnsupportedFile when it has no spikes, HarmonizeError when it has several units tables
    and nothing says which is meant.
    """
    units = recording.units
    if recording.doubt is not None:
        raise HarmonizeError(recording.doubt)
    if units is None and recording.spikes_elsewhere:
        raise UnsupportedFile(
            "it has no units table with spike_times; its spikes are in"
            f" {listed(recording.spikes_elsewhere, 3)}, which is not read"
        )
    if units is None:
        raise UnsupportedFile("it holds no spikes: there is no units table with spike_times")
    if not units.table.n_rows:
        raise UnsupportedFile(f"it holds no spikes: {units.table.path} has no units")
    if not units.n_spikes:
        raise UnsupportedFile(
            f"it holds no spikes: all {units.table.n_rows} units of {units.table.path} are silent"
        )
    return units


def _behavior(
    chosen: Sequence[choice.Chosen],
    spec: DatasetSpec,
    blocks: Blocks | None,
    spike_times: NDArray[np.float64],
    intervals: Mapping[str, pa.Table],
    ledger: Ledger,
) -> tuple[dict[str, Series], set[str]]:
    """The behaviors in the schema, by name, and the names of those that are doubtful."""
    behavior = {}
    for raw, series_spec, name in chosen:
        series = in_schema(raw, series_spec, blocks, ledger)
        if series is not None:
            behavior[name] = series
    found = doubts(spike_times, behavior, intervals)
    for note in found.noted.values():
        ledger.note(note)
    doubtful = set(found.noted)
    for name, reason in found.left.items():
        if spec.behavior:  # the spec lists it, so it is kept; note_long notes it
            doubtful.add(name)
        else:
            ledger.leave(behavior.pop(name).source, f"{reason}; name it in the spec to keep it")
    return behavior, doubtful


def _interval_tables(
    tables: Sequence[RawTable], blocks: Blocks | None, ledger: Ledger
) -> dict[str, pa.Table]:
    """The interval tables by name, and that of the blocks, if there are blocks."""
    intervals = columns.interval_tables(tables, blocks, ledger)
    if blocks is None:
        return intervals
    if (own := intervals.pop(BLOCKS_TABLE, None)) is not None:
        new = unused_name(BLOCKS_TABLE, intervals)
        ledger.note(f"the file's table {BLOCKS_TABLE} is called {new} here")
        intervals[new] = own
    return {**intervals, BLOCKS_TABLE: _as_table(blocks)}


def _blocks(
    chosen: Sequence[choice.Chosen],
    tables: Sequence[RawTable],
    spike_list: spikes.SpikeList,
    ledger: Ledger,
) -> Blocks | None:
    """The blocks of a session whose clock restarts; None if nothing runs backwards."""
    trains = spike_list.trains()
    candidates: list[NDArray[np.float64]] = [
        in_seconds(stamps, unit)
        for series, _, _ in chosen
        if series.timestamps is not None
        and (unit := seconds_in(series.time_unit)) is not None
        and (stamps := series.timestamps()).ndim == 1
    ]
    for table in tables:
        for name in ("start_time", "stop_time"):
            column = table.columns.get(name)
            if column is not None and not isinstance(column.values, list):
                candidates.append(np.asarray(column.values, np.float64).reshape(-1))
    candidates = [times[np.isfinite(times)] for times in candidates]
    # Spikes begin before the first trial and last longer: units widen the blocks that trials show.
    blocks = find_blocks(candidates, trains) or find_blocks(trains)
    ledger.note(_in_words(blocks))
    return blocks


def _in_words(blocks: Blocks | None) -> str:
    if blocks is None:
        return "clock_restarts: nothing runs backwards; nothing repaired"
    rows = zip(blocks.first, blocks.last, blocks.shift, strict=True)
    moves = "; ".join(f"{a:.3f} to {b:.3f} s moved by {shift:+.3f} s" for a, b, shift in rows)
    return f"clock_restarts: {len(blocks)} blocks, laid end to end: {moves}"


def _as_table(blocks: Blocks) -> pa.Table:
    start, stop = blocks.first + blocks.shift, blocks.last + blocks.shift
    return pa.table({"start": start, "stop": stop, "shift": blocks.shift})


def _subject(raw: Mapping[str, str]) -> Subject:
    return Subject(id=raw.get("subject_id"), **{k: v for k, v in raw.items() if k != "subject_id"})
