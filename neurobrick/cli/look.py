"""Commands that look at a corpus: list, info, plot."""

from __future__ import annotations

import json
from pathlib import Path

import click

from neurobrick.cli.options import json_option, root_option


@click.command("list")
@root_option
@json_option
def list_sessions(root: Path, as_json: bool) -> None:
    """The sessions of a corpus: units, spikes, duration, behavior."""
    from neurobrick import summary
    from neurobrick.dataset import Dataset

    rows = Dataset(root).catalog.sessions.drop_columns("metadata").to_pylist()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    summary.console().print(summary.sessions_table(rows))


@click.command()
@click.argument("session")
@root_option
@json_option
def info(session: str, root: Path, as_json: bool) -> None:
    """What SESSION holds, where it comes from, and what of its file was left, and why."""
    from neurobrick import summary
    from neurobrick.dataset import Dataset

    found = Dataset(root)[session]
    if as_json:
        click.echo(found.metadata.model_dump_json(indent=1))
        return
    summary.console().print(summary.describe(found), markup=False, soft_wrap=True)


@click.command()
@click.argument("session")
@click.argument("t0", type=float)
@click.argument("t1", type=float)
@root_option
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
