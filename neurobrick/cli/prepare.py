"""`neurobrick prepare`: from DANDI, from local files, or of the registry's datasets."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from neurobrick.cli.options import (
    DEFAULT_ROOT,
    complete_dataset,
    instance_option,
    json_option,
    manifest_option,
    root_option,
)
from neurobrick.errors import SourceError

if TYPE_CHECKING:
    from neurobrick.registry import DatasetSpec
    from neurobrick.sources import Source

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def prepare() -> None:
    """Make stores of recordings: from DANDI, from local files, or of the registry's datasets."""


_SELECTING = [
    click.option(
        "--include", multiple=True, metavar="GLOB", help="Only assets whose path matches."
    ),
    click.option("--exclude", multiple=True, metavar="GLOB", help="No assets whose path matches."),
    click.option(
        "--subject", "subjects", multiple=True, metavar="ID", help="Only files of sub-ID; a glob."
    ),
    click.option(
        "--session", "sessions", multiple=True, metavar="ID", help="Only files of ses-ID; a glob."
    ),
]
_RUNNING = [
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        default=min(8, os.cpu_count() or 1),
        show_default="one a core, at most 8",
        help="Files prepared at a time.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Prepare on the Dask cluster of this scheduler, such as tcp://host:8786, instead.",
    ),
    click.option(
        "--stream",
        is_flag=True,
        help="Read what is kept, by ranges of bytes, instead of downloading whole files.",
    ),
    click.option("--force", is_flag=True, help="Prepare anew what has not changed, too."),
    click.option(
        "--dry-run", is_flag=True, help="Print assets and bytes; fetch and write nothing."
    ),
    json_option,
]


def _preparing(command: Command) -> Command:
    """The options that every way of preparing has."""
    for option in reversed([root_option, *_SELECTING, *_RUNNING, manifest_option]):
        command = option(command)
    return command


@prepare.command("dandiset")
@click.argument("dandiset", metavar="ID")
@click.option(
    "--version",
    metavar="V",
    help="Version, such as 0.220113.0400 or draft; by default the registry's, else the newest.",
)
@instance_option
@_preparing
def prepare_dandiset(
    dandiset: str, version: str | None, instance: str | None, registry: Path | None, **options: Any
) -> None:
    """Download dandiset ID, such as 000128, check its digests, and make a store of each session.

    Files already there are not fetched again, and an interrupted download goes on where it
    stopped. DANDI_API_KEY gives access to embargoed dandisets.
    """
    from neurobrick.registry import DandiSpec, Manifest
    from neurobrick.sources.dandi import DandiSource

    specs = Manifest.load(registry).for_dataset(dandiset)
    pinned = specs[0].source.version if isinstance(specs[0].source, DandiSpec) else None
    source = DandiSource(dandiset, version or pinned, instance)
    _prepare([(source, spec) for spec in specs], **options)


def _dataset_name(_: click.Context, __: click.Parameter, name: str) -> str:
    """A name that is one folder under the root, and none that the corpus itself uses."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in ("catalog", "downloads"):
        raise click.BadParameter("letters, digits, . _ - and not catalog or downloads")
    return name


@prepare.command("nwb")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@click.option(
    "--dataset",
    default="local",
    show_default=True,
    callback=_dataset_name,
    help="What session ids begin with, and the registry's entry that applies, if there is one.",
)
@_preparing
def prepare_nwb(
    paths: tuple[Path, ...], dataset: str, registry: Path | None, **options: Any
) -> None:
    """Make stores of NWB files on this machine; of a folder, every file below it."""
    from neurobrick.registry import Manifest
    from neurobrick.sources import LocalSource

    source = LocalSource(paths, dataset)
    _prepare([(source, spec) for spec in Manifest.load(registry).for_dataset(dataset)], **options)


@prepare.command("manifest")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_dataset)
@instance_option
@_preparing
def prepare_manifest(
    names: tuple[str, ...], registry: Path | None, instance: str | None, **options: Any
) -> None:
    """Prepare the registry's datasets called NAME, such as mc_maze; without a name, all of them.

    Each at the version that the registry pins.
    """
    from neurobrick.registry import Manifest

    work: list[tuple[Source, DatasetSpec]] = []
    absent: dict[str, str] = {}
    for spec in Manifest.load(registry).named(names):
        try:
            work.append((_source(spec, instance), spec))
        except SourceError as error:  # the others can be had all the same
            absent[spec.id] = str(error)
    if absent and not work:
        raise SourceError("; ".join(absent.values()))
    _prepare(work, absent=absent, **options)


def _source(spec: DatasetSpec, instance: str | None) -> Source:
    """Where the registry says that a dataset is."""
    from neurobrick.registry import DandiSpec, ZenodoSpec
    from neurobrick.sources.dandi import DandiSource
    from neurobrick.sources.zenodo import ZenodoSource

    match spec.source:
        case DandiSpec(dandiset=dandiset, version=version):
            return DandiSource(dandiset, version, instance)
        case ZenodoSpec(zenodo=record):
            return ZenodoSource(record)
    raise SourceError(f"the registry's entry {spec.id} has no source: prepare nwb takes its files")


def _prepare(
    work: Sequence[tuple[Source, DatasetSpec]],
    *,
    root: Path,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    subjects: tuple[str, ...],
    sessions: tuple[str, ...],
    jobs: int,
    scheduler: str | None,
    stream: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    absent: Mapping[str, str] | None = None,
) -> None:
    from neurobrick.display import progress
    from neurobrick.display.console import console
    from neurobrick.prepare import workers
    from neurobrick.prepare.conduct import prepare
    from neurobrick.prepare.plan import Filters, plan

    show = console(stderr=as_json)
    filters = Filters(include, exclude, subjects, sessions)
    plans = [plan(source, spec, root, filters) for source, spec in work]
    everything = [job for one in plans for job in one.jobs]
    for source in {source.dataset: source for source, _ in work}.values():
        others = filters.select(source.others())
        if others:
            first = others[0].path
            show.print(f"left, being no NWB: {len(others)}, the first {first}", markup=False)
    if not everything:
        names = ", ".join(dict.fromkeys(source.dataset for source, _ in work))
        raise click.ClickException(
            f"nothing of {names} matches: no asset passes --include, --exclude, --subject,"
            " --session and the registry's globs"
        )
    if dry_run:
        if as_json:
            assets = [{**dataclasses.asdict(j.asset), "session": j.session_id} for j in everything]
            click.echo(json.dumps(assets, indent=1))
        else:
            show.print(progress.plan_table(everything))
        return
    where = workers.processes(min(jobs, len(everything)))
    if scheduler is not None:
        where = workers.dask_cluster(scheduler)
    with where as submit, progress.watching(show, downloads=not stream) as watch:
        outcomes = prepare(plans, root, submit=submit, stream=stream, force=force, watch=watch)
    if as_json:
        click.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=1))
    elsewhere = "" if root == Path(DEFAULT_ROOT) else f" --root {shlex.quote(str(root))}"
    show.print(progress.closing(outcomes, elsewhere), markup=False)
    for name, reason in (absent or {}).items():
        show.print(f"{name}: failed: {reason}", markup=False)
    if absent or any(outcome.status == "failed" for outcome in outcomes):
        sys.exit(1)
    if not any(outcome.status in ("prepared", "unchanged") for outcome in outcomes):
        raise click.ClickException("no session could be prepared; the reasons stand above")


def _plain(outcome: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dataclasses.asdict(outcome)
    plain["left"] = [left.model_dump() for left in outcome.left]
    return plain
