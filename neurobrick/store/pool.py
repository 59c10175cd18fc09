"""The threads that decode chunks: one pool a process, made anew after a fork."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MOST_THREADS = 8  # decoding is bound by memory's bandwidth beyond a few cores

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


def run_all(tasks: Iterable[Callable[[], T]]) -> list[T]:
    """What the tasks give, in order; the first exception of one is raised when all have ended."""
    futures = [_pool().submit(task) for task in tasks]
    found, failed = [], None
    for future in futures:
        try:
            found.append(future.result())
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return found


def _pool() -> ThreadPoolExecutor:
    pid = os.getpid()
    if pid not in _pools:
        _pools[pid] = ThreadPoolExecutor(
            min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="neurobrick-decode"
        )
    return _pools[pid]
