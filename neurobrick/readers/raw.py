"""What a recording's file holds, by kind: raw arrays, nothing renamed, nothing scaled.

Readers (`nwb`, `odoherty`) make a Recording. `harmonize` brings it into the schema.
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
    """One column of a table.

    A plain column has a value a row. In a ragged one, row k is `values[ends[k - 1]:ends[k]]`. In a
    doubly ragged one, row k is the lists `ends[k - 1]` to `ends[k]`, and list j is
    `values[inner_ends[j - 1]:inner_ends[j]]`.
    """

    values: Array | list[str]  # (n, …) as the file has them, or texts
    ends: NDArray[np.int64] | None = None  # (n_rows,), not falling; None in a plain column
    inner_ends: NDArray[np.int64] | None = None  # (n_lists,), if doubly ragged


@dataclass(frozen=True)
class RawTable:
    """A dynamic table."""

    path: str  # in the file, without a leading slash
    n_rows: int  # of every column
    columns: dict[str, RawColumn]  # by their names in the file


@dataclass(frozen=True)
class RawUnits:
    """The units table. Unit k fired at `spike_times()[ends[k - 1]:ends[k]]`, as in the file."""

    table: RawTable  # its columns without the spike times
    ends: NDArray[np.int64]  # (n_units,), not falling
    spike_times: Callable[[], NDArray[np.float64]] = field(repr=False)  # reads (n_spikes,)
    resolution: float | None = None  # of the times, in their unit, as the file declares it
    time_unit: str = ""  # of spike_times, as the file declares it; "" where it declares none

    @property
    def n_spikes(self) -> int:
        """The number of spikes of all units."""
        return int(self.ends[-1]) if len(self.ends) else 0


@dataclass(frozen=True)
class RawSeries:
    """A time series as the file declares it. Its arrays are read when `data` and `timestamps` are
    called."""

    path: str  # in the file, without a leading slash
    type: str  # the neurodata_type, "" where it has none
    shape: tuple[int, ...]  # of data
    unit: str  # of `data * conversion + offset`
    data: Callable[[], Array] = field(repr=False)  # reads (n,) or (n, d, …), not scaled
    # Reads (n,) in `time_unit`; None where the file gives a rate.
    timestamps: Callable[[], NDArray[np.float64]] | None = field(repr=False, default=None)
    conversion: float = 1.0
    offset: float = 0.0
    description: str = ""
    comments: str = ""
    rate: float | None = (
        None  # Hz, as the file has it; NaN where it has neither rate nor timestamps
    )
    starting_time: float | None = None  # of the first sample, where there is a rate
    time_unit: str = ""  # of timestamps or starting_time, as the file declares it; "" for none
    beside: str = ""  # path of the series that this one stands beside, with its clock; "" for none
    arrays: tuple[tree.Array, ...] = field(
        repr=False, default=()
    )  # the arrays that it is read from

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


def _nothing(_: Iterable[RawSeries]) -> None:
    pass


@dataclass(frozen=True)
class Recording:
    """What a file holds, by kind. Valid while the file is open."""

    units: RawUnits | None  # None where there are none, or where `doubt` says why none is chosen
    series: tuple[RawSeries, ...] = ()
    tables: tuple[RawTable, ...] = ()  # of intervals
    electrodes: RawTable | None = None
    attributes: dict[str, str] = field(default_factory=dict)  # texts for SessionMetadata
    subject: dict[str, str] = field(default_factory=dict)  # texts for Subject
    devices: tuple[str, ...] = ()  # names
    left: tuple[Left, ...] = ()  # objects that are not read, with reasons
    doubt: str | None = None  # several units tables could be meant
    spikes_elsewhere: tuple[str, ...] = ()  # objects that hold spikes and are not read
    # Fetches the bytes of several series in few requests, where they are not on this machine.
    prefetch: Callable[[Iterable[RawSeries]], None] = field(repr=False, default=_nothing)
