"""Source → nwb → harmonize → splits → store → catalogue, one asset at a time or several.

One bad file never stops the others, and none is left out without a word: every asset ends as an
Outcome that says what became of it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import filelock

from neurobrick import __version__, catalog
from neurobrick.errors import HarmonizeError, NeurobrickError, StoreError, UnsupportedFile
from neurobrick.formats import open_recording
from neurobrick.harmonize import harmonize
from neurobrick.manifest import DatasetSpec
from neurobrick.schema import Left, Provenance, SessionData, check
from neurobrick.sources import Asset, Source, select, sha256_of
from neurobrick.splits import split
from neurobrick.store import read_attributes, sweep, write_store

DOWNLOADS = "downloads"
LOCK = ".lock"

Status = Literal["prepared", "unchanged", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one asset; `reason` says why when it was skipped or failed.

    `seconds` is the length of the recording, `size` the bytes of its store.
    """

    path: str
    session_id: str
    status: Status
    reason: str = ""
    units: int = 0
    spikes: int = 0
    seconds: float = 0.0
    size: int = 0
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One asset on its way to one store."""

    asset: Asset
    session_id: str
    dataset: str
    spec: DatasetSpec
    root: Path

    @property
    def store(self) -> Path:
        """Where its store goes."""
        return self.root / f"{self.session_id}.zarr"

    def outcome(self, status: Status, reason: str = "") -> Outcome:
        """An outcome of this job without a store."""
        return Outcome(self.asset.path, self.session_id, status, reason)


@dataclass(frozen=True)
class Watch:
    """Who is told what while a preparation goes on; called from one thread at a time or many."""

    planned: Callable[[Sequence[Job]], None] = field(default=lambda jobs: None)
    fetched: Callable[[int], None] = field(default=lambda n_bytes: None)
    finished: Callable[[Outcome], None] = field(default=lambda outcome: None)


def session_id(dataset: str, path: str) -> str:
    """`<dataset>/<file name without its ending and its modality tail>`.

    The tail is a last part, after `_`, that holds no `-`: `sub-A_ses-1_behavior+ecephys.nwb` is
    `sub-A_ses-1`. A name without one keeps all its parts.
    """
    stem = PurePosixPath(path).name
    for ending in (".nwb", ".h5", ".hdf5"):
        stem = stem.removesuffix(ending)
    parts = stem.split("_")
    if len(parts) > 1 and "-" not in parts[-1] and any("-" in part for part in parts):
        parts = parts[:-1]
    return f"{dataset}/{'_'.join(parts)}"


def plan(
    source: Source,
    spec: DatasetSpec,
    root: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[Job]:
    """One job for each asset that the spec's globs and the caller's let through.

    Raises HarmonizeError when two assets would become one session, SourceError when the source
    cannot be listed.
    """
    assets = select(source.assets(), spec.include, spec.exclude)
    assets = select(assets, include, exclude)
    jobs: dict[str, Job] = {}
    for asset in assets:
        name = session_id(source.dataset, asset.path)
        if name in jobs:
            raise HarmonizeError(
                f"{jobs[name].asset.path} and {asset.path} would both become session {name}:"
                " rename one, or leave one out with --exclude"
            )
        jobs[name] = Job(asset, name, source.dataset, spec, root)
    return list(jobs.values())


def prepare(
    source: Source,
    jobs: Sequence[Job],
    root: Path,
    *,
    workers: int = 1,
    force: bool = False,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Carry out `jobs`, the plan of one source, and bring the catalogue up to date.

    Assets are fetched by threads while others are prepared, by processes when `workers` > 1.
    Outcomes come in the order of the jobs.

    Raises StoreError when another run is at work on `root`.
    """
    watch = watch or Watch()
    watch.planned(jobs)
    outcomes: dict[str, Outcome] = {}
    with _only_run(root), ExitStack() as stack:
        sweep(root)
        fetching = stack.enter_context(_executor(ThreadPoolExecutor(max(2, workers))))
        preparing: Executor | None = None
        if workers > 1 and len(jobs) > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context)
            preparing = stack.enter_context(_executor(pool))
        fetches = [
            fetching.submit(_fetch, source, job, root / DOWNLOADS, force, watch) for job in jobs
        ]
        running = {}
        for fetch in as_completed(fetches):
            found = fetch.result()
            if isinstance(found, Outcome):
                outcomes[found.session_id] = found
                watch.finished(found)
                continue
            job, file = found
            if preparing is not None:
                running[preparing.submit(prepare_file, job, file)] = job
            else:
                outcomes[job.session_id] = prepare_file(job, file)
                watch.finished(outcomes[job.session_id])
        for future in as_completed(running):
            outcome = _result(running[future], future.exception(), future.result)
            outcomes[outcome.session_id] = outcome
            watch.finished(outcome)
        catalog.build(root)
    return [outcomes[job.session_id] for job in jobs]


