"""The command line: parse, call, print.

Exit status: 0 all done; 1 something failed, and the last lines say what and why; 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from neurobrick import __version__
from neurobrick.errors import NeurobrickError

if TYPE_CHECKING:
    from neurobrick.manifest import DatasetSpec
    from neurobrick.sources import Source

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_ROOT = "data"


class _Group(click.Group):
    """A group whose commands end in one line, not in a traceback, when neurobrick refuses."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NeurobrickError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurobrick")
def main() -> None:
    """Bring recordings of neurons and behavior into one store, and slice it.

    \b
    neurobrick prepare dandiset 000128       download, harmonize, store
    neurobrick list                          what is there
    neurobrick plot SESSION 12 14            look at two seconds of it
    """


@main.group()
def prepare() -> None:
    """Make stores of recordings: from DANDI, from local files, or of the registry's datasets."""


_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Folder of the corpus.",
)


def _preparing(command: Command) -> Command:
    """The options that every way of preparing has."""
    options = [
        _root,
        click.option(
            "--include", multiple=True, metavar="GLOB", help="Only assets whose path matches."
        ),
        click.option(
            "--exclude", multiple=True, metavar="GLOB", help="No assets whose path matches."
        ),
        click.option(
            "--jobs",
            type=click.IntRange(min=1),
            default=min(8, os.cpu_count() or 1),
            show_default="one a core, at most 8",
            help="Files prepared at a time.",
        ),
        click.option("--force", is_flag=True, help="Prepare anew what has not changed, too."),
        click.option(
            "--dry-run", is_flag=True, help="Print assets and bytes; fetch and write nothing."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_instance = click.option(
    "--instance",
    metavar="URL",
    envvar="NEUROBRICK_DANDI_API",
    help="A DANDI API other than the archive's own; also NEUROBRICK_DANDI_API.",
)


@prepare.command("dandiset")
@click.argument("dandiset", metavar="ID")
@click.option(
    "--version",
    metavar="V",
    help="Version, such as 0.220113.0400 or draft; by default the registry's, else the newest.",
)
@_instance
@_preparing
def prepare_dandiset(
    dandiset: str, version: str | None, instance: str | None, **options: Any
) -> None:
    """Download dandiset ID, such as 000128, check its digests, and make a store of each session.

    Files already there are not fetched again, and an interrupted download goes on where it
    stopped. DANDI_API_KEY gives access to embargoed dandisets.
    """
    from neurobrick.dandi_source import DandiSource
    from neurobrick.manifest import DandiSpec, Manifest

    specs = Manifest.load().for_dandiset(dandiset)
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
    help="What session ids begin with.",
)
@_preparing
def prepare_nwb(paths: tuple[Path, ...], dataset: str, **options: Any) -> None:
    """Make stores of NWB files on this machine; of a folder, every .nwb file below it."""
    from neurobrick.manifest import Manifest
    from neurobrick.sources import LocalSource

    source = LocalSource(paths, dataset)
    _prepare([(source, spec) for spec in Manifest.load().for_dandiset(dataset)], **options)


@prepare.command("manifest")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--manifest",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A registry of your own instead of the one that neurobrick ships.",
)
@_instance
@_preparing
def prepare_manifest(
    names: tuple[str, ...], path: Path | None, instance: str | None, **options: Any
) -> None:
    """Prepare the registry's datasets called NAME, such as mc_maze; without a name, all of them.

    Each at the version that the registry pins.
    """
    from neurobrick.dandi_source import DandiSource
    from neurobrick.manifest import DandiSpec, Manifest

    work: list[tuple[Source, DatasetSpec]] = [
        (DandiSource(spec.source.dandiset, spec.source.version, instance), spec)
        for spec in Manifest.load(path).named(names)
        if isinstance(spec.source, DandiSpec)
    ]
    _prepare(work, **options)


def _prepare(
    work: Sequence[tuple[Source, DatasetSpec]],
    *,
    root: Path,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from neurobrick import summary
    from neurobrick.prepare import plan, prepare
    from neurobrick.sources import select

    show = summary.console(stderr=as_json)
    planned = [(source, plan(source, spec, root, include, exclude)) for source, spec in work]
    everything = [job for _, some in planned for job in some]
    for source in {source.dataset: source for source, _ in work}.values():
        others = select(source.others(), include, exclude)
        if others:
            show.print(
                f"left, being no NWB in HDF5: {len(others)}, the first {others[0].path}",
                markup=False,
            )
    if not everything:
        names = ", ".join(dict.fromkeys(source.dataset for source, _ in work))
        raise click.ClickException(
            f"nothing of {names} matches: no NWB asset passes --include, --exclude and the"
            " registry's globs"
        )
    if dry_run:
        if as_json:
            assets = [{**dataclasses.asdict(j.asset), "session": j.session_id} for j in everything]
            click.echo(json.dumps(assets, indent=1))
        else:
            show.print(summary.plan_table(everything))
        return
    outcomes = []
    for source, jobs_of_source in planned:
        if jobs_of_source:
            with summary.watching(show) as watch:
                outcomes += prepare(
                    source, jobs_of_source, root, workers=jobs, force=force, watch=watch
                )
    if as_json:
        click.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=1))
    show.print(summary.closing(outcomes), markup=False)
    if any(outcome.status == "failed" for outcome in outcomes):
        sys.exit(1)
    if not any(outcome.status in ("prepared", "unchanged") for outcome in outcomes):
        raise click.ClickException("no session could be prepared; the reasons stand above")


