"""A cache of decoded samples with a budget in bytes; what was used longest ago goes first."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Any
from weakref import WeakSet

from neurobrick.dataset.timed_rows import TimedRows


class Cache:
    """Keeps what `get` made until `budget` bytes are held.

    Safe to share among threads: of several that miss the same key at once, one makes it and the
    others wait. In a forked child what is kept is shared with the parent, until either drops it.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, TimedRows] = OrderedDict()
        self._being_made: dict[Hashable, Future[TimedRows]] = {}
        _caches.add(self)

    def get(self, key: Hashable, make: Callable[[], TimedRows]) -> TimedRows:
        """What is kept under `key`, made now if need be. Raises what `make` raises."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            awaited = self._being_made.get(key)
            if awaited is None:
                mine = self._being_made[key] = Future[TimedRows]()
        if awaited is not None:
            return awaited.result()
        try:
            samples = make()
        except BaseException as error:
            with self._lock:
                del self._being_made[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._being_made[key]
            self._keep(key, samples)
        mine.set_result(samples)
        return samples

    def _keep(self, key: Hashable, samples: TimedRows) -> None:
        self._kept[key] = samples
        self.held += samples.nbytes
        # The newest stays, even if it alone exceeds the budget: its reader holds it anyway.
        while self.held > self.budget and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self.held -= dropped.nbytes

    def after_fork(self) -> None:
        """In a forked child: forget the locks and the work of threads that are not here."""
        self._lock = Lock()
        self._being_made = {}
        # A thread may have been amid a change when the process was forked.
        self.held = sum(samples.nbytes for samples in self._kept.values())

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process starts empty."""
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["budget"])  # type: ignore[misc]


_caches: WeakSet[Cache] = WeakSet()


def _after_fork() -> None:
    for cache in _caches:
        cache.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
