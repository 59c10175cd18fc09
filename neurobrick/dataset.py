"""Dataset, Session, Slice: what an analysis imports.

A Dataset is opened from its catalogue. A session's arrays are decoded once, whole, and kept
read-only in a byte-budgeted cache; every slice after that is a view of them.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from neurobrick import interop
from neurobrick.batch import SliceBatch, cut
from neurobrick.cache import Cache
from neurobrick.catalog import Catalog
from neurobrick.clock import Clock
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS, SessionMetadata
from neurobrick.store import SessionStore

DEFAULT_CACHE_BYTES = 4 * 2**30

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Spikes:
    """`times` float64 (n,) in seconds, sorted; `units` int32 (n,), rows of the units table."""

    times: FloatArray
    units: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class BehaviorInfo:
    """What a behavior is, without reading it.

    `rate` in Hz, or None if it is irregular; `segments` are its gap-free stretches (an irregular
    series has none); `unit` is what its values are in, `source_unit` what the file said.
    """

    name: str
    shape: tuple[int, ...]
    rate: float | None
    segments: Intervals
    unit: str
    source: str
    source_unit: str
    columns: tuple[str, ...]
    description: str

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every column of the values: the file's, or their numbers."""
        return self.columns or tuple(str(k) for k in range(self.shape[1]))


@dataclass(frozen=True)
class BehaviorSlice:
    """`timestamps` float64 (n,) in seconds, `values` (n, d) in SI."""

    timestamps: FloatArray
    values: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.timestamps)


