"""What a recording's file holds, by kind: raw arrays, nothing renamed, nothing scaled.

Readers (`nwb`, `odoherty`) make a Recording, `harmonize` brings it into the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.readers import tree
from neurobrick.schema import Left

Array = NDArray[Any]


@dataclass(frozen=True)
class RawColumn:
    """One column: `values`, and for ragged ones `ends`, the row boundaries.

    Of a doubly ragged column, `ends` are boundaries in `inner_ends`, and those are in `values`.
    """

    values: Array | list[str]
    ends: NDArray[np.int64] | None = None
    inner_ends: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RawTable:
    """A dynamic table: columns of equal length, by their names in the file."""

    path: str
    n_rows: int
    columns: dict[str, RawColumn]


@dataclass(frozen=True)
class RawUnits:
    """The units table; unit k fired at `spike_times()[ends[k - 1]:ends[k]]`, unsorted as found.

    The times of all units, (n_spikes,), are read when they are called for.
    """

    table: RawTable
    ends: NDArray[np.int64]
    spike_times: Callable[[], NDArray[np.float64]] = field(repr=False)
    resolution: float | None = None  # of the times, in their unit, as the file declares it
    time_unit: str = ""  # of spike_times, as the file declares it; "" where it declares none

    @property
    def n_spikes(self) -> int:
        """Spikes of all units."""
        return int(self.ends[-1]) if len(self.ends) else 0


@dataclass(frozen=True)
class RawSeries:
    """A time series as declared; `data` (n,) or (n, d, …) unscaled and `timestamps` (n,) are read
    when they are called. Timestamps are None where the file gives a rate."""

    path: str
    type: str
    shape: tuple[int, ...]
    unit: str
    data: Callable[[], Array] = field(repr=False)
    timestamps: Callable[[], NDArray[np.float64]] | None = field(repr=False, default=None)
    conversion: float = 1.0
    offset: float = 0.0
    description: str = ""
    comments: str = ""
    rate: float | None = None
    starting_time: float | None = None
    time_unit: str = ""  # of timestamps or starting_time, as the file declares it; "" for none
    beside: str = ""  # path of the series that this one stands beside, with its clock; "" for none
    arrays: tuple[tree.Array, ...] = field(repr=False, default=())  # what reading it reads

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


def _nothing(_: Iterable[RawSeries]) -> None:
    pass


@dataclass(frozen=True)
class Recording:
    """What a file holds, by kind. Valid while the file is open.

    `units` are None where there are none; or, with a `doubt` that says so, where several tables
    could be meant. `attributes` and `subject` are the file's own words for SessionMetadata and
    Subject. `prefetch` brings the bytes of several series here at once, where they are not here
    already.
    """

    units: RawUnits | None
    series: tuple[RawSeries, ...] = ()
    tables: tuple[RawTable, ...] = ()
    electrodes: RawTable | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    subject: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    doubt: str | None = None
    spikes_elsewhere: tuple[str, ...] = ()  # objects that hold spikes and are not read
    prefetch: Callable[[Iterable[RawSeries]], None] = field(repr=False, default=_nothing)
