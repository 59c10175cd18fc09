"""Session: one recording session, and what it holds. `loading` says how its arrays are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.dataset.cache import Cache
from neurobrick.dataset.loading import Loader, check_rows
from neurobrick.dataset.named import Named, resolved
from neurobrick.dataset.overlap import OverlapSearch
from neurobrick.dataset.slice import Slice, window_edges
from neurobrick.dataset.timed_rows import TimedRows
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS, SessionMetadata
from neurobrick.store import SessionStore

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """The part of a session that a query kept. None means all."""

    units: NDArray[np.int64] | None = None  # (kept,) rows of the units table
    trials: NDArray[np.int64] | None = None  # (kept,) rows of the trials table
    behavior: tuple[str, ...] | None = None  # names

    @property
    def is_all(self) -> bool:
        """Whether the query kept the whole session."""
        return self.units is None and self.trials is None and self.behavior is None


class Session:
    """One recording session: its spikes, units, behavior, intervals and metadata.

        session = ds["000128/sub-Jenkins_ses-full"]
        session.units                     # the units table, a row a unit
        session.slice(12.0, 13.0).spikes  # the spikes of one second

    All times are seconds on the session's own clock. The arrays are decoded at first use and kept
    in the cache of the dataset. They are read-only.

    Every property and method raises StoreError when the store is damaged, or when it was replaced
    after the session had given out some of its data.
    """

    def __init__(
        self,
        session_id: str,
        store: SessionStore,
        cache: Cache,
        selection: Selection | None = None,
    ) -> None:
        self._id = session_id
        self._store = store
        self._selection = selection or Selection()
        self._loader = Loader(session_id, store, cache, self._selection.units)
        self._overlap_searches: dict[str, OverlapSearch] = {}

    @property
    def id(self) -> str:
        """`<dataset>/<file name without its ending and its modality tail>`."""
        return self._id

    @cached_property
    def metadata(self) -> SessionMetadata:
        """Subject, lab, source file, and notes on what was repaired or left out."""
        return self._store.metadata

    @property
    def target(self) -> str | None:
        """Name of the behavior that decoders read by default; None if the session has none."""
        return self.metadata.target

    @cached_property
    def units(self) -> pa.Table:
        """The units table, one row a unit, with the columns of the source file."""
        return self._selected(self._store.units(), self._selection.units)

    @property
    def domain(self) -> Intervals:
        """When the session was recorded."""
        return self._times["domain"]

    @property
    def span(self) -> tuple[float, float]:
        """First and last instant of the domain, in seconds."""
        return self.domain.span

    @property
    def evaluation(self) -> Intervals:
        """When decoding is scored; the whole domain unless the dataset's registry entry says
        otherwise."""
        return self._times["evaluation"]

    @cached_property
    def splits(self) -> Mapping[str, Intervals]:
        """The times of `train`, `valid` and `test`. They are disjoint."""
        times = {name: self._times[name] for name in SPLITS if name in self._times}
        return Named(times, self.id, "split")

    @cached_property
    def behavior_names(self) -> tuple[str, ...]:
        """The names of the behaviors, sorted."""
        kept = self._selection.behavior
        return tuple(n for n in self._store.behavior_names() if kept is None or n in kept)

    @cached_property
    def behavior(self) -> Mapping[str, BehaviorInfo]:
        """Shape, rate, unit and columns of each behavior, by name. Reads no samples."""
        segments = self._store.segments()
        infos = {name: self._describe(name, segments.get(name)) for name in self.behavior_names}
        return Named(infos, self.id, "behavior")

    @cached_property
    def intervals(self) -> Mapping[str, pa.Table]:
        """The interval tables, such as `trials`, by name.

        The columns `start` and `stop` are float64 seconds; the others are those of the source file.
        """
        tables = {name: self._store.interval_table(name) for name in self._store.interval_names()}
        if "trials" in tables:
            tables["trials"] = self._selected(tables["trials"], self._selection.trials)
        return Named(tables, self.id, "interval table")

    @cached_property
    def n_units(self) -> int:
        """The number of units."""
        return int(self.units.num_rows)

    @property
    def has_all_units(self) -> bool:
        """Whether no unit of the store was left out by `Dataset.select`."""
        kept = self._selection.units
        return kept is None or len(kept) == len(self._store.spike_counts())

    @cached_property
    def spike_counts(self) -> NDArray[np.int64]:
        """Number of spikes of each unit, (n_units,). Reads no spikes."""
        counts = self._store.spike_counts().astype(np.int64)
        return counts if self._selection.units is None else counts[self._selection.units]

    @property
    def n_spikes(self) -> int:
        """The number of spikes of all units."""
        kept = self._selection.units
        if kept is None:
            return self._store.n_spikes
        counts = self._store.spike_counts()
        check_rows(kept, len(counts), self._id)
        return int(counts[kept].sum())

    def slice(self, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)`, in seconds. Reads nothing yet.

        The window may reach beyond the recording; `Slice.domain` is the part that was recorded.

        Raises ValueError unless `t0 <= t1`.
        """
        return Slice(self, *window_edges(t0, t1))

    def spike_arrays(self) -> tuple[FloatArray, NDArray[np.int32]]:
        """Every spike: times float64 (n,) in seconds, sorted, and int32 (n,) rows of `units`."""
        return self.spike_rows().whole()

    def behavior_arrays(self, name: str) -> tuple[FloatArray, NDArray[np.floating]]:
        """Every sample of a behavior: timestamps float64 (n,) in seconds, sorted, and values (n, d)
        in SI.

        Raises KeyError when the session has no behavior called `name`.
        """
        return self.behavior_rows(name).whole()

    def spike_rows(self) -> TimedRows:
        """The spikes by time: int32 rows of `units` at times in seconds."""
        return self._loader.spikes()

    def behavior_rows(self, name: str) -> TimedRows:
        """A behavior by time. Raises KeyError when the session has none called `name`."""
        if name not in self.behavior_names:
            name = resolved(name, self.behavior_names, self._id, "behavior")
        return self._loader.behavior(name)

    def overlapping(self, name: str, t0: float, t1: float) -> pa.Table:
        """The rows of the interval table `name` that overlap `[t0, t1)`, in seconds.

        Raises KeyError when the session has no such table.
        """
        search = self._overlap_searches.get(name)
        if search is None:
            search = self._overlap_searches[name] = OverlapSearch(self.intervals[name])
        return search.rows(t0, t1)

    @cached_property
    def _times(self) -> Mapping[str, Intervals]:
        return self._store.times()

    def _describe(self, name: str, segments: NDArray[np.int64] | None) -> BehaviorInfo:
        attributes, shape, clock = self._store.behavior_info(name)
        return BehaviorInfo(
            name=name,
            shape=shape,
            rate=clock.rate if clock else None,
            segments=Intervals.empty() if segments is None else _stretches(clock, segments),
            unit=attributes["unit"],
            source=attributes["source"],
            source_unit=attributes["source_unit"],
            columns=tuple(attributes["columns"]),
            description=attributes["description"],
        )

    def _selected(self, table: pa.Table, rows: NDArray[np.int64] | None) -> pa.Table:
        if rows is None:
            return table
        check_rows(rows, table.num_rows, self._id)
        return table.take(rows)

    def __repr__(self) -> str:
        return f"Session({self.id!r}, {self.n_units} units, {self.domain.duration:.1f} s)"


def _stretches(clock: Clock | None, segments: NDArray[np.int64]) -> Intervals:
    """The times of gap-free `segments` (k, 2), first tick and count; a sample lasts one period."""
    assert clock is not None  # a series has segments where it has a clock
    first, count = segments[:, 0], segments[:, 1]
    return Intervals(clock.times(first), clock.times(first + count))
