"""The threads that decode chunks: one pool in each process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from neurobrick.storage.per_process import PerProcess

T = TypeVar("T")

MOST_THREADS = 8  # decoding is bound by the bandwidth of memory beyond a few cores

_pool = PerProcess(
    lambda: ThreadPoolExecutor(
        min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="neurobrick-decode"
    )
)


def run_all(tasks: Iterable[Callable[[], T]]) -> list[T]:
    """The results of `tasks`, in order. Raises the first exception once all tasks have ended."""
    futures = [_pool.get().submit(task) for task in tasks]
    results, failure = [], None
    for future in futures:
        try:
            results.append(future.result())
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return results
