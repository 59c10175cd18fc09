"""What a store holds: pydantic models of the metadata, frozen tables of the data. No I/O.

`SessionData` is one harmonized session in memory: what `harmonize` makes, `check` validates and
`store` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from neurobrick.clock import Clock
from neurobrick.errors import HarmonizeError, listed
from neurobrick.intervals import Intervals

FORMAT_VERSION = 3  # of the stores that are written
READABLE_VERSIONS = (2, 3)  # 2 has other checksums
SPLITS = ("train", "valid", "test")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Subject(_Model):
    """Whose neurons these are; None where the file says nothing."""

    id: str | None = None
    species: str | None = None
    sex: str | None = None
    age: str | None = None
    description: str | None = None


class ByteRange(_Model):
    """The bytes `[start, stop)` of a file."""

    start: int
    stop: int
    sha256: str


class Provenance(_Model):
    """Which bytes, read by which program under which spec, became this store."""

    path: str = Field(description="path of the asset, or file name")
    size: int = Field(description="bytes of the source file")
    digest: str = Field(description="of the whole file, as algorithm:value")
    streamed: tuple[ByteRange, ...] = Field(
        (), description="what of the file was read, where it was not fetched whole"
    )
    dandiset: str | None = None
    version: str | None = None
    asset_id: str | None = None
    neurobrick: str = Field(description="version of neurobrick that wrote the store")
    spec_hash: str = Field(description="sha256 of the DatasetSpec that was applied")


class Left(_Model):
    """An object of the source file that the store does not hold, and why."""

    path: str
    reason: str


class SessionMetadata(_Model):
    """Everything about a session but its arrays; the attributes of its store."""

    format_version: int = FORMAT_VERSION
    id: str = Field(description="<dataset>/<file name without its ending and modality tail>")
    dataset: str
    identifier: str | None = Field(None, description="NWB identifier")
    session_id: str | None = Field(None, description="the id that the file gives itself")
    description: str | None = None
    session_start_time: str | None = Field(None, description="ISO 8601; the session's time zero")
    lab: str | None = None
    institution: str | None = None
    devices: tuple[str, ...] = ()
    subject: Subject = Subject()
    target: str | None = Field(None, description="the behavior that decoders read by default")
    provenance: Provenance
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = Field((), description="what was repaired, dropped or doubtful")


@dataclass(frozen=True)
class Scaling:
    """How a file's numbers became SI, in float64: `(number * gain + offset) * factor`."""

    gain: float = 1.0  # source units to one of the file's numbers
    offset: float = 0.0  # source units
    factor: float = 1.0  # SI to one source unit


@dataclass(frozen=True)
class Series:
    """One behavior."""

    timestamps: NDArray[np.float64]  # (n,) seconds, sorted
    values: NDArray[np.floating]  # (n, d) in `unit`
    unit: str
    source: str  # path in the file
    source_unit: str
    description: str = ""
    columns: tuple[str, ...] = ()  # names of the d columns, if the file names them
    clock: Clock | None = None  # the sampling clock, if the file declares one
    scaling: Scaling = Scaling()  # from the file's numbers to `values`


@dataclass(frozen=True)
class SessionData:
    """One session in memory."""

    metadata: SessionMetadata
    spike_times: NDArray[np.float64]  # (n,) seconds, sorted
    spike_units: NDArray[np.integer]  # (n,) rows of `units`
    units: pa.Table  # one row a unit
    behavior: Mapping[str, Series]
    intervals: Mapping[str, pa.Table]  # each with `start` and `stop` in seconds
    domain: Intervals  # recorded
    evaluation: Intervals  # scored
    splits: Mapping[str, Intervals] = field(default_factory=dict)
    # (n,) ticks that give back the spike times exactly, if a clock has them
    spike_ticks: tuple[Clock, NDArray[np.int64]] | None = None


def check(session: SessionData) -> None:
    """Raise HarmonizeError, naming the first fault, unless `session` keeps every promise of the
    format: sorted finite spikes of known units, series of equal lengths in sorted time,
    intervals with start and stop, splits that are disjoint and inside the domain."""
    _check_spikes(session)
    for name, series in session.behavior.items():
        _check_series(name, series)
    for name, table in session.intervals.items():
        if not {"start", "stop"} <= set(table.column_names):
            raise HarmonizeError(f"interval table {name!r} lacks a start or a stop column")
    _check_splits(session)
    target = session.metadata.target
    if target is not None and target not in session.behavior:
        raise HarmonizeError(
            f"the target {target!r} is no behavior of this session: {listed(session.behavior)}"
        )


def _check_spikes(session: SessionData) -> None:
    times, units = session.spike_times, session.spike_units
    if times.shape != units.shape or times.ndim != 1:
        raise HarmonizeError(f"{times.shape} spike times but {units.shape} spike units")
    if not np.all(np.isfinite(times)) or np.any(times[1:] < times[:-1]):
        raise HarmonizeError("spike times are not finite and sorted")
    if len(units) and not 0 <= int(units.min()) <= int(units.max()) < session.units.num_rows:
        raise HarmonizeError(f"spikes of unit row {units.max()}, of {session.units.num_rows} units")


def _check_series(name: str, series: Series) -> None:
    stamps, values = series.timestamps, series.values
    if values.ndim != 2 or len(values) != len(stamps):
        raise HarmonizeError(
            f"behavior {name!r}: {len(stamps)} timestamps, values of shape {values.shape}"
        )
    if not np.all(np.isfinite(stamps)) or np.any(np.diff(stamps) < 0):
        raise HarmonizeError(f"behavior {name!r}: timestamps are not finite and sorted")


def _check_splits(session: SessionData) -> None:
    unknown = set(session.splits) - set(SPLITS)
    if unknown:
        raise HarmonizeError(f"unknown splits: {listed(sorted(unknown))}")
    taken = Intervals.empty()
    for name, split in session.splits.items():
        if (split & taken).duration or (split - session.domain).duration:
            raise HarmonizeError(f"split {name!r} overlaps another or leaves the recording")
        taken = taken | split
