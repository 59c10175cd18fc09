"""Dataset: a corpus of prepared sessions, here or in the cloud.

It is opened from its catalogue, one file. A session's arrays are decoded once, whole, and kept
read-only in a byte-budgeted cache; every slice after that is a view of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from neurobrick.catalog import Catalog
from neurobrick.catalog.globs import matching
from neurobrick.dataset.cache import Cache
from neurobrick.dataset.session import Selection, Session
from neurobrick.dataset.slice import Slice
from neurobrick.dataset.slice_batch import SliceBatch, cut
from neurobrick.dataset.windows import Order, Rank, Windows
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.storage import open_storage
from neurobrick.store import Index, SessionStore

FloatArray = NDArray[np.float64]

DEFAULT_CACHE_BYTES = 4 * 2**30


class Dataset:
    """A corpus at `root`: a folder that `neurobrick prepare` wrote, or the URL of a copy of one
    (`s3://bucket/corpus`, `https://host/corpus`).

    Opening reads the catalogue alone. `cache_bytes` bounds the decoded arrays that are kept in
    memory; `disk_cache_bytes`, 20 GiB for None, the files of corpora elsewhere that are kept on
    this machine, in the user's cache folder or in NEUROBRICK_CACHE_DIR.

    Raises StoreError when there is no corpus at `root`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        disk_cache_bytes: int | None = None,
    ) -> None:
        self.root = root
        self._storage = open_storage(root, disk_cache_bytes)
        self._cache = Cache(cache_bytes)
        self._narrow_to(Catalog(self._storage))

    def matching(self, globs: Iterable[str]) -> list[str]:
        """The ids of the sessions that match any of `globs`, as `000128/*`, in the dataset's order.

        Raises FilterError for a glob that matches none.
        """
        return matching(self.sessions, globs)

    def _narrow_to(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._ids: dict[str, None] = dict.fromkeys(catalog.sessions["session"].to_pylist())
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
        found = self._open.get(session_id)
        if found is None:
            if session_id not in self._ids:
                raise StoreError(
                    f"{self.root} has no session {session_id!r}; neurobrick list --root {self.root}"
                    " names those it has"
                )
            found = self._open[session_id] = self._session(session_id)
        return found

    def slice(self, session_id: str, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)`, in seconds, of a session; reads nothing yet."""
        return self[session_id].slice(t0, t1)

    def slices(
        self, session_ids: Sequence[str], starts: ArrayLike, length: ArrayLike
    ) -> SliceBatch:
        """Many windows at once: `[starts[k], starts[k] + length)` of `session_ids[k]`; `length` in
        seconds may also be given for each.

        Flat arrays and offsets, in the order asked for.
        """
        sessions = {session_id: self[session_id] for session_id in dict.fromkeys(session_ids)}
        return cut(sessions, session_ids, starts, length)

    def windows(
        self,
        split: str | None = None,
        *,
        length: float = 1.0,
        order: Order = "random",
        step: float | None = None,
        within: Mapping[str, Intervals] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Windows:
        """Windows of `length` seconds that lie wholly inside a split (all that was recorded, for
        None), and `within` sets of time for each session where these are given.

        `order` is `random`, for training; `sequential`, every `step` seconds; or `trials`: whole
        trials, each as long as it is, but for those that leave the split. Epochs are drawn from
        `seed`, and shared among `world_size` processes of which this is `rank`:

            for batch in ds.windows("train").batches(256, epoch=3):
                spikes = ds.slices(batch.session_ids, batch.starts, batch.lengths)

        Reads the catalogue alone. Raises ValueError when no window fits anywhere.
        """
        places = {}
        for session_id in self._ids:
            times = self.catalog.times(session_id)
            inside = times["domain"] if split is None else times.get(split, Intervals.empty())
            places[session_id] = inside & times["domain"]
            if within is not None:
                places[session_id] &= within.get(session_id, Intervals.empty())
        if order == "trials":
            stretches = self._trials(places)
        else:
            stretches = {name: (place.start, place.stop) for name, place in places.items()}
        share = Rank(rank, world_size)
        return Windows.lay(stretches, order=order, length=length, step=step, seed=seed, rank=share)

    def select(
        self,
        sessions: str | pc.Expression | None = None,
        *,
        units: str | pc.Expression | None = None,
        trials: str | pc.Expression | None = None,
        behavior: str | pc.Expression | None = None,
    ) -> Dataset:
        """The part of this dataset that matches a filter for each table of its catalogue, such as
        `units='area == "M1" and rate_hz > 1'`.

        It has the sessions with rows that match in every table that is named, and of these tables
        only the rows that match: slices hold the spikes of the selected units alone, whose rows are
        counted anew, and the selected trials and behavior.

        Raises ValueError for a filter that cannot be answered; see `neurobrick.catalog.filters`.
        """
        narrowed = copy(self)
        narrowed._narrow_to(
            self.catalog.select(sessions=sessions, units=units, trials=trials, behavior=behavior)
        )
        return narrowed

    def _trials(self, places: Mapping[str, Intervals]) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Starts and stops of each session's trials that lie wholly in its place."""
        trials = self.catalog.trials
        owner = pc.index_in(trials["session"], value_set=pa.array(list(places), pa.string()))
        rows = owner.to_numpy()
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(places) + 1)).tolist()
        start, stop = (
            trials[edge].to_numpy().astype(np.float64)[order] for edge in ("start", "stop")
        )
        found = {}
        for (name, place), (a, b) in zip(places.items(), pairwise(bounds), strict=True):
            inside = place.covers(start[a:b], stop[a:b])
            found[name] = start[a:b][inside], stop[a:b][inside]
        return found

    def _session(self, session_id: str) -> Session:
        catalog = self.catalog
        index = catalog.store(session_id)
        names = catalog.names(session_id)
        selection = Selection(
            units=catalog.rows("units", session_id),
            trials=catalog.rows("trials", session_id),
            behavior=None if names is None else tuple(names),
        )
        # A store may have been replaced since the catalogue was made. Here that is cheap to see;
        # elsewhere it shows when the first chunk is not what the catalogue says.
        here = not self._storage.is_remote
        if here and selection.is_all and not index.is_current(self._storage):
            store = SessionStore(self._storage, index.path)
        else:
            store = SessionStore(self._storage, index.path, index, self._locate(session_id))
        return Session(session_id, store, self._cache, selection)

    def _locate(self, session_id: str) -> Callable[[], Index] | None:
        """Where a session is by the catalogue as it is now, which a push may have replaced."""
        if not self._storage.is_remote:
            return None
        return lambda: Catalog(self._storage).store(session_id)

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r}, {len(self)} sessions)"
