"""Threads of a CPU: each computes a share of a batch by itself.

Torch would divide every single operation among its threads instead. Most operations of a small
decoder are so short that the threads would spend more time waiting for each other than computing.
And where another process takes a core for a while, all threads would wait for that core at every
operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class CpuThreads:
    """`count` threads. Torch uses no further threads inside of each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "neurobrick-cpu")

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function(item)` of each of `items`, in their order.

        Until the last result is taken, torch uses one thread in the whole process: the number of
        its threads cannot be set for some of them alone.
        """
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from self._pool.map(function, items)
        finally:
            torch.set_num_threads(usual)
