"""Slice: a window of one session, as views of its arrays.

The way of a slice, from the call to the bytes:

    Dataset.slice -> Session.slice -> Slice   opens the session's store, notes t0 and t1
    Slice.spikes, Slice.behavior[name]        asks the session for its rows by time
    Session.spike_rows, behavior_rows         asks the loader
    Loader, Cache (loading.py, cache.py)      reads the arrays once, decoded, and keeps them
    SessionStore (neurobrick.store)           fetches, checks and decodes the chunks
    TimedRows.window (timed_rows.py)          two binary searches; what they bound is the view
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.dataset import interop
from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.dataset.named import LazyNamed
from neurobrick.dataset.timed_rows import TimedRows
from neurobrick.intervals import Intervals

FloatArray = NDArray[np.float64]

MOST_BINS = 2**48  # more cannot be counted in memory, nor told apart by float64


@dataclass(frozen=True, slots=True)
class Spikes:
    """Spikes in the order of time. Both arrays are read-only."""

    times: FloatArray  # (n,) float64, seconds, sorted
    units: NDArray[np.int32]  # (n,) int32, rows of the units table

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class BehaviorSlice:
    """Samples of one behavior. Both arrays are read-only."""

    timestamps: FloatArray  # (n,) float64, seconds, sorted
    values: NDArray[np.floating]  # (n, d) float32 or float64, SI

    def __len__(self) -> int:
        return len(self.timestamps)


class Recorded(Protocol):
    """The fields of a Session that a Slice or a SliceBatch reads."""

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

    def spike_rows(self) -> TimedRows: ...

    def behavior_rows(self, name: str) -> TimedRows: ...

    def overlapping(self, name: str, t0: float, t1: float) -> pa.Table: ...


class Slice:
    """The window `[t0, t1)` of a session: what was recorded at `t0 <= t < t1`, in seconds.

        window = ds.slice("000128/sub-Jenkins_ses-full", 12.0, 13.0)
        window.spikes.times            # float64 (n,), seconds
        window.behavior["hand_vel"]    # timestamps (n,), values (n, d) in SI
        window.bin(0.02)               # spike counts (50, units)

    A slice is immutable, holds no data itself, and costs microseconds. Its arrays are views of the
    session's arrays. A window with `t0 == t1` is empty: no spikes, samples, rows or domain.
    """

    __slots__ = ("_session", "t0", "t1")

    def __init__(self, session: Recorded, t0: float, t1: float) -> None:
        self._session = session
        self.t0 = t0
        self.t1 = t1

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return self._session.id

    @property
    def units(self) -> pa.Table:
        """The session's units table; `spikes.units` are rows of it."""
        return self._session.units

    @property
    def domain(self) -> Intervals:
        """The part of the window that was recorded."""
        return self._session.domain.clip(self.t0, self.t1)

    @property
    def spikes(self) -> Spikes:
        """The spikes in the window, as views."""
        return Spikes(*self._session.spike_rows().window(self.t0, self.t1))

    @property
    def behavior(self) -> Mapping[str, BehaviorSlice]:
        """The samples in the window, by name of the behavior. A series is read at its first use.

        The mapping raises KeyError for a name that the session has not.
        """
        return LazyNamed(self._session.behavior_names, self._behavior, self.session_id, "behavior")

    @property
    def behavior_info(self) -> Mapping[str, BehaviorInfo]:
        """Shape, rate, unit and columns of each behavior of the session, by name."""
        return self._session.behavior

    @property
    def intervals(self) -> Mapping[str, pa.Table]:
        """The rows of each interval table that overlap the window, by name of the table.

        Rows are whole: their `start` and `stop` may lie outside the window. A row without duration
        overlaps the window that holds its instant.
        """
        return LazyNamed(
            self._session.intervals, self._overlapping, self.session_id, "interval table"
        )

    def slice(self, t0: float, t1: float) -> Slice:
        """The part of this window in `[t0, t1)`, in seconds on the session's clock.

        It is empty where the two windows do not meet.

        Raises ValueError unless `t0 <= t1`.
        """
        t0, t1 = window_edges(t0, t1)
        start = min(max(t0, self.t0), self.t1)
        return Slice(self._session, start, max(start, min(t1, self.t1)))

    def bin(self, width: float) -> NDArray[np.int32]:
        """Spike counts int32 (bins, units), in bins of `width` seconds from t0 on.

        Bin k holds the spikes in `[t0 + k * width, t0 + (k + 1) * width)`. A last bin that the
        window does not fill is left out.

        Raises ValueError when `width` is not positive and finite, or too small for the window, and
        when the window has no end.
        """
        if not 0 < width < np.inf:
            raise ValueError(f"a bin's width must be positive and finite, not {width}")
        width = float(width)
        # A window of 1 s holds 50 bins of 0.02 s, whatever 1 / 0.02 rounds to.
        bins = np.floor((self.t1 - self.t0) / width + 1e-9)
        if not bins < MOST_BINS:
            raise ValueError(
                f"the window [{self.t0:g}, {self.t1:g}) has too many bins of {width:g} s"
            )
        n_bins, n_units = int(bins), self._session.n_units
        spikes = self.spikes
        edges = self.t0 + width * np.arange(n_bins + 1)
        row = np.searchsorted(edges, spikes.times, side="right") - 1
        kept = row < n_bins
        flat = row[kept] * n_units + spikes.units[kept]
        counts = np.bincount(flat, minlength=n_bins * n_units)
        return counts.reshape(n_bins, n_units).astype(np.int32)

    def to_pynapple(self) -> dict[str, Any]:
        """Units, behavior and intervals as pynapple objects, by name; see `interop.to_pynapple`."""
        return interop.to_pynapple(self)

    def to_xarray(self, bin_width: float = 0.02) -> Any:
        """Counts in bins of `bin_width` seconds, behavior, units and intervals as one xarray
        Dataset; see `interop.to_xarray`."""
        return interop.to_xarray(self, bin_width)

    def to_pandas(self) -> dict[str, Any]:
        """Spikes, units, behavior and intervals as pandas DataFrames, by name; see
        `interop.to_pandas`."""
        return interop.to_pandas(self)

    def _behavior(self, name: str) -> BehaviorSlice:
        rows = self._session.behavior_rows(name)
        return BehaviorSlice(*rows.window(self.t0, self.t1))

    def _overlapping(self, name: str) -> pa.Table:
        return self._session.overlapping(name, self.t0, self.t1)

    def __repr__(self) -> str:
        return f"Slice({self.session_id!r}, {self.t0:g}, {self.t1:g})"


def window_edges(t0: float, t1: float) -> tuple[float, float]:
    """`t0` and `t1` as floats. Raises ValueError unless `t0 <= t1`, as for NaN."""
    if not t0 <= t1:
        raise ValueError(f"a window needs t0 <= t1, not [{t0}, {t1})")
    return float(t0), float(t1)
