"""Calls by a helper, for forks in which obstore cannot work: see `forks`.

The helper is a fresh Python. It gets the place through its standard input, then calls, and answers
through its standard output. It finds the credentials in the environment, as its parent did, and
ends when its standard input is closed, however its parent ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

from neurobrick.errors import StoreError
from neurobrick.storage.address import Limits, StorageUrl
from neurobrick.storage.remote.calls import Threads

PATIENCE = 3  # seconds in which a helper ends


class Helper:
    """Calls of a bucket's methods by another process, which is started at the first."""

    def __init__(self, place: StorageUrl, limits: Limits) -> None:
        self._place = place
        self._limits = limits
        self._pid = os.getpid()
        self._lock = Lock()
        self._numbers = count()
        self._process: subprocess.Popen[bytes] | None = None
        self._calls: Connection | None = None
        self._waiting: dict[int, Future[Any]] = {}

    def submit(self, method: str, *args: Any) -> Future[Any]:
        """Begin to call a method of the bucket. The future has the exception that it raised."""
        begun: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._calls is None or not self._sent(number, begun, method, args):
                self._calls = self._start()
                if not self._sent(number, begun, method, args):
                    self._fail({number: begun})
        return begun

    def _sent(self, number: int, begun: Future[Any], method: str, args: tuple[Any, ...]) -> bool:
        """Whether the helper could be told; it cannot when it has been killed."""
        assert self._calls
        self._waiting[number] = begun
        try:
            self._calls.send((number, method, args))
        except OSError:
            del self._waiting[number]
            return False
        return True

    def close(self) -> None:
        """End the helper."""
        if self._pid != os.getpid():  # it is the parent's
            return
        with self._lock:
            calls, self._calls = self._calls, None
            process, self._process = self._process, None
        if calls is not None:
            calls.close()
        if process is not None:
            _end(process)

    def _start(self) -> Connection:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "neurobrick.storage.remote.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # The same modules as here; not those of the folder that it happens to be in.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
            )
        except OSError as error:
            raise StoreError(
                f"{self._place.url} is read in a forked process through a Python of its own, which"
                f" does not start ({error}): start processes by spawn instead"
            ) from error
        assert process.stdin
        assert process.stdout
        calls, answers = _connection(process.stdin), _connection(process.stdout)
        self._process = process
        # A new dict: answers of a helper that ended are none of this one's.
        self._waiting = {}
        Thread(target=self._listen, args=(answers, calls, self._waiting), daemon=True).start()
        with suppress(OSError):  # it has ended already: so the first call will say
            calls.send((self._place, self._limits))
        return calls

    def _listen(
        self, answers: Connection, calls: Connection, waiting: dict[int, Future[Any]]
    ) -> None:
        try:
            while True:
                number, found, failed = answers.recv()
                begun = waiting.pop(number, None)
                if begun is None or not begun.set_running_or_notify_cancel():
                    continue
                if failed is not None:
                    begun.set_exception(failed)
                else:
                    begun.set_result(found)
        except (EOFError, OSError):
            answers.close()
        with self._lock:
            if self._calls is calls:  # it ended by itself; the next call starts another
                self._calls = None
            lost = dict(waiting)
            waiting.clear()
            self._fail(lost)

    def _fail(self, lost: dict[int, Future[Any]]) -> None:
        for begun in lost.values():
            if begun.set_running_or_notify_cancel():
                begun.set_exception(
                    StoreError(f"the process that reads {self._place.url} has ended: try again")
                )


def serve(calls: Connection, answers: Connection) -> None:
    """Answer calls until there can be no more."""
    threads = Threads(*calls.recv())
    lock = Lock()

    def answer(number: int, call: Future[Any]) -> None:
        failed = None if call.cancelled() else call.exception()
        found = None if call.cancelled() or failed else call.result()
        with lock:
            try:
                answers.send((number, found, failed))
            except OSError:  # nobody listens any more
                return

    try:
        while True:
            number, method, args = calls.recv()
            threads.submit(method, *args).add_done_callback(partial(answer, number))
    except (EOFError, OSError):
        threads.close()


def _connection(pipe: Any) -> Connection:
    """The pipe's own end of it, as something that sends and receives objects."""
    with pipe:
        return Connection(os.dup(pipe.fileno()))


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a user interrupts the parent, which ends this
    calls, answers = Connection(os.dup(0)), Connection(os.dup(1))
    os.dup2(2, 1)  # what anything prints is no answer
    try:
        serve(calls, answers)
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
