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
    in_one_form,
    instance_option,
    json_option,
    manifest_option,
    root_option,
)
from neurobrick.errors import SourceError, listed

if TYPE_CHECKING:
    from rich.console import Console

    from neurobrick.prepare.plan import Filters, Job
    from neurobrick.registry import DatasetSpec
    from neurobrick.sources.source import Source

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def prepare() -> None:
    """Make stores of recordings: from DANDI, from local files, or of the registry's datasets.

    \b
    neurobrick prepare dandiset 000128
    neurobrick prepare nwb recordings/
    neurobrick prepare manifest mc_maze
    """


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
        help="Read only the bytes that are kept, instead of downloading whole files.",
    ),
    click.option("--force", is_flag=True, help="Prepare anew, even what has not changed."),
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
    """Download dandiset ID, check its digests, and make a store of each session.

    \b
    neurobrick prepare dandiset 000128 --dry-run      what would be downloaded
    neurobrick prepare dandiset 000128 --stream       read only what is kept
    neurobrick prepare dandiset zenodo-3854034        a record of Zenodo

    Files that are here already are not fetched again. An interrupted download goes on where it
    stopped. DANDI_API_KEY gives access to embargoed dandisets.
    """
    from neurobrick.registry import Manifest
    from neurobrick.sources.registered import expected_names, open_named

    specs = Manifest.load(registry).for_dataset(dandiset)
    source = open_named(dandiset, specs[0].source, version, instance)
    if source is None:
        raise SourceError(f"{dandiset!r} names no source of files: expected {expected_names()}")
    _prepare([(source, spec) for spec in specs], **options)


def _dataset_name(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """A name that is one folder under the root, and none that the corpus itself uses."""
    name = str(in_one_form(context, parameter, name))
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
    """Make stores of NWB files on this machine; of a folder, every file below it.

    \b
    neurobrick prepare nwb recording.nwb
    neurobrick prepare nwb recordings/ --dataset my_lab --manifest mine.yaml

    A file that is named is prepared even if the registry's globs leave it out.
    """
    from neurobrick.registry import Manifest
    from neurobrick.sources.local import LocalSource

    source = LocalSource(paths, dataset)
    _prepare([(source, spec) for spec in Manifest.load(registry).for_dataset(dataset)], **options)


@prepare.command("manifest")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_dataset)
@instance_option
@_preparing
def prepare_manifest(
    names: tuple[str, ...], registry: Path | None, instance: str | None, **options: Any
) -> None:
    """Prepare the registry's datasets called NAME; without a name, all of them.

    \b
    neurobrick prepare manifest mc_maze
    neurobrick prepare manifest --manifest mine.yaml

    Each is prepared at the version that the registry pins.
    """
    from neurobrick.registry import Manifest

    work: list[tuple[Source, DatasetSpec]] = []
    absent: dict[str, str] = {}  # why an entry's source cannot be opened, by the entry's id
    for spec in Manifest.load(registry).named(list(dict.fromkeys(names))):
        try:
            if spec.source is None:
                raise SourceError(
                    f"the registry's entry {spec.id} has no source: prepare nwb takes its files"
                )
            work.append((spec.source.open(instance=instance), spec))
        except SourceError as error:  # the other entries are prepared all the same
            absent[spec.id] = str(error)
    if absent and not work:
        raise SourceError("; ".join(absent.values()))
    _prepare(work, absent=absent, **options)


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
    """Plan, prepare, and print what became of each file; exit with 1 if anything failed."""
    from neurobrick.display import progress
    from neurobrick.display.console import console
    from neurobrick.prepare import workers
    from neurobrick.prepare.conduct import prepare
    from neurobrick.prepare.plan import Filters, plan_all

    show = console(stderr=as_json)
    filters = Filters(include, exclude, subjects, sessions)
    plans = plan_all(work, root, filters)
    planned = [job for plan in plans for job in plan.jobs]
    passed_over = [group for plan in plans for group in plan.passed_over]
    _print_others(show, [source for source, _ in work], filters)
    if not planned:
        names = listed(dict.fromkeys(source.dataset for source, _ in work))
        rules = "".join(f"; {line}" for line in progress.not_chosen(passed_over))
        raise click.ClickException(
            f"nothing of {names} matches: no asset passes --include, --exclude, --subject,"
            f" --session and the registry's globs{rules}"
        )
    if dry_run:
        _print_plan(show, planned, progress.not_chosen(passed_over), as_json)
        return
    where = workers.processes(min(jobs, len(planned)))
    if scheduler is not None:
        where = workers.dask_cluster(scheduler)
    with where as submit, progress.preparing(show, downloads=not stream) as shown:
        outcomes = prepare(plans, root, submit=submit, stream=stream, force=force, progress=shown)
    if as_json:
        click.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=1))
    root_option = "" if root == Path(DEFAULT_ROOT) else f" --root {shlex.quote(str(root))}"
    show.print(progress.closing(outcomes, passed_over, root_option), markup=False)
    for name, reason in (absent or {}).items():
        show.print(f"{name}: failed: {reason}", markup=False)
    if absent or any(outcome.status == "failed" for outcome in outcomes):
        sys.exit(1)
    if not any(outcome.status in ("prepared", "unchanged") for outcome in outcomes):
        raise click.ClickException("no session could be prepared; the reasons stand above")


def _print_others(show: Console, sources: Sequence[Source], filters: Filters) -> None:
    """A line for each source with files that cannot be recordings."""
    for source in {source.dataset: source for source in sources}.values():
        others = filters.select(source.others())
        if others:
            first = others[0].path
            show.print(f"left, being no NWB: {len(others)}, the first {first}", markup=False)


def _print_plan(
    show: Console, jobs: Sequence[Job], not_chosen: Sequence[str], as_json: bool
) -> None:
    """What a dry run prints."""
    from neurobrick.display import progress

    if as_json:
        assets = [{**dataclasses.asdict(job.asset), "session": job.session_id} for job in jobs]
        click.echo(json.dumps(assets, indent=1))
    else:
        show.print(progress.plan_table(jobs))
    for line in not_chosen:
        show.print(line, markup=False)


def _plain(outcome: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dataclasses.asdict(outcome)
    plain["left"] = [left.model_dump() for left in outcome.left]
    return plain
