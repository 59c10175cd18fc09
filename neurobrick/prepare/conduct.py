"""Source → reader → harmonized session → store → catalogue, for several assets at a time.

One bad file never stops the others, and none is left out without a word: every asset ends as an
Outcome that says what became of it. A run that ends at any moment leaves whole stores only, and the
same command goes on from there.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from neurobrick import catalog
from neurobrick.errors import NeurobrickError, SourceError, StoreError
from neurobrick.prepare.one_file import Where, look, prepare_file, unchanged
from neurobrick.prepare.plan import Job, Outcome, Plan, check_distinct
from neurobrick.prepare.workers import Submit, died, here, why_none_starts
from neurobrick.progress import Progress
from neurobrick.sources.digests import with_digest
from neurobrick.sources.source import Source
from neurobrick.storage.lock import only_run
from neurobrick.store import sweep

DOWNLOADS = "downloads"
LOOK_FIRST = 200_000_000  # bytes; for larger files, ten requests tell first if they hold spikes
FETCHES = 4  # at a time: more do not bring a file sooner, and archives do not like them

How = Literal["stream", "look", "whole"]
Step = Callable[[Job, Where], Outcome | SourceError | None]


def prepare(
    plans: Sequence[Plan],
    root: Path,
    *,
    submit: Submit = here,
    stream: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Carry out `plans`, and bring the catalogue up to date.

    Threads fetch assets while `submit` has others prepared (see `workers`). With `stream`, only the
    parts that are kept are read of remote files, where that is possible. `progress` counts bytes as
    `fetching` and sessions as `preparing`, and gets each Outcome. Returns the outcomes in the order
    of the jobs.

    Raises HarmonizeError when two jobs would make the same session, StoreError when another run
    works on `root` or it cannot be written, SourceError when the disk is too small, and
    NeurobrickError when no worker process can be started.
    """
    check_distinct(plans)
    progress = progress or Progress()
    work = [(plan.source, job) for plan in plans for job in plan.jobs]
    assets = [job.asset for _, job in work]
    progress.total("fetching", sum(asset.size for asset in assets if asset.is_remote))
    progress.total("preparing", len(work))
    with only_run(root):
        sweep(root)
        fetcher = _Fetcher(root / DOWNLOADS, force, progress)
        if not stream:
            _check_space([job for _, job in work], root, force)
        outcomes = {}
        for outcome in _carry_out(work, fetcher, submit, stream):
            outcomes[outcome.session_id] = outcome
            progress.advance("preparing")
            progress.finished(outcome)
        sweep(root)  # a run that was killed may have left a worker, which finished only now
        for fault in catalog.build(root):
            progress.say(f"not in the catalogue: {fault}")
    return [outcomes[job.session_id] for _, job in work]


def _carry_out(
    work: Sequence[tuple[Source, Job]], fetcher: _Fetcher, submit: Submit, stream: bool
) -> Iterator[Outcome]:
    """The outcome of each job, as soon as it is there."""
    with _threads(fetcher.stop) as start:
        first: How = "stream" if stream else "look"
        pending: dict[Future[Any], tuple[Source, Job]] = {
            start(fetcher.fetch, source, job, first): (source, job) for source, job in work
        }
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                source, job = pending.pop(future)
                result = _result(job, future)
                if isinstance(result, Outcome):
                    yield result
                elif result is None or isinstance(result, SourceError):
                    # It was looked at and holds spikes, or it cannot be read in parts.
                    pending[start(fetcher.fetch, source, job, "whole")] = (source, job)
                else:
                    step, job, where = result
                    pending[submit(step, job, where)] = (source, job)


class _Fetcher:
    """Brings the files of jobs to this machine, until `stop` is called."""

    def __init__(self, folder: Path, force: bool, progress: Progress) -> None:
        self._folder = folder
        self._force = force
        self._progress = progress
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Break off the fetches under way; their bytes stay, and a later run goes on from them."""
        self._stopped.set()

    def fetch(self, source: Source, job: Job, how: How) -> tuple[Step, Job, Where] | Outcome:
        """The next step: a function, the job with its digest, and where the asset can be read. Or
        the outcome, where no step is needed, or none is possible."""
        try:
            if not self._force and unchanged(job):
                return job.outcome("unchanged")
            remote = source.remote(job.asset)
            # A file without a digest is fetched whole: later runs could not tell if it changed.
            if remote is not None and how == "stream" and job.asset.digest is not None:
                return prepare_file, job, remote
            if remote is not None and how == "look" and job.asset.size > LOOK_FIRST:
                return look, job, remote
            file = source.fetch(job.asset, self._folder / job.dataset, self._count)
            if job.asset.digest is None:  # a file of this machine: hashed here, and only here
                job = replace(job, asset=with_digest(job.asset, file))
                if not self._force and unchanged(job):
                    return job.outcome("unchanged")
            return prepare_file, job, file
        except NeurobrickError as error:
            return job.outcome("failed", str(error))
        except OSError as error:
            return job.outcome("failed", f"it cannot be read: {error.strerror or error}")

    def _count(self, n_bytes: int) -> None:
        if self._stopped.is_set():
            raise SourceError("it was interrupted: fetch it again, and it goes on from there")
        self._progress.advance("fetching", n_bytes)


def _check_space(jobs: Sequence[Job], root: Path, force: bool) -> None:
    """Raise SourceError when the files to download do not fit on the disk."""
    assets = [job.asset for job in jobs if job.asset.is_remote and (force or _is_due(job))]
    try:
        downloaded = sum(
            path.stat().st_size
            for dataset in {job.dataset for job in jobs}
            for path in (root / DOWNLOADS / dataset).rglob("*")
            if path.is_file()
        )
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise StoreError(f"cannot look at {root}: {error.strerror or error}") from error
    needed = sum(asset.size for asset in assets) - downloaded
    if needed > free:
        raise SourceError(
            f"{len(assets)} files need {needed:,} bytes more and {root} has {free:,} free: choose"
            " fewer with --include, another --root, or --stream"
        )


def _is_due(job: Job) -> bool:
    """Whether the asset of a job will be fetched."""
    try:
        return not unchanged(job)
    except StoreError:  # its store may not be read, which its outcome will say
        return False


def _result(job: Job, future: Future[Any]) -> Any:
    """What a fetch or a preparation returned; a failed outcome where its worker died.

    Raises NeurobrickError when the pool of workers as a whole is broken.
    """
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor):
        raise why_none_starts(error) from error
    if not isinstance(error, Exception):
        raise error
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if died(error):
        reason = "its worker process ended: the file makes a library crash, or compute without end"
    else:
        reason = f"an error that should not be ({why}): please report it"
    return job.outcome("failed", reason)


@contextmanager
def _threads(stop: Callable[[], None]) -> Iterator[Callable[..., Future[Any]]]:
    """A function that starts calls in threads. When the block is interrupted, `stop` is called, and
    no more calls are started."""
    threads = ThreadPoolExecutor(FETCHES)

    def start(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            return threads.submit(function, *arguments)
        except RuntimeError as error:
            raise NeurobrickError(f"threads cannot be started ({error}): see ulimit -u") from error

    try:
        yield start
    except BaseException:
        stop()
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
