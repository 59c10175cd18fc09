"""Slice: a window of one session, as views of its arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.dataset import interop
from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.dataset.overlap import Overlap
from neurobrick.dataset.timed_rows import TimedRows
from neurobrick.intervals import Intervals

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spikes:
    """`times` float64 (n,) in seconds, sorted; `units` int32 (n,), rows of the units table."""

    times: FloatArray
    units: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class BehaviorSlice:
    """`timestamps` float64 (n,) in seconds, `values` (n, d) in SI."""

    timestamps: FloatArray
    values: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.timestamps)


class Recorded(Protocol):
    """What a window is cut from: the fields of a Session that a Slice reads."""

    @property
    def id(self) -> str: ...

    @property
    def units(self) -> pa.Table: ...

    @property
    def n_units(self) -> int: ...

    @property
    def domain(self) -> Intervals: ...

    @property
    def behavior_names(self) -> tuple[str, ...]: ...

    @property
    def behavior(self) -> Mapping[str, BehaviorInfo]: ...

    @property
    def intervals(self) -> Mapping[str, pa.Table]: ...

    def spike_samples(self) -> TimedRows: ...

    def behavior_samples(self, name: str) -> TimedRows: ...

    def overlap(self, name: str) -> Overlap: ...


class Slice:
    """An immutable view of the window `[t0, t1)` of a session."""

    __slots__ = ("_session", "t0", "t1")

    def __init__(self, session: Recorded, t0: float, t1: float) -> None:
        self._session = session
        self.t0 = t0
        self.t1 = t1

    @property
    def session_id(self) -> str:
        """Id of the session that this is a window of."""
        return self._session.id

    @property
    def units(self) -> pa.Table:
        """The session's units table; `spikes.units` are its rows."""
        return self._session.units

    @property
    def domain(self) -> Intervals:
        """What part of the window was recorded."""
        return self._session.domain.clip(self.t0, self.t1)

    @property
    def spikes(self) -> Spikes:
        """The spikes in the window, as views."""
        return Spikes(*self._session.spike_samples().window(self.t0, self.t1))

    @property
    def behavior(self) -> Mapping[str, BehaviorSlice]:
        """The samples in the window, by name; a series is read when it is asked for."""
        return _LazyMapping(self._session.behavior_names, self._behavior)

    @property
    def behavior_info(self) -> Mapping[str, BehaviorInfo]:
        """What the session's behavior is, by name: units, rates, columns."""
        return self._session.behavior

    @property
    def intervals(self) -> Mapping[str, pa.Table]:
        """By name, the rows of each interval table that overlap the window."""
        return _LazyMapping(self._session.intervals, self._overlapping)

    def slice(self, t0: float, t1: float) -> Slice:
        """The part of this window in `[t0, t1)`, on the same clock."""
        start = min(max(t0, self.t0), self.t1)
        return Slice(self._session, start, max(start, min(t1, self.t1)))

    def bin(self, width: float) -> NDArray[np.int32]:
        """Spike counts (n_bins, n_units) in bins of `width` seconds from t0.

        A last bin that the window does not fill is left out.
        """
        if not width > 0:
            raise ValueError(f"a bin's width must be positive, not {width}")
        # A window of 1 s holds 50 bins of 0.02 s, whatever 1 / 0.02 rounds to.
        n_bins = int(np.floor((self.t1 - self.t0) / width + 1e-9))
        n_units = self._session.n_units
        spikes = self.spikes
        edges = self.t0 + width * np.arange(n_bins + 1)
        row = np.searchsorted(edges, spikes.times, side="right") - 1
        kept = row < n_bins
        flat = row[kept] * n_units + spikes.units[kept]
        counts = np.bincount(flat, minlength=n_bins * n_units)
        return counts.reshape(n_bins, n_units).astype(np.int32)

    def to_pynapple(self) -> dict[str, Any]:
        """Units, behavior and intervals as pynapple's objects, by name; see `interop`."""
        return interop.to_pynapple(self)

    def to_xarray(self, bin_width: float = 0.02) -> Any:
        """Binned counts and behavior as an xarray Dataset; see `interop`."""
        return interop.to_xarray(self, bin_width)

    def to_pandas(self) -> dict[str, Any]:
        """Spikes, units, behavior and intervals as pandas DataFrames, by name; see `interop`."""
        return interop.to_pandas(self)

    def _behavior(self, name: str) -> BehaviorSlice:
        samples = self._session.behavior_samples(name)
        return BehaviorSlice(*samples.window(self.t0, self.t1))

    def _overlapping(self, name: str) -> pa.Table:
        return self._session.overlap(name).rows(self.t0, self.t1)

    def __repr__(self) -> str:
        return f"Slice({self.session_id!r}, {self.t0:g}, {self.t1:g})"


class _LazyMapping(Mapping[str, Any]):
    """Names that are known, and values that are made when asked for."""

    def __init__(self, names: Collection[str], make: Callable[[str], Any]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            there = ", ".join(self._names) or "none"
            raise KeyError(f"there is no {name!r} in this session; there is: {there}")
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{{{', '.join(self._names)}}}"
