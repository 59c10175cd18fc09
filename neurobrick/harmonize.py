"""Raw arrays + DatasetSpec → one schema: names, SI units, sorted spikes, gaps, a domain.

What is repaired, dropped or doubtful is noted in the session's metadata, so that nothing is lost
silently; what no policy covers is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.errors import HarmonizeError, UnsupportedFile
from neurobrick.intervals import Intervals
from neurobrick.manifest import BehaviorSpec, DatasetSpec
from neurobrick.nwb import Array, NWBFile, RawColumn, RawSeries, RawTable, RawUnits
from neurobrick.schema import Left, Provenance, Series, SessionData, SessionMetadata, Subject
from neurobrick.si import to_si
from neurobrick.tables import array, ragged

# What decoders of the field read, most wanted first; the last parts of names, as files have them.
USUAL_TARGETS = ("hand_vel", "finger_vel", "cursor_vel", "velocity", "hand_pos", "position")

TIMES_OF_TABLES = {"start_time": "start", "stop_time": "stop"}


def harmonize(
    file: NWBFile,
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
    notes: list[str] = []
    left = list(file.left)
    if file.units is None or not len(file.units.spike_times):
        raise UnsupportedFile("it holds no spikes: there is no units table with spike_times")
    spike_times, spike_units = _spikes(file.units, notes)
    behavior = _behavior(file.series, spec.behavior, left, notes)
    intervals = _interval_tables(file.tables, left)
    units, observed = _units_table(file.units, file.electrodes)
    domain = observed or _recorded(spike_times, behavior)
    outside = int((~domain.contains(spike_times)).sum())
    if outside:
        notes.append(f"{outside} spikes lie outside the units' obs_intervals; kept")
    metadata = SessionMetadata(
        id=session_id,
        dataset=dataset,
        identifier=file.attributes.get("identifier"),
        session_id=file.attributes.get("session_id"),
        description=file.attributes.get("session_description"),
        session_start_time=file.attributes.get("session_start_time"),
        lab=file.attributes.get("lab"),
        institution=file.attributes.get("institution"),
        devices=file.devices,
        subject=_subject(file.subject),
        target=_target(spec.target, behavior),
        provenance=provenance,
        left=tuple(left),
        notes=tuple(notes),
    )
    evaluation = spec.evaluation.intervals(intervals) & domain if spec.evaluation else domain
    return SessionData(
        metadata=metadata,
        spike_times=spike_times,
        spike_units=spike_units,
        units=units,
        behavior=behavior,
        intervals=intervals,
        domain=domain,
        evaluation=evaluation,
        spike_clock=Clock(round(1 / r)) if (r := file.units.resolution) and 0 < r < 1 else None,
    )


def _spikes(raw: RawUnits, notes: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All spikes of all units on one sorted time line; ties keep the order of the units."""
    counts = np.diff(raw.ends, prepend=0)
    times = raw.spike_times[: int(raw.ends[-1])]
    units = np.repeat(np.arange(len(counts)), counts)
    unclaimed = len(raw.spike_times) - len(times)
    if unclaimed:
        notes.append(f"{unclaimed} spike times belong to no unit; left")
    finite = np.isfinite(times)
    if not finite.all():
        notes.append(f"{int((~finite).sum())} spike times are not finite; dropped")
        times, units = times[finite], units[finite]
    backwards = (np.diff(times) < 0) & (np.diff(units) == 0)
    if backwards.any():
        notes.append(f"spikes of {len(np.unique(units[1:][backwards]))} units were unsorted")
    order = np.argsort(times, kind="stable")
    return times[order], units[order]


def _units_table(raw: RawUnits, electrodes: RawTable | None) -> tuple[pa.Table, Intervals | None]:
    """The units table, one row a unit, and the union of their observed intervals if declared."""
    columns = dict(raw.table.columns)
    observed = columns.get("obs_intervals")
    intervals = None
    if observed is not None and len(observed.values):
        pairs = np.asarray(observed.values, dtype=np.float64).reshape(-1, 2)
        distinct = np.unique(pairs[~np.isnan(pairs).any(axis=1)], axis=0)
        distinct = distinct[distinct[:, 0] < distinct[:, 1]]
        intervals = Intervals(distinct[:, 0], distinct[:, 1])
        if _same_for_all(observed, distinct):
            del columns["obs_intervals"]  # the session's domain says it once
    table = {name: _column(column) for name, column in columns.items()}
    if electrodes is not None and "electrodes" in columns:
        for name in ("location", "group_name"):
            if name in electrodes.columns:
                table.setdefault(
                    {"location": "area"}.get(name, name),
                    _of_electrodes(columns["electrodes"], electrodes.columns[name]),
                )
    if not table:
        table = {"id": pa.array(np.arange(raw.table.n_rows))}
    return pa.table(table), intervals


