"""The content of a store: pydantic models of its metadata, dataclasses of its data. No I/O.

`SessionData` is one harmonized session in memory. `harmonize` makes it, `check` validates it and
`store` writes it.
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
    """The recorded animal or person. A field is None where the file does not state it."""

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
    """The source of a store: the bytes of its file, the program that read them, the spec."""

    path: str = Field(description="path of the asset, or file name")
    size: int = Field(description="bytes of the source file")
    digest: str = Field(description="of the whole file, as algorithm:value")
    streamed: tuple[ByteRange, ...] = Field(
        (), description="parts of the file that were read, where it was not fetched whole"
    )
    dandiset: str | None = None
    version: str | None = None
    asset_id: str | None = None
    neurobrick: str = Field(description="version of neurobrick that wrote the store")
    spec_hash: str = Field(description="sha256 of the DatasetSpec that was applied")


class Left(_Model):
    """An object of the source file that the store does not hold, with the reason."""

    path: str
    reason: str


class SessionMetadata(_Model):
    """Everything about a session except its arrays: the attributes of its store."""

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
    notes: tuple[str, ...] = Field((), description="repairs, losses and doubts, a line each")


@dataclass(frozen=True)
class Scaling:
    """Conversion of a file's numbers to SI, in float64: `(number * gain + offset) * factor`."""

    gain: float = 1.0  # source units to one of the file's numbers
    offset: float = 0.0  # source units
    factor: float = 1.0  # SI to one source unit


@dataclass(frozen=True)
class Series:
    """One behavior."""

    timestamps: NDArray[np.float64]  # (n,) float64, seconds, sorted
    values: NDArray[np.floating]  # (n, d), in `unit`
    unit: str
    source: str  # path in the source file
    source_unit: str  # the unit that the source file states
    description: str = ""
    columns: tuple[str, ...] = ()  # names of the d columns; empty if the file has none
    clock: Clock | None = None  # the sampling clock, if the file declares one
    scaling: Scaling = Scaling()  # from the file's numbers to `values`


@dataclass(frozen=True)
class SessionData:
    """One session in memory. All times are seconds on the session's clock."""

    metadata: SessionMetadata
    spike_times: NDArray[np.float64]  # (n,) float64, seconds, sorted
    spike_units: NDArray[np.integer]  # (n,) rows of `units`
    units: pa.Table  # one row a unit
    behavior: Mapping[str, Series]  # by name
    intervals: Mapping[str, pa.Table]  # by name, with columns `start` and `stop` in seconds
    domain: Intervals  # when the session was recorded
    evaluation: Intervals  # when decoding is scored
    splits: Mapping[str, Intervals] = field(default_factory=dict)  # by name, of SPLITS
    spike_ticks: tuple[Clock, NDArray[np.int64]] | None = None  # ticks (n,) that give spike_times


def check(session: SessionData) -> None:
    """Raise HarmonizeError, with the first fault, unless `session` keeps the format's promises.

    Spikes are finite, sorted and of known units. Series are sorted, with a value for each time.
    Interval tables have a start and a stop. Splits are disjoint and inside the domain.
    """
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
            f"the target {target!r} is no behavior of this session;"
            f" there is: {listed(session.behavior)}"
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
        raise HarmonizeError(
            f"unknown splits {listed(sorted(unknown))}; there is: {listed(SPLITS)}"
        )
    taken = Intervals.empty()
    for name, split in session.splits.items():
        if (split & taken).duration or (split - session.domain).duration:
            raise HarmonizeError(f"split {name!r} overlaps another or leaves the recording")
        taken = taken | split