def _plain(outcome: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dataclasses.asdict(outcome)
    plain["left"] = [left.model_dump() for left in outcome.left]
    return plain


@main.command("list")
@_root
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(root: Path, as_json: bool) -> None:
    """The sessions of a corpus: units, spikes, duration, behavior."""
    from neurobrick import summary
    from neurobrick.dataset import Dataset

    rows = Dataset(root).catalog.sessions.drop_columns("metadata").to_pylist()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    summary.console().print(summary.sessions_table(rows))


@main.command()
@click.argument("session")
@_root
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(session: str, root: Path, as_json: bool) -> None:
    """What SESSION holds, where it comes from, and what of its file was left, and why."""
    from neurobrick import summary
    from neurobrick.dataset import Dataset

    found = Dataset(root)[session]
    if as_json:
        click.echo(found.metadata.model_dump_json(indent=1))
        return
    summary.console().print(summary.describe(found), markup=False, soft_wrap=True)


@main.command()
@click.argument("sessions", nargs=-1, metavar="[SESSION…]")
@_root
def verify(sessions: tuple[str, ...], root: Path) -> None:
    """Check every file of the stores against the manifest that was written with them."""
    from neurobrick import catalog
    from neurobrick.store import damage

    stores = catalog.stores(root)
    unknown = [name for name in sessions if name not in stores]
    if not stores:
        raise click.ClickException(f"there is no store under {root}: run neurobrick prepare")
    if unknown:
        raise click.ClickException(f"{root} has no whole store of {', '.join(unknown)}")
    bad = 0
    for name in sessions or stores:
        faults = damage(stores[name])
        bad += bool(faults)
        click.echo(f"{'✗' if faults else '✓'} {name}")
        for fault in faults:
            click.echo(f"    {fault}")
    if bad:
        raise click.ClickException(f"{bad} damaged: prepare with --force to make them anew")


@main.command()
@click.argument("session")
@click.argument("t0", type=float)
@click.argument("t1", type=float)
@_root
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="neurobrick.png",
    show_default=True,
    help="Where the picture goes; its ending says the format (png, svg, pdf).",
)
def plot(session: str, t0: float, t1: float, root: Path, output: Path) -> None:
    """Draw the spikes and the behavior of SESSION from T0 to T1 seconds."""
    from neurobrick.dataset import Dataset
    from neurobrick.plots import plot_slice

    if not t0 < t1:
        raise click.UsageError(f"T0 must be before T1, not {t0:g} and {t1:g}")
    plot_slice(Dataset(root).slice(session, t0, t1), output)
    click.echo(f"wrote {output}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--layout",
    type=click.Choice(["000128", "000688"]),
    default="000128",
    show_default=True,
    help="The dandiset whose layout the files have.",
)
@click.option(
    "--sessions", type=click.IntRange(1, 1000), default=4, show_default=True, help="In all."
)
@click.option(
    "--subjects",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Monkeys that the sessions are dealt to.",
)
@click.option(
    "--units", type=click.IntRange(1, 500), default=60, show_default=True, help="Units a session."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.5, 240),
    default=5.0,
    show_default=True,
    help="Length of a session.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same data."
)
def simulate(
    folder: Path,
    layout: Any,
    sessions: int,
    subjects: int,
    units: int,
    minutes: float,
    seed: int,
) -> None:
    """Write motor-cortex sessions with known ground truth to FOLDER, as a dandiset of NWB files.

    Says for each the R² at which an oracle, who knows how every unit is tuned, decodes velocity.
    """
    from neurobrick import summary
    from neurobrick.simulate import SimulatedSession
    from neurobrick.simulate import simulate as write

    show = summary.console()

    def done(session: SimulatedSession) -> None:
        show.print(
            f"{session.session}  {session.n_units} units, {session.n_spikes:,} spikes,"
            f" {summary.duration(session.duration_s)}; oracle R² {session.oracle_r2.mean:.3f}"
        )

    try:
        written = write(
            folder,
            layout=layout,
            sessions=sessions,
            subjects=subjects,
            units=units,
            minutes=minutes,
            seed=seed,
            progress=done,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    mean = sum(session.oracle_r2.mean for session in written) / len(written)
    show.print(
        f"an oracle that knows how every unit is tuned decodes hand velocity with R² {mean:.3f};"
        f" wrote {folder}/{layout}"
    )
