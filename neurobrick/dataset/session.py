"""Session: one recording session. Arrays are decoded once and kept in the dataset's cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.dataset.cache import Cache
from neurobrick.dataset.overlap import Overlap
from neurobrick.dataset.slice import Slice
from neurobrick.dataset.timed_rows import ChunkedRows, Pair, TimedRows, WholeRows
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS, SessionMetadata
from neurobrick.store import Chunks, SessionStore

FloatArray = NDArray[np.float64]

# Beyond so many bytes of spikes or of a behavior in the store, what is elsewhere is fetched chunk
# by chunk as windows need it: about 30 million spikes, or two seconds at 250 Mbit/s.
FETCHED_WHOLE = 2**26


@dataclass(frozen=True)
class Selection:
    """What of a session a query kept: rows of its units and trials tables, names of its behavior;
    None where it kept all."""

    units: NDArray[np.int64] | None = None
    trials: NDArray[np.int64] | None = None
    behavior: tuple[str, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether it kept the whole session."""
        return self.units is None and self.trials is None and self.behavior is None


class Session:
    """One recording session. Times are seconds on its own clock."""

    def __init__(
        self,
        session_id: str,
        store: SessionStore,
        cache: Cache,
        selection: Selection | None = None,
    ) -> None:
        self._id = session_id
        self._store = store
        self._cache = cache
        self._selection = selection or Selection()
        self._overlaps: dict[str, Overlap] = {}
        kept = self._selection.units
        self._token = None if kept is None else kept.tobytes()  # of the spikes in the cache

    @property
    def id(self) -> str:
        """`<dataset>/<file name without its ending and its modality tail>`."""
        return self._id

    @cached_property
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
        return _rows(self._store.units(), self._selection.units)

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
        """When decoding is scored; the domain, unless the dataset's spec says otherwise."""
        return self._times["evaluation"]

    @cached_property
    def splits(self) -> Mapping[str, Intervals]:
        """Train, valid and test."""
        return {name: self._times[name] for name in SPLITS if name in self._times}

    @cached_property
    def behavior_names(self) -> tuple[str, ...]:
        """The names of the behaviors, sorted."""
        kept = self._selection.behavior
        return tuple(n for n in self._store.behavior_names() if kept is None or n in kept)

    @cached_property
    def behavior(self) -> Mapping[str, BehaviorInfo]:
        """What behavior there is, by name."""
        segments = self._store.segments()
        return {name: self._describe(name, segments.get(name)) for name in self.behavior_names}

    @cached_property
    def intervals(self) -> Mapping[str, pa.Table]:
        """The interval tables, by name; columns `start` and `stop` are seconds."""
        tables = {name: self._store.interval_table(name) for name in self._store.interval_names()}
        if "trials" in tables:
            tables["trials"] = _rows(tables["trials"], self._selection.trials)
        return tables

    @cached_property
    def n_units(self) -> int:
        """Rows of the units table."""
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
        """Spikes in the session."""
        kept = self._selection.units
        return self._store.n_spikes if kept is None else int(self._store.spike_counts()[kept].sum())

    def slice(self, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)` in seconds; reads nothing yet. Raises ValueError if t1 < t0."""
        if not t0 <= t1:
            raise ValueError(f"a window needs t0 <= t1, not [{t0}, {t1})")
        return Slice(self, float(t0), float(t1))

    def overlap(self, name: str) -> Overlap:
        """What tells the rows of an interval table that overlap a window. Raises KeyError."""
        if name not in self._overlaps:
            self._overlaps[name] = Overlap(self.intervals[name])
        return self._overlaps[name]

    def spike_arrays(self) -> tuple[FloatArray, NDArray[np.int32]]:
        """Every spike: times (n,) in seconds, sorted, and unit rows (n,); read-only."""
        return self.spike_samples().whole()

    def behavior_arrays(self, name: str) -> tuple[FloatArray, NDArray[np.floating]]:
        """Every sample: timestamps (n,) in seconds and values (n, d) in SI; read-only.

        Raises KeyError when the session has no behavior of that name.
        """
        return self.behavior_samples(name).whole()

    def spike_samples(self) -> TimedRows:
        """The spikes by time: rows of the units table at times in seconds."""
        return self._cache.get((self._id, self._token), self._load_spikes)

    def behavior_samples(self, name: str) -> TimedRows:
        """A behavior by time. Raises KeyError when the session has none of that name."""
        return self._cache.get((self._id, "behavior", name), partial(self._load_behavior, name))

    def _load_spikes(self) -> TimedRows:
        store = self._store
        if self._too_large(*store.spike_bytes()):
            return self._chunked((self._token,), store.spike_chunks(), self._spikes)
        store.read_ahead()
        return WholeRows(*self._spikes(None))

    def _load_behavior(self, name: str) -> TimedRows:
        if name not in self.behavior_names:
            there = ", ".join(self.behavior_names) or "none"
            raise KeyError(f"{self.id} has no behavior {name!r}; there is: {there}")
        store, read = self._store, partial(self._store.behavior, name)
        if self._too_large(*store.behavior_bytes(name)):
            return self._chunked(("behavior", name), store.behavior_chunks(name), read)
        return WholeRows(*read())

    def _too_large(self, decoded: int, encoded: int) -> bool:
        """Whether arrays of so many bytes, in memory and in the store, are read by chunks."""
        if decoded > self._cache.budget // 2:
            return True
        return self._store.is_remote and encoded > FETCHED_WHOLE

    def _chunked(
        self, key: tuple[Hashable, ...], starts: FloatArray, read: Callable[[Chunks], Pair]
    ) -> ChunkedRows:
        def load(k: int) -> Pair:
            return self._cache.get(
                (self._id, *key, k), lambda: WholeRows(*read(slice(k, k + 1)))
            ).whole()

        return ChunkedRows(starts, load, lambda: read(None))

    def _spikes(self, chunks: Chunks) -> Pair:
        """Times and unit rows, of the units that the selection kept."""
        times, units = self._store.spikes(chunks)
        kept = self._selection.units
        if kept is None:
            return times, units
        row = np.full(int(self._store.spike_counts().size), -1, np.int32)
        row[kept] = np.arange(len(kept), dtype=np.int32)
        mine = row[units]
        inside = mine >= 0
        times, units = times[inside], mine[inside]
        times.flags.writeable = units.flags.writeable = False
        return times, units

    @cached_property
    def _times(self) -> Mapping[str, Intervals]:
        return self._store.times()

    def _describe(self, name: str, segments: NDArray[np.int64] | None) -> BehaviorInfo:
        attributes, shape, clock = self._store.behavior_info(name)
        return BehaviorInfo(
            name=name,
            shape=shape,
            rate=clock.rate if clock else None,
            segments=Intervals.empty() if segments is None else _times(clock, segments),
            unit=attributes["unit"],
            source=attributes["source"],
            source_unit=attributes["source_unit"],
            columns=tuple(attributes["columns"]),
            description=attributes["description"],
        )

    def __repr__(self) -> str:
        return f"Session({self.id!r}, {self.n_units} units, {self.domain.duration:.1f} s)"


def _rows(table: pa.Table, kept: NDArray[np.int64] | None) -> pa.Table:
    return table if kept is None else table.take(kept)


def _times(clock: Clock | None, segments: NDArray[np.int64]) -> Intervals:
    """Gap-free stretches: each sample lasts one period."""
    assert clock is not None  # a series has segments where it has a clock
    first, count = segments[:, 0], segments[:, 1]
    return Intervals(clock.times(first), clock.times(first + count))
