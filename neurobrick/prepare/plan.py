"""What is to be prepared: which assets become which sessions, and what became of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from neurobrick.errors import HarmonizeError
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Left
from neurobrick.sources.asset import Asset, matches, refusal
from neurobrick.sources.source import Source
from neurobrick.storage.names import composed

ENDINGS = (".zarr", ".nwb", ".h5", ".hdf5", ".mat")
UNFIT = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")  # control characters, \\, lone surrogates

Status = Literal["prepared", "unchanged", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one asset."""

    path: str
    session_id: str
    status: Status
    reason: str = ""  # why it was skipped, or failed
    units: int = 0
    spikes: int = 0
    seconds: float = 0.0  # length of the recording
    size: int = 0  # bytes of its store
    left: tuple[Left, ...] = ()  # objects of the file that were not kept
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
class PassedOver:
    """Assets that one rule leaves out."""

    rule: str  # "exclude *desc-test* of the registry's entry mc_maze"
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The jobs of one source under one entry of the registry."""

    source: Source
    jobs: tuple[Job, ...]
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True)
class Filters:
    """Which assets of a source the user chooses; an empty filter lets all through.

    Globs match the whole path, ignore case, and `*` crosses `/`.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    subjects: Sequence[str] = ()  # X of `sub-X` in the path, or globs
    sessions: Sequence[str] = ()  # Y of `ses-Y` in the path, or globs

    def refusal(self, path: str) -> str | None:
        """The option by which a path is left out, in words; None where all let it through."""
        rule = refusal(path, self.include, self.exclude)
        if rule is not None:
            return f"--{rule}"
        for entity, option, names in (
            ("sub", "--subject", self.subjects),
            ("ses", "--session", self.sessions),
        ):
            globs = [f"*{entity}-{name}{end}*" for name in names for end in "_./"]
            if globs and not any(matches(path, glob) for glob in globs):
                return f"{option} {' '.join(names)}"
        return None

    def select(self, assets: Sequence[Asset]) -> list[Asset]:
        """The assets that all filters let through."""
        return [asset for asset in assets if self.refusal(asset.path) is None]


def session_id(dataset: str, path: str) -> str:
    """`<dataset>/<file name without its ending and its modality tail>`, in composed Unicode.

    The tail is a last part, after `_`, that holds no `-`: `sub-A_ses-1_behavior+ecephys.nwb` is
    `sub-A_ses-1`. A name without any `-` keeps all its parts. Endings are known in upper case too.
    Characters that no file name should hold become `_`.
    """
    stem = UNFIT.sub("_", composed(PurePosixPath(path).name))
    for ending in ENDINGS:
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
    parts = stem.split("_")
    if len(parts) > 1 and "-" not in parts[-1] and any("-" in part for part in parts):
        parts = parts[:-1]
    return f"{composed(dataset)}/{'_'.join(parts) or 'unnamed'}"


def plan(
    source: Source,
    spec: DatasetSpec,
    root: Path,
    filters: Filters | None = None,
    entries: Sequence[DatasetSpec] = (),
) -> Plan:
    """One job for each asset that the spec's globs and the user's filters let through.

    `entries` are all entries of the registry for this dataset, where there is more than `spec`. A
    file that the user names is prepared whatever the globs say: under the entry that lets it
    through, else under the first.

    Raises HarmonizeError when two assets would become one session, SourceError when the source
    cannot be listed.
    """
    filters, entries = filters or Filters(), entries or (spec,)
    jobs: list[Job] = []
    passed_over: dict[str, list[str]] = {}
    for asset in source.assets():
        rule = refusal(asset.path, spec.include, spec.exclude)
        if rule is not None:
            if spec is not entries[0] or any(_takes(entry, asset) for entry in entries):
                continue  # another entry takes it, or the first one counts it
            rule = None if asset.is_named else f"{rule} of the registry's entry {spec.id}"
        rule = rule or filters.refusal(asset.path)
        if rule is None:
            name = session_id(source.dataset, asset.path)
            jobs.append(Job(asset, name, source.dataset, spec, root))
        else:
            passed_over.setdefault(rule, []).append(asset.path)
    rules = tuple(PassedOver(rule, tuple(paths)) for rule, paths in passed_over.items())
    made = Plan(source, tuple(jobs), rules)
    check_distinct([made])
    return made


def plan_all(
    work: Sequence[tuple[Source, DatasetSpec]], root: Path, filters: Filters | None = None
) -> list[Plan]:
    """A plan for each source and spec. Raises HarmonizeError when two jobs would make one session,
    and as `plan` does."""
    plans = []
    for source, spec in work:
        entries = [entry for other, entry in work if other.dataset == source.dataset]
        plans.append(plan(source, spec, root, filters, entries))
    check_distinct(plans)
    return plans


def check_distinct(plans: Iterable[Plan]) -> None:
    """Raise HarmonizeError when two jobs of `plans` would make the same session."""
    jobs: dict[str, Job] = {}
    for job in (job for made in plans for job in made.jobs):
        other = jobs.setdefault(job.session_id, job)
        if other is job:
            continue
        if other.asset.path == job.asset.path:
            raise HarmonizeError(
                f"the registry's entries {other.spec.id} and {job.spec.id} both take"
                f" {job.asset.path} for session {job.session_id}: narrow their include or exclude,"
                " or prepare one of them by its name"
            )
        raise HarmonizeError(
            f"{other.asset.path} and {job.asset.path} would both become session"
            f" {job.session_id}: rename one, or leave one out with --exclude"
        )


def totals(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """How many outcomes there are of each status."""
    counts: dict[Status, int] = {"prepared": 0, "unchanged": 0, "skipped": 0, "failed": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
    return counts


def _takes(entry: DatasetSpec, asset: Asset) -> bool:
    return refusal(asset.path, entry.include, entry.exclude) is None
