"""A team: the cores of a CPU, each of which computes a share of a batch by itself.

Torch would share out every single operation instead. Most operations of a small decoder are so
short that its threads would then spend more time on waiting for each other than on computing; and
where another process takes a core for a while, all would wait for that one, at each operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class CpuThreads:
    """`size` threads, on each of which torch uses no others."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(size, "neurobrick-team")

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What `function` gives for each of `items`, in their order. Until the last one is taken,
        torch uses one thread wherever it is called: the number is common to all of a process."""
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from self._pool.map(function, items)
        finally:
            torch.set_num_threads(usual)
