"""What is to be prepared: which assets become which sessions, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from neurobrick.errors import HarmonizeError
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Left
from neurobrick.sources import Asset, Source, select

ENDINGS = (".zarr", ".nwb", ".h5", ".hdf5", ".mat")

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
class Filters:
    """Which assets of a source are wanted; each that is empty lets all through.

    Globs match the whole path, ignore case, and `*` crosses `/`. Subjects and sessions are those
    of the file names, `sub-X` and `ses-Y`, and may be globs as well.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    subjects: Sequence[str] = ()
    sessions: Sequence[str] = ()

    def select(self, assets: Sequence[Asset]) -> list[Asset]:
        """The assets that pass."""
        kept = select(assets, self.include, self.exclude)
        for entity, names in (("sub", self.subjects), ("ses", self.sessions)):
            globs = [f"*{entity}-{name}{end}*" for name in names for end in "_./"]
            kept = select(kept, globs, ())
        return kept


def session_id(dataset: str, path: str) -> str:
    """`<dataset>/<file name without its ending and its modality tail>`.

    The tail is a last part, after `_`, that holds no `-`: `sub-A_ses-1_behavior+ecephys.nwb` is
    `sub-A_ses-1`. A name without one keeps all its parts.
    """
    stem = PurePosixPath(path).name
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    parts = stem.split("_")
    if len(parts) > 1 and "-" not in parts[-1] and any("-" in part for part in parts):
        parts = parts[:-1]
    return f"{dataset}/{'_'.join(parts) or 'unnamed'}"


def plan(source: Source, spec: DatasetSpec, root: Path, filters: Filters | None = None) -> Plan:
    """One job for each asset that the spec's globs and the caller's filters let through.

    Raises HarmonizeError when two assets would become one session, SourceError when the source
    cannot be listed.
    """
    assets = select(source.assets(), spec.include, spec.exclude)
    jobs: dict[str, Job] = {}
    for asset in (filters or Filters()).select(assets):
        name = session_id(source.dataset, asset.path)
        if name in jobs:
            raise HarmonizeError(
                f"{jobs[name].asset.path} and {asset.path} would both become session {name}:"
                " rename one, or leave one out with --exclude"
            )
        jobs[name] = Job(asset, name, source.dataset, spec, root)
    return Plan(source, tuple(jobs.values()))


@dataclass(frozen=True)
class Plan:
    """The jobs of one source."""

    source: Source
    jobs: tuple[Job, ...]


def totals(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """How many outcomes there are of each status."""
    counts: dict[Status, int] = {"prepared": 0, "unchanged": 0, "skipped": 0, "failed": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
    return counts