def _same_for_all(observed: RawColumn, distinct: NDArray[np.float64]) -> bool:
    if observed.ends is None:
        return False
    counts = np.diff(observed.ends, prepend=0)
    return bool(np.all(counts == len(distinct)))


def _of_electrodes(rows: RawColumn, column: RawColumn) -> pa.Array:
    """For each unit, what its electrodes have in common in a column of strings; else null."""
    flat = np.asarray(rows.values, dtype=np.int64).reshape(-1)
    ends = rows.ends if rows.ends is not None else np.arange(1, len(flat) + 1)
    found: list[str | None] = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        mine = {column.values[k] for k in flat[start:end] if 0 <= k < len(column.values)}
        found.append(str(mine.pop()) if len(mine) == 1 else None)
    return pa.array(found, pa.string())


def _column(raw: RawColumn) -> pa.Array:
    if isinstance(raw.values, list):
        if raw.ends is None:
            return pa.array(raw.values, pa.string())
        starts = [0, *raw.ends.tolist()[:-1]]
        rows = [raw.values[a:b] for a, b in zip(starts, raw.ends.tolist(), strict=True)]
        return pa.array(rows, pa.list_(pa.string()))
    values = raw.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # MATLAB has no vectors
    if values.dtype.kind == "f":
        values = values.astype(np.float64 if values.dtype.itemsize >= 8 else np.float32)
    return ragged(values, raw.ends) if raw.ends is not None else array(values)


def _interval_tables(tables: Sequence[RawTable], left: list[Left]) -> dict[str, pa.Table]:
    names = _distinct_names([table.path for table in tables])
    found = {}
    for table, name in zip(tables, names, strict=True):
        if not TIMES_OF_TABLES.keys() <= table.columns.keys():
            left.append(Left(path=table.path, reason="its start or stop times are not readable"))
            continue
        ordered = [*TIMES_OF_TABLES, *(n for n in table.columns if n not in TIMES_OF_TABLES)]
        found[name] = pa.table(
            {
                TIMES_OF_TABLES.get(column, column): _times(table.columns[column])
                if column in TIMES_OF_TABLES
                else _column(table.columns[column])
                for column in ordered
            }
        )
    return found


def _times(raw: RawColumn) -> pa.Array:
    return pa.array(np.asarray(raw.values, dtype=np.float64).reshape(-1))


def _behavior(
    found: Sequence[RawSeries],
    wanted: Sequence[BehaviorSpec],
    left: list[Left],
    notes: list[str],
) -> dict[str, Series]:
    by_path = {series.path: series for series in found}
    missing = [spec.path for spec in wanted if spec.path not in by_path]
    if missing:
        there = ", ".join(by_path) or "none"
        raise HarmonizeError(f"the spec keeps {', '.join(missing)}; the file has: {there}")
    specs = {spec.path: spec for spec in wanted}
    kept = [series for series in found if not wanted or series.path in specs]
    left += [
        Left(path=series.path, reason="not listed in the spec")
        for series in found
        if wanted and series.path not in specs
    ]
    behavior = {}
    names = _distinct_names([series.path for series in kept])
    for raw, name in zip(kept, names, strict=True):
        spec = specs.get(raw.path)
        series = _series(raw, spec.unit if spec else None, left, notes)
        if series is not None:
            behavior[(spec.name if spec else None) or name] = series
    return behavior


