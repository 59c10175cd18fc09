"""Dataset: a corpus of prepared sessions, in a folder of this machine or in the cloud.

Opening reads the catalogue, one file. The arrays of a session are decoded whole at their first use
and kept read-only in a cache with a budget in bytes. Every later slice is a view of them.
"""

from __future__ import annotations

import os
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
from neurobrick.catalog.names import same_name
from neurobrick.dataset.cache import Cache
from neurobrick.dataset.session import Selection, Session
from neurobrick.dataset.slice import Slice
from neurobrick.dataset.slice_batch import SliceBatch, slice_many
from neurobrick.dataset.windows import Order, Rank, Windows, check_order
from neurobrick.errors import StoreError, listed
from neurobrick.intervals import Intervals
from neurobrick.schema import SPLITS
from neurobrick.storage import open_storage
from neurobrick.store import Index, SessionStore

FloatArray = NDArray[np.float64]

DEFAULT_CACHE_BYTES = 4 * 2**30


class Dataset:
    """A corpus of prepared sessions at `root`.

        ds = Dataset("data")                            # what `neurobrick prepare` wrote
        ds = Dataset("s3://bucket/corpus")              # what `neurobrick push` copied there
        session = ds["000128/sub-Jenkins_ses-full"]
        window = ds.slice(session.id, 12.0, 13.0)       # views of its arrays
        m1 = ds.select(units='area == "M1" and rate_hz > 1')

    `root` is a folder, or a URL: `s3://`, `gs://`, `az://`, `https://`, `file://`. A relative
    folder is made absolute now, so that a later change of the working directory does not matter.

    `cache_bytes` limits the memory for decoded arrays. `disk_cache_bytes` limits the disk space for
    files of a remote corpus, in the user's cache folder or in NEUROBRICK_CACHE_DIR; None means
    20 GiB.

    A Dataset behaves as a mapping of session ids to sessions. It can be pickled, and shared among
    threads.

    Raises StoreError when there is no corpus at `root`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        disk_cache_bytes: int | None = None,
    ) -> None:
        self.root = _absolute(root)
        self._storage = open_storage(self.root, disk_cache_bytes)
        self._cache = Cache(cache_bytes)
        self._narrow_to(Catalog(self._storage))

    def matching(self, globs: str | Iterable[str]) -> list[str]:
        """The ids of the sessions that match any of `globs`, such as `000128/*`, in the dataset's
        order; see `neurobrick.matching`.

        Raises FilterError for a glob that matches no session.
        """
        return matching(self.sessions, globs)

    def _narrow_to(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._ids: dict[str, None] = dict.fromkeys(catalog.sessions["session"].to_pylist())
        self._open: dict[str, Session] = {}

    @property
    def sessions(self) -> list[str]:
        """The ids of the sessions, sorted."""
        return list(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._ids or same_name(session_id, self._ids) is not None

    def __getitem__(self, session_id: str) -> Session:
        """The session called `session_id`, also where its name is in another Unicode form.

        Raises StoreError when there is none.
        """
        session = self._open.get(session_id)
        if session is None:
            known = self._written(session_id)
            session = self._open[session_id] = (
                self._session(known) if known == session_id else self[known]
            )
        return session

    def slice(self, session_id: str, t0: float, t1: float) -> Slice:
        """The window `[t0, t1)`, in seconds, of a session. Reads no arrays yet.

        Raises StoreError when there is no such session, ValueError unless `t0 <= t1`.
        """
        return self[session_id].slice(t0, t1)

    def slices(
        self, session_ids: Sequence[str], starts: ArrayLike, length: ArrayLike
    ) -> SliceBatch:
        """Many windows at once: window k is `[starts[k], starts[k] + length)` of `session_ids[k]`.

        `starts` (windows,) and `length` are seconds. `length` is one for all windows, or one for
        each. The result holds flat arrays and offsets, in the order of `session_ids`.

        Raises StoreError when there is no such session, ValueError when the arguments differ in
        length, a length is negative or a number is NaN.
        """
        sessions = {session_id: self[session_id] for session_id in dict.fromkeys(session_ids)}
        return slice_many(sessions, session_ids, starts, length)

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
        """Windows of `length` seconds that lie wholly inside a split.

            for batch in ds.windows("train").batches(256, epoch=3):
                spikes = ds.slices(batch.session_ids, batch.starts, batch.lengths)

        `split` is `train`, `valid` or `test`; None means all that was recorded. `within` maps
        session ids to times; windows then lie inside these times, too, and sessions that it does
        not name have no windows.

        `order` is one of:

        - `random`, for training: epochs are drawn from `seed`;
        - `sequential`: a window every `step` seconds, `length` if None;
        - `trials`: whole trials, each with its own length, if they lie inside the split.

        `world_size` processes share each epoch; this one is number `rank`.

        Reads the catalogue alone. Raises ValueError when no window fits anywhere, or for a value
        that is not listed here; StoreError when `within` names a session that there is not.
        """
        check_order(order)
        if split is not None and split not in SPLITS:
            raise ValueError(f"there is no split {split!r}; there is: {listed(SPLITS)}")
        times_by_session = self._places(split, within)
        if order == "trials":
            stretches = self._trials(times_by_session)
        else:
            stretches = {id: (times.start, times.stop) for id, times in times_by_session.items()}
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
        """The part of this dataset that matches filters on the tables of its catalogue.

            ds.select('subject == "Jenkins"', units='area == "M1" and rate_hz > 1')

        A session is kept if every filter matches at least one of its rows. Of its units, trials and
        behavior only the rows that match are kept: slices then hold the spikes of the selected
        units, numbered anew from 0. The cache of arrays is shared with this dataset.

        Raises FilterError for a filter that cannot be read or does not fit its table; the language
        of filters is in `neurobrick.catalog.filters`.
        """
        narrowed = copy(self)
        narrowed._narrow_to(
            self.catalog.select(sessions=sessions, units=units, trials=trials, behavior=behavior)
        )
        return narrowed

    def _written(self, session_id: str) -> str:
        """The id of the session that `session_id` means, as the catalogue writes it."""
        known = session_id if session_id in self._ids else same_name(session_id, self._ids)
        if known is None:
            raise StoreError(
                f"{self.root} has no session {session_id!r}; neurobrick list --root {self.root}"
                " names those it has"
            )
        return known

    def _places(
        self, split: str | None, within: Mapping[str, Intervals] | None
    ) -> dict[str, Intervals]:
        """The times of each session in which windows may lie."""
        if within is not None and not isinstance(within, Mapping):
            raise TypeError(f"within maps session ids to Intervals, unlike {type(within).__name__}")
        limits = None if within is None else {self._written(id): t for id, t in within.items()}
        places = {}
        for session_id in self._ids:
            times = self.catalog.times(session_id)
            place = times["domain"]
            if split is not None:
                place = times.get(split, Intervals.empty()) & place
            if limits is not None:
                place = place & limits.get(session_id, Intervals.empty())
            places[session_id] = place
        return places

    def _trials(self, places: Mapping[str, Intervals]) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Starts and stops of each session's trials that lie wholly inside its place."""
        trials = self.catalog.trials
        owner = pc.index_in(trials["session"], value_set=pa.array(list(places), pa.string()))
        rows = owner.to_numpy()
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], np.arange(len(places) + 1)).tolist()
        start, stop = (
            trials[edge].to_numpy().astype(np.float64)[order] for edge in ("start", "stop")
        )
        edges = {}
        for (name, place), (a, b) in zip(places.items(), pairwise(bounds), strict=True):
            inside = place.covers(start[a:b], stop[a:b])
            edges[name] = start[a:b][inside], stop[a:b][inside]
        return edges

    def _session(self, session_id: str) -> Session:
        catalog = self.catalog
        index = catalog.store(session_id)
        names = catalog.names(session_id)
        selection = Selection(
            units=catalog.rows("units", session_id),
            trials=catalog.rows("trials", session_id),
            behavior=None if names is None else tuple(names),
        )
        # A writer may have replaced the store since the catalogue was made. In a folder, that is
        # cheap to see now. Elsewhere, it shows when a chunk does not match the catalogue's index.
        is_local = not self._storage.is_remote
        if is_local and selection.is_all and not index.is_current(self._storage):
            store = SessionStore(self._storage, index.path)
        else:
            store = SessionStore(self._storage, index.path, index, self._locate(session_id))
        if not selection.is_all:
            store.bind(index.version)  # rows were selected from the tables of this version
        return Session(session_id, store, self._cache, selection)

    def _locate(self, session_id: str) -> Callable[[], Index] | None:
        """Gives the index that a remote session has now: a push may have replaced its store."""
        if not self._storage.is_remote:
            return None

        def locate() -> Index:
            catalog = Catalog(self._storage)
            if session_id not in catalog:
                raise StoreError(f"{self.root} no longer has the session {session_id!r}")
            return catalog.store(session_id)

        return locate

    def __repr__(self) -> str:
        return f"Dataset({str(self.root)!r}, {len(self)} sessions)"


def _absolute(root: str | Path) -> str | Path:
    """A URL as it is, a folder as an absolute path. Raises StoreError for what can be no path."""
    if "://" in str(root):
        return root
    path = Path(root).absolute()
    try:
        valid = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise StoreError(f"{str(root)!r} is no name of a folder")
    return path
