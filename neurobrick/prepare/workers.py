"""Where jobs are carried out: in this process, in processes of this machine, or on a Dask cluster.

Each place is a `Submit`: given a function, a job and the function's other arguments, it returns a
future. A file that makes a library crash, or compute without end, costs one worker process and no
other file.
"""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

from numcodecs import blosc

from neurobrick.errors import NeurobrickError
from neurobrick.prepare.plan import Job

Result = TypeVar("Result")
Submit = Callable[..., "Future[Any]"]

# Processor time that one file may take: some hundred times what preparing it takes.
SECONDS = 8.0
SECONDS_PER_BYTE = 1e-6
PAUSE = 0.2  # seconds between looks at whether the pool is whole


def here(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Call `function(*arguments)` at once, in this process."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


class _WorkerProcess(SpawnProcess):
    """A process that, where the system refuses to start it, breaks its pool instead of a thread."""

    def start(self) -> None:
        try:
            super().start()
        except OSError as error:
            raise BrokenProcessPool(error.strerror or str(error)) from error


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


@contextmanager
def processes(count: int) -> Iterator[Submit]:
    """`count` processes of this machine. They end when this one does, however it does.

    Raises NeurobrickError, here or from the futures, where no process can be started.
    """
    from pebble import ProcessPool

    context = _WorkerContext()
    try:
        context.Lock()
    except (OSError, ImportError) as error:
        raise _no_workers(f"locks cannot be made in /dev/shm: {_words(error)}") from error
    pool = ProcessPool(count, initializer=_attend, context=context)
    pending: set[Future[Any]] = set()

    def submit(function: Callable[..., Result], job: Job, *more: Any) -> Future[Result]:
        try:
            future = pool.submit(_limited, None, function, job, *more)
        except (OSError, RuntimeError) as error:
            raise why_none_starts(error) from error
        pending.add(future)
        future.add_done_callback(pending.discard)
        return future

    stopped = threading.Event()
    watcher = threading.Thread(target=_fail_all, args=(pool, pending, stopped), daemon=True)
    try:
        watcher.start()
    except RuntimeError as error:
        raise _no_workers(_words(error)) from error
    try:
        yield submit
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        stopped.set()
        pool.join()


def _fail_all(pool: Any, pending: set[Future[Any]], stopped: threading.Event) -> None:
    """When the pool breaks, end the futures that it will never carry out: nobody waits for ever."""
    while not stopped.wait(PAUSE):
        if pending and not pool.active:
            for future in list(pending):
                with suppress(InvalidStateError):  # the pool was quicker
                    future.set_exception(BrokenProcessPool("the pool broke"))


def why_none_starts(error: BaseException) -> NeurobrickError:
    """The error to raise when the pool of processes broke with `error`: it names the cause."""
    interpreter = spawn.get_executable()
    try:
        subprocess.run([interpreter, "-I", "-S", "-c", ""], check=True, capture_output=True)
    except OSError as refused:
        where = os.fsdecode(interpreter or "")
        limit = ", as ulimit -u allows no more" if refused.errno == errno.EAGAIN else ""
        return _no_workers(f"{where}: {_words(refused)}{limit}")
    except subprocess.CalledProcessError as ended:
        return _no_workers(f"{os.fsdecode(interpreter or '')} ends with status {ended.returncode}")
    return _no_workers(_words(error))


def _no_workers(why: str) -> NeurobrickError:
    return NeurobrickError(f"worker processes cannot be started or do not stay ({why})")


def _words(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


@contextmanager
def dask_cluster(address: str) -> Iterator[Submit]:
    """The cluster whose scheduler is at `address`, as tcp://host:8786.

    Its workers need neurobrick, and the same folders under the same paths. Raises NeurobrickError
    when no scheduler answers there, or Dask is not installed.
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
    # Every worker makes the same store of a file, so a job of a lost worker is simply repeated.
    with client, client.get_executor(retries=2) as executor:
        yield executor.submit


def died(error: Exception) -> bool:
    """Whether a future failed because the process that worked on it died."""
    return type(error).__name__ in ("ProcessExpired", "KilledWorker")  # pebble's and Dask's


def _limited(function: Callable[..., Result], job: Job, *more: Any) -> Result:
    """Call `function`; end this process if that takes far longer than a file of its size needs."""
    with suppress(ImportError):  # not on Windows
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(used + SECONDS + job.asset.size * SECONDS_PER_BYTE) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))
    return function(job, *more)


def _attend() -> None:
    """Make a worker ready: import the modules that jobs need, and exit when the parent exits."""
    importlib.import_module("neurobrick.prepare.one_file")
    blosc.use_threads = False  # each core has a process already
    with suppress(ValueError):
        # numcodecs makes a lock; under `fork` nothing is left behind when a worker is stopped.
        multiprocessing.set_start_method("fork", force=True)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    sys.stderr.flush()
    os._exit(1)
