"""Source → pipeline → store → catalogue, one asset at a time or several.

One bad file never stops the others, and none is left out without a word: every asset ends as an
Outcome that says what became of it. A run that ends at any moment leaves whole stores only, and the
same command goes on from there.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from neurobrick import catalog
from neurobrick.errors import NeurobrickError, SourceError, StoreError
from neurobrick.prepare.one_file import Where, look, prepare_file, unchanged
from neurobrick.prepare.plan import Job, Outcome, Plan
from neurobrick.prepare.workers import Submit, died, here
from neurobrick.sources import Source, with_digest
from neurobrick.storage.lock import only_run
from neurobrick.store import sweep

DOWNLOADS = "downloads"
LOOK_FIRST = 200_000_000  # bytes; larger files are worth ten requests to see if they hold spikes
FETCHES = 4  # at a time: more do not bring a file sooner, and archives do not like them


How = Literal["stream", "look", "whole"]
Step = Callable[[Job, Where], Outcome | SourceError | None]


@dataclass(frozen=True)
class Watch:
    """Who is told what while a preparation goes on; called from one thread at a time or many."""

    planned: Callable[[Sequence[Job]], None] = field(default=lambda jobs: None)
    fetched: Callable[[int], None] = field(default=lambda n_bytes: None)
    finished: Callable[[Outcome], None] = field(default=lambda outcome: None)
    unlisted: Callable[[StoreError], None] = field(default=lambda fault: None)


def prepare(
    plans: Sequence[Plan],
    root: Path,
    *,
    submit: Submit = here,
    stream: bool = False,
    force: bool = False,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Carry out `plans`, and bring the catalogue up to date.

    Assets are fetched by threads while others are prepared where `submit` has it done (see
    `workers`). With `stream`, only what is kept is read of those elsewhere, where that can be done.
    Outcomes come in the order of the jobs.

    Raises StoreError when another run is at work on `root`, SourceError when the disk is too small.
    """
    watch = watch or Watch()
    work = [(plan.source, job) for plan in plans for job in plan.jobs]
    watch.planned([job for _, job in work])
    with only_run(root):
        sweep(root)
        fetcher = _Fetcher(root / DOWNLOADS, force, watch)
        if not stream:
            _check_space([job for _, job in work], root, force)
        outcomes = {}
        for outcome in _carry_out(work, fetcher, submit, stream):
            outcomes[outcome.session_id] = outcome
            watch.finished(outcome)
        sweep(root)  # of a worker that outlived a run that was killed
        for fault in catalog.build(root):
            watch.unlisted(fault)
    return [outcomes[job.session_id] for _, job in work]


def _carry_out(
    work: Sequence[tuple[Source, Job]], fetcher: _Fetcher, submit: Submit, stream: bool
) -> Iterator[Outcome]:
    """The outcome of each job, as soon as it is there."""
    with _threads(fetcher.stop) as threads:
        first: How = "stream" if stream else "look"
        pending: dict[Future[Any], tuple[Source, Job]] = {
            threads.submit(fetcher.fetch, source, job, first): (source, job) for source, job in work
        }
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                source, job = pending.pop(future)
                found = _result(job, future)
                if isinstance(found, Outcome):
                    yield found
                elif found is None or isinstance(found, SourceError):
                    # It was looked at, and holds spikes, or it cannot be had piece by piece.
                    again = threads.submit(fetcher.fetch, source, job, "whole")
                    pending[again] = (source, job)
                else:
                    step, job, where = found
                    pending[submit(step, job, where)] = (source, job)


class _Fetcher:
    """Brings the files of jobs to this machine, until it is told to stop."""

    def __init__(self, folder: Path, force: bool, watch: Watch) -> None:
        self._folder = folder
        self._force = force
        self._watch = watch
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Break off the fetches under way; what they have stays, to go on from."""
        self._stopped.set()

    def fetch(self, source: Source, job: Job, how: How) -> tuple[Step, Job, Where] | Outcome:
        """What is to be done next, with the job, its digest known, and where the asset can be
        read; or the outcome that makes that needless or vain."""
        try:
            if not self._force and unchanged(job):
                return job.outcome("unchanged")
            elsewhere = source.remote(job.asset)
            # What has no digest yet could not be told from what it may become.
            if elsewhere is not None and how == "stream" and job.asset.digest is not None:
                return prepare_file, job, elsewhere
            if elsewhere is not None and how == "look" and job.asset.size > LOOK_FIRST:
                return look, job, elsewhere
            file = source.fetch(job.asset, self._folder / job.dataset, self._progress)
            if job.asset.digest is None:  # of this machine's files; hashed here, and only here
                job = replace(job, asset=with_digest(job.asset, file))
                if not self._force and unchanged(job):
                    return job.outcome("unchanged")
            return prepare_file, job, file
        except NeurobrickError as error:
            return job.outcome("failed", str(error))
        except OSError as error:
            return job.outcome("failed", f"it cannot be read: {error.strerror or error}")

    def _progress(self, n_bytes: int) -> None:
        if self._stopped.is_set():
            raise SourceError("it was interrupted: fetch it again, and it goes on from there")
        self._watch.fetched(n_bytes)


def _check_space(jobs: Sequence[Job], root: Path, force: bool) -> None:
    """Raise SourceError when what is to be downloaded does not fit on the disk."""
    wanted = [job.asset for job in jobs if job.asset.elsewhere and (force or _is_due(job))]
    there = sum(
        path.stat().st_size
        for dataset in {job.dataset for job in jobs}
        for path in (root / DOWNLOADS / dataset).rglob("*")
        if path.is_file()
    )
    needed = sum(asset.size for asset in wanted) - there
    free = shutil.disk_usage(root).free
    if needed > free:
        raise SourceError(
            f"{len(wanted)} files need {needed:,} bytes more and {root} has {free:,} free: choose"
            " fewer with --include, another --root, or --stream"
        )


def _is_due(job: Job) -> bool:
    """Whether the asset of a job will be fetched."""
    try:
        return not unchanged(job)
    except StoreError:  # its store may not be read, which its outcome will say
        return False


def _result(job: Job, future: Future[Any]) -> Any:
    """What came of a fetch or of a preparation; an outcome that says so, where a worker died."""
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):
        raise error
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if died(error):
        reason = "its worker process ended: the file makes a library crash, or compute without end"
    else:
        reason = f"an error that should not be ({why}): please report it"
    return job.outcome("failed", reason)


@contextmanager
def _threads(stop: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """Threads that, when their user is interrupted, are told to stop and begin nothing more."""
    threads = ThreadPoolExecutor(FETCHES)
    try:
        yield threads
    except BaseException:
        stop()
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
