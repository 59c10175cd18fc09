"""A cache of decoded arrays with a budget in bytes; what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], ...]


class Cache:
    """Keeps what `get` made until `budget` bytes are held; safe to share among threads."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, Arrays] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Arrays]) -> Arrays:
        """What is kept under `key`, made now if need be.

        Two threads that miss at once both make it; one of the two is kept.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        arrays = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = arrays
                self.held += _bytes(arrays)
            # The newest stays, even if it alone exceeds the budget: its reader holds it anyway.
            while self.held > self.budget and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self.held -= _bytes(dropped)
            return arrays

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process starts empty."""
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["budget"])  # type: ignore[misc]


def _bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)