class Dataset:
    """A corpus of prepared sessions at `root`, a folder that `neurobrick prepare` wrote.

    Opening reads the catalogue alone. `cache_bytes` bounds the decoded arrays that are kept.

    Raises StoreError when there is no corpus at `root`.
    """

    def __init__(self, root: str | Path, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.root = Path(root)
        self.catalog = Catalog(self.root)
        self._cache = Cache(cache_bytes)
        self._ids: list[str] = self.catalog.sessions.column("session").to_pylist()
        self._open: dict[str, Session] = {}

    @property
    def sessions(self) -> list[str]:
        """Ids of the sessions, sorted."""
        return list(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._ids

    def __getitem__(self, session_id: str) -> Session:
        """The session called `session_id`. Raises StoreError when there is none."""
        if session_id not in self._open:
            if session_id not in self._ids:
                raise StoreError(
                    f"{self.root} has no session {session_id!r}; neurobrick list --root {self.root}"
                    " names those it has"
                )
            store = SessionStore(self.root / f"{session_id}.zarr")
            self._open[session_id] = Session(store, self._cache)
        return self._open[session_id]

    def slice(self, session_id: str, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)`, in seconds, of a session; reads nothing yet."""
        return self[session_id].slice(t0, t1)

    def slices(self, session_ids: Sequence[str], starts: ArrayLike, length: float) -> SliceBatch:
        """Many windows at once: `[starts[k], starts[k] + length)` of `session_ids[k]`.

        Flat arrays and offsets, in the order asked for.
        """
        sessions = {session_id: self[session_id] for session_id in dict.fromkeys(session_ids)}
        return cut(sessions, session_ids, starts, length)

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r}, {len(self)} sessions)"


class Session:
    """One recording session. Times are seconds on its own clock."""

    def __init__(self, store: SessionStore, cache: Cache) -> None:
        self._store = store
        self._cache = cache

    @property
    def id(self) -> str:
        """`<dataset>/<file name without its ending and its modality tail>`."""
        return self.metadata.id

    @property
    def metadata(self) -> SessionMetadata:
        """Who, when, from which bytes, and what was left or repaired."""
        return self._store.metadata

    @property
    def target(self) -> str | None:
        """Name of the behavior that decoders read by default."""
        return self.metadata.target

    @cached_property
    def units(self) -> pa.Table:
        """One row a unit."""
        return self._store.units()

    @cached_property
    def domain(self) -> Intervals:
        """When the session was recorded."""
        return self._store.domain()

    @property
    def span(self) -> tuple[float, float]:
        """First and last instant of the domain, in seconds."""
        return self.domain.span

    @cached_property
    def evaluation(self) -> Intervals:
        """When decoding is scored; the domain, unless the dataset's spec says otherwise."""
        return self._store.evaluation()

    @cached_property
    def splits(self) -> Mapping[str, Intervals]:
        """Train, valid and test."""
        found = self._store.splits()
        return {name: found[name] for name in SPLITS if name in found}

    @cached_property
    def behavior(self) -> Mapping[str, BehaviorInfo]:
        """What behavior there is, by name."""
        return {name: self._describe(name) for name in self._store.behavior_names()}

    @cached_property
    def intervals(self) -> Mapping[str, pa.Table]:
        """The interval tables, by name; columns `start` and `stop` are seconds."""
        return {name: self._store.interval_table(name) for name in self._store.interval_names()}

    @property
    def n_units(self) -> int:
        """Rows of the units table."""
        return int(self.units.num_rows)

    @property
    def n_spikes(self) -> int:
        """Spikes in the session."""
        return len(self.spike_arrays()[0])

    def slice(self, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)` in seconds; reads nothing yet. Raises ValueError if t1 < t0."""
        if not t0 <= t1:
            raise ValueError(f"a window needs t0 <= t1, not [{t0}, {t1})")
        return Slice(self, float(t0), float(t1))

    def spike_arrays(self) -> tuple[FloatArray, NDArray[np.int32]]:
        """Every spike: times (n,) in seconds, sorted, and unit rows (n,); read-only."""
        arrays = self._cache.get((self.id, "spikes"), self._store.spikes)
        return arrays[0], arrays[1]

    def behavior_arrays(self, name: str) -> tuple[FloatArray, NDArray[np.floating]]:
        """Every sample: timestamps (n,) in seconds and values (n, d) in SI; read-only.

        Raises KeyError when the session has no behavior of that name.
        """
        if name not in self.behavior:
            there = ", ".join(self.behavior) or "none"
            raise KeyError(f"{self.id} has no behavior {name!r}; there is: {there}")
        arrays = self._cache.get((self.id, "behavior", name), lambda: self._store.behavior(name))
        return arrays[0], arrays[1]

    def _describe(self, name: str) -> BehaviorInfo:
        attributes, shape, clock = self._store.behavior_info(name)
        return BehaviorInfo(
            name=name,
            shape=shape,
            rate=clock.rate if clock else None,
            segments=_segments(clock, self._store.segments(name)) if clock else Intervals.empty(),
            unit=attributes["unit"],
            source=attributes["source"],
            source_unit=attributes["source_unit"],
            columns=tuple(attributes["columns"]),
            description=attributes["description"],
        )

    def __repr__(self) -> str:
        return f"Session({self.id!r}, {self.n_units} units, {self.domain.duration:.1f} s)"


class Slice:
    """An immutable view of the window `[t0, t1)` of a session."""

    __slots__ = ("_session", "t0", "t1")

    def __init__(self, session: Session, t0: float, t1: float) -> None:
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
        return self._session.domain & Intervals([self.t0], [self.t1])

    @property
    def spikes(self) -> Spikes:
        """The spikes in the window, as views."""
        times, units = self._session.spike_arrays()
        rows = self._rows(times)
        return Spikes(times[rows], units[rows])

    @property
    def behavior(self) -> Mapping[str, BehaviorSlice]:
        """The samples in the window, by name; a series is read when it is asked for."""
        return _LazyMapping(self._session.behavior, self._behavior)

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
        return self._session.slice(start, max(start, min(t1, self.t1)))

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

    def _rows(self, times: FloatArray) -> builtins.slice:
        first, last = np.searchsorted(times, (self.t0, self.t1), side="left")
        return builtins.slice(first, last)

    def _behavior(self, name: str) -> BehaviorSlice:
        timestamps, values = self._session.behavior_arrays(name)
        rows = self._rows(timestamps)
        return BehaviorSlice(timestamps[rows], values[rows])

    def _overlapping(self, name: str) -> pa.Table:
        table = self._session.intervals[name]
        overlap = pc.and_(pc.less(table["start"], self.t1), pc.greater(table["stop"], self.t0))
        return table.filter(overlap)

    def __repr__(self) -> str:
        return f"Slice({self.session_id!r}, {self.t0:g}, {self.t1:g})"


class _LazyMapping(Mapping[str, Any]):
    """Names that are known, and values that are made when asked for."""

    def __init__(self, names: Mapping[str, Any], make: Callable[[str], Any]) -> None:
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


def _segments(clock: Clock, segments: NDArray[np.int64]) -> Intervals:
    """Gap-free stretches: each sample lasts one period."""
    first, count = segments[:, 0], segments[:, 1]
    return Intervals(clock.times(first), clock.times(first + count))