def _series(raw: RawSeries, unit: str | None, left: list[Left], notes: list[str]) -> Series | None:
    """The series in SI, or None, with the reason in `left`, when its times cannot be trusted."""
    if raw.rate is not None and not (np.isfinite(raw.rate) and raw.rate > 0):
        left.append(Left(path=raw.path, reason=f"its rate is {raw.rate:g} Hz"))
        return None
    data = raw.data()
    stamps = raw.timestamps()
    clock = None
    if stamps is None:
        clock = Clock(cast("float", raw.rate), raw.starting_time or 0.0)
        stamps = clock.times(np.arange(len(data)))
    if stamps.shape != (len(data),):
        reason = f"{stamps.shape} timestamps for {len(data)} samples"
        left.append(Left(path=raw.path, reason=reason))
        return None
    finite = np.isfinite(stamps)
    if not finite.all():
        notes.append(f"{raw.path}: {int((~finite).sum())} samples without a time dropped")
        stamps, data = stamps[finite], data[finite]
    steps = np.diff(stamps)
    if np.any(steps < 0):
        row = int(np.argmax(steps < 0)) + 1
        left.append(Left(path=raw.path, reason=f"its timestamps run backwards at row {row}"))
        return None
    if np.any(steps == 0):
        notes.append(f"{raw.path}: {int((steps == 0).sum())} samples share a time; kept")
    values, symbol = _in_si(raw, data, unit or raw.unit, notes)
    columns = _named_columns(raw.comments, values.shape[1])
    return Series(
        timestamps=stamps,
        values=values,
        unit=symbol,
        source=raw.path,
        source_unit=raw.unit,
        description=raw.description,
        columns=columns,
        clock=clock,
    )


def _in_si(
    raw: RawSeries, data: Array, unit: str, notes: list[str]
) -> tuple[NDArray[np.floating], str]:
    """`data * conversion + offset`, then to SI: (n, d) in a float that holds every source value.

    Computed in float64; kept as float32 where the source has no more than its 24 bits.
    """
    conversion, offset = raw.conversion, raw.offset
    if not np.isfinite(conversion) or not np.isfinite(offset) or conversion == 0:
        notes.append(f"{raw.path}: conversion {conversion:g}, offset {offset:g}: not applied")
        conversion, offset = 1.0, 0.0
    si = to_si(unit)
    if si is None:
        notes.append(f"{raw.path}: unit {unit!r} is not known; values kept in it")
    values = data.reshape(len(data), -1).astype(np.float64)
    if conversion != 1.0:
        values *= conversion
    if offset != 0.0:
        values += offset
    if si is not None and si.factor != 1.0:
        values *= si.factor
    narrow = data.dtype.itemsize <= (4 if data.dtype.kind == "f" else 2)
    return values.astype(np.float32 if narrow else np.float64), si.symbol if si else unit


def _named_columns(comments: str, n: int) -> tuple[str, ...]:
    """Column names from a comment such as `columns=[x,y]`, as dandiset 000128 has them."""
    _, found, rest = comments.partition("columns=[")
    names = tuple(name.strip() for name in rest.partition("]")[0].split(",")) if found else ()
    return names if len(names) == n else ()


def _distinct_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path; where two share one, the shortest tails that differ, dotted."""
    names = []
    for path in paths:
        parts = path.split("/")
        length = 1
        while length < len(parts) and _shared(paths, parts[-length:]) > 1:
            length += 1
        names.append(".".join(parts[-length:]))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise HarmonizeError(f"two objects of the file are called {twice[0]!r}")
    return names


def _shared(paths: Iterable[str], tail: list[str]) -> int:
    return sum(path.split("/")[-len(tail) :] == tail for path in paths)


def _recorded(times: NDArray[np.float64], behavior: Mapping[str, Series]) -> Intervals:
    """From the first event to just after the last, where the file declares no intervals."""
    ends = [(times[0], times[-1])] if len(times) else []
    ends += [(s.timestamps[0], s.timestamps[-1]) for s in behavior.values() if len(s.timestamps)]
    first = min(start for start, _ in ends)
    last = max(stop for _, stop in ends)
    return Intervals([first], [np.nextafter(last, np.inf)])


def _subject(raw: Mapping[str, str]) -> Subject:
    return Subject(id=raw.get("subject_id"), **{k: v for k, v in raw.items() if k != "subject_id"})


def _target(wanted: str | None, behavior: Mapping[str, Series]) -> str | None:
    """The spec's target; else the most usual one there is; else the only series, if it is one."""
    if wanted is not None:
        if wanted not in behavior:
            there = ", ".join(behavior) or "none"
            raise HarmonizeError(f"the spec's target {wanted!r} is not kept; there is: {there}")
        return wanted
    for usual in USUAL_TARGETS:
        for name in behavior:
            if name.casefold().endswith(usual):
                return name
    return next(iter(behavior)) if len(behavior) == 1 else None