def prepare_file(job: Job, file: Path) -> Outcome:
    """Make the store of one NWB file that is on this machine. Never raises NeurobrickError."""
    try:
        session = read_session(job, file)
        size = write_store(session, job.store)
    except UnsupportedFile as error:
        return job.outcome("skipped", str(error))
    except NeurobrickError as error:
        return job.outcome("failed", str(error))
    except MemoryError:
        return job.outcome("failed", "there is not enough memory: try --jobs 1")
    return Outcome(
        path=job.asset.path,
        session_id=job.session_id,
        status="prepared",
        units=session.units.num_rows,
        spikes=len(session.spike_times),
        seconds=session.domain.duration,
        size=size,
        left=session.metadata.left,
        notes=session.metadata.notes,
    )


def read_session(job: Job, file: Path) -> SessionData:
    """One NWB file as a harmonized, split and checked session."""
    provenance = Provenance(
        path=job.asset.path,
        size=file.stat().st_size,
        sha256=job.asset.sha256 or sha256_of(file),
        dandiset=job.asset.dandiset,
        version=job.asset.version,
        asset_id=job.asset.asset_id,
        neurobrick=__version__,
        spec_hash=job.spec.fingerprint(),
    )
    with open_recording(file, job.spec.units) as recording:
        session = harmonize(
            recording,
            job.spec,
            session_id=job.session_id,
            dataset=job.dataset,
            provenance=provenance,
        )
    splits = split(job.spec.splits, job.session_id, session.domain, session.intervals)
    session = replace(session, splits=splits)
    check(session)
    return session


def _fetch(
    source: Source, job: Job, folder: Path, force: bool, watch: Watch
) -> tuple[Job, Path] | Outcome:
    """The asset's file on this machine, and the job with its digest known; or the outcome that
    makes fetching it needless or vain."""
    try:
        if not force and _unchanged(job):
            return job.outcome("unchanged")
        file = source.fetch(job.asset, folder / job.dataset, watch.fetched)
        if job.asset.sha256 is None:  # a local file, or a fresh draft: hashed here, and only here
            job = replace(job, asset=replace(job.asset, sha256=sha256_of(file)))
            if not force and _unchanged(job):
                return job.outcome("unchanged")
        return job, file
    except NeurobrickError as error:
        return job.outcome("failed", str(error))
    except OSError as error:
        return job.outcome("failed", f"it cannot be read: {error.strerror or error}")


def _unchanged(job: Job) -> bool:
    """Whether the store there was made of the same bytes, by the same program and spec."""
    attributes = read_attributes(job.store)
    if job.asset.sha256 is None or attributes is None:
        return False
    found = attributes.get("provenance", {})
    wanted = {
        "sha256": job.asset.sha256,
        "neurobrick": __version__,
        "spec_hash": job.spec.fingerprint(),
    }
    return {key: found.get(key) for key in wanted} == wanted


def _result(job: Job, error: BaseException | None, result: Callable[[], Outcome]) -> Outcome:
    if error is None:
        return result()
    if not isinstance(error, Exception):
        raise error
    reason = f"its worker process ended without a word ({error}): try --jobs 1"
    return job.outcome("failed", reason)


@contextmanager
def _executor(executor: Executor) -> Iterator[Executor]:
    """An executor that, when its user is interrupted, does not begin what it has not begun."""
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _only_run(root: Path) -> Iterator[None]:
    """Hold the lock of `root`, which the system lets go of however the run ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / LOCK, timeout=0)
        with lock:
            yield
    except filelock.Timeout as error:
        raise StoreError(
            f"another neurobrick prepare is at work in {root}: wait for it, or choose another"
            " --root"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write to {root}: {error.strerror or error}") from error


def totals(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """How many outcomes there are of each status."""
    counts: dict[Status, int] = {"prepared": 0, "unchanged": 0, "skipped": 0, "failed": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
    return counts
