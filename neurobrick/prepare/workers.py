"""Where jobs are carried out: in this process, in processes of this machine, or on a Dask cluster.

Each is a `Submit`: given a function, a job and the function's other arguments, it returns a future.
A file that makes a library crash, or loop, takes one process of this machine with it and no other
file.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from numcodecs import blosc

from neurobrick.errors import NeurobrickError
from neurobrick.prepare.plan import Job

Result = TypeVar("Result")
Submit = Callable[..., "Future[Any]"]

# Processor time for one file: some hundred times what preparing one takes.
SECONDS = 8.0
SECONDS_PER_BYTE = 1e-6


def here(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Carry it out at once, in this process."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def processes(count: int) -> Iterator[Submit]:
    """`count` processes of this machine. They end when this one does, however it does."""
    from pebble import ProcessPool

    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(count, initializer=_attend, context=context)
    try:
        yield lambda function, job, *more: pool.submit(_limited, None, function, job, *more)
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


@contextmanager
def dask_cluster(address: str) -> Iterator[Submit]:
    """The cluster whose scheduler is at `address`, as tcp://host:8786.

    Its workers need neurobrick, and the same folders under the same paths. Raises NeurobrickError
    when nobody answers there, or Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise NeurobrickError("--scheduler needs Dask: pip install 'neurobrick[dask]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise NeurobrickError(
            f"no Dask scheduler answers at {address} ({error}): start one with dask scheduler"
        ) from error
    # A file is prepared to the same store whoever does it, so a lost worker costs nothing.
    with client, client.get_executor(retries=2) as executor:
        yield executor.submit


def died(error: Exception) -> bool:
    """Whether a future failed because the process that carried it out did."""
    return type(error).__name__ in ("ProcessExpired", "KilledWorker")  # pebble's and Dask's


def _limited(function: Callable[..., Result], job: Job, *more: Any) -> Result:
    """Carry it out, and end this process if that takes far longer than a file of its size does."""
    with suppress(ImportError):  # not on Windows
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(used + SECONDS + job.asset.size * SECONDS_PER_BYTE) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))
    return function(job, *more)


def _attend() -> None:
    """Prepare a worker: it imports what jobs need, and ends as soon as its parent has."""
    importlib.import_module("neurobrick.prepare.one_file")
    blosc.use_threads = False  # there is a process a core
    with suppress(ValueError):
        # numcodecs makes a lock, which in this context needs no sweeping when a worker is stopped.
        multiprocessing.set_start_method("fork", force=True)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    sys.stderr.flush()
    os._exit(1)
