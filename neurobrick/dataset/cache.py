"""A cache of decoded arrays with a budget in bytes. The least recently used rows leave first."""

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
    """Keeps rows that `get` made, `budget` bytes of them.

    Threads may share a cache. When several ask for an absent key at once, one makes the rows and
    the others wait. A forked child shares the memory of the rows with its parent.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget  # bytes
        self.held = 0  # bytes
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, TimedRows] = OrderedDict()
        self._being_made: dict[Hashable, Future[TimedRows]] = {}
        _caches.add(self)

    def get(self, key: Hashable, make: Callable[[], TimedRows]) -> TimedRows:
        """The rows under `key`, made by `make` if they are not kept. Raises what `make` raises."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            other_thread = self._being_made.get(key)
            if other_thread is None:
                future = self._being_made[key] = Future[TimedRows]()
        if other_thread is not None:
            return other_thread.result()
        try:
            rows = make()
        except BaseException as error:
            with self._lock:
                del self._being_made[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._being_made[key]
            self._keep(key, rows)
        future.set_result(rows)
        return rows

    def _keep(self, key: Hashable, rows: TimedRows) -> None:
        self._kept[key] = rows
        self.held += rows.nbytes
        # The newest rows stay, even if they alone exceed the budget: the caller holds them anyway.
        while self.held > self.budget and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self.held -= dropped.nbytes

    def after_fork(self) -> None:
        """In a forked child: make a new lock, and forget the work of threads of the parent."""
        self._lock = Lock()
        self._being_made = {}
        # The fork may have happened while a thread was changing it.
        self.held = sum(rows.nbytes for rows in self._kept.values())

    def __getstate__(self) -> dict[str, Any]:
        """The budget alone: a copy in another process starts empty."""
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["budget"])  # type: ignore[misc]


_caches: WeakSet[Cache] = WeakSet()


def _after_fork() -> None:
    for cache in _caches:
        cache.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
