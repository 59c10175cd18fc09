"""What a process must not share with its parent after a fork: locks, threads, connections.

A forked child has the memory of its parent, but none of its threads. A lock that another thread
held stays held in the child for ever, and a pool of threads never answers. So each process makes
its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Not the process id: the system gives the id of a process that has ended to another one.
_forks = 0  # between the first process of Python and this one
_inherited: frozenset[str] = frozenset()  # modules that an ancestor had loaded when it forked


class PerProcess(Generic[T]):
    """One object in each process, made by `make` when it is first asked for.

    In a forked child it is made anew. Threads that ask at once all get the same object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._objects: dict[int, T] = {}  # by number of forks; of this process and its ancestors

    def get(self) -> T:
        """The object of this process."""
        try:
            return self._objects[_forks]
        except KeyError:
            # setdefault is one step: of two threads, the slower takes the faster one's object.
            return self._objects.setdefault(_forks, self._make())


def loaded_before_fork(module: str) -> bool:
    """Whether a parent of this process had loaded `module` when it forked."""
    return module in _inherited


def _after_fork() -> None:
    global _forks, _inherited
    _forks += 1
    _inherited |= sys.modules.keys()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
