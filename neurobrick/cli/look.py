"""Commands that look at a corpus: list, info, plot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from neurobrick.cli.options import corpus_option, json_option, session_argument


def _filter_option(table: str, example: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{table}",
        metavar="FILTER",
        help=f"Only sessions with {table} that match, such as '{example}'.",
    )


@click.command("list")
@corpus_option
@click.option(
    "--where",
    metavar="FILTER",
    help="Only sessions that match, such as 'subject == \"Jenkins\" and duration > 600'.",
)
@_filter_option("units", 'area == "M1" and rate_hz > 1')
@_filter_option("trials", 'result == "R"')
@_filter_option("behavior", 'name == "hand_vel"')
@json_option
def list_sessions(root: str, where: str | None, as_json: bool, **filters: str | None) -> None:
    """The sessions of a corpus: units, spikes, duration, behavior.

    With filters, those that have units, trials or behavior that match each of them. A filter names
    columns of the catalogue: comparisons, in, and, or, not, is None, name.startswith("x").
    """
    from neurobrick.dataset.dataset import Dataset
    from neurobrick.display import describe
    from neurobrick.display.console import console, print_table

    rows = Dataset(root).select(where, **filters).catalog.sessions.to_pylist()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    print_table(console(), describe.sessions_table(rows))


@click.command()
@session_argument
@corpus_option
@json_option
def info(session: str, root: str, as_json: bool) -> None:
    """What SESSION holds, where it comes from, and what of its file was left, and why."""
    from neurobrick.dataset.dataset import Dataset
    from neurobrick.display import describe
    from neurobrick.display.console import console

    found = Dataset(root)[session]
    if as_json:
        click.echo(found.metadata.model_dump_json(indent=1))
        return
    console().print(describe.session(found), markup=False, soft_wrap=True)


@click.command()
@session_argument
@click.argument("t0", type=float)
@click.argument("t1", type=float)
@corpus_option
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the picture goes; its ending says the format (png, svg, pdf).  [default:"
    " neurobrick.png]",
)
@click.option("--window", is_flag=True, help="Open a window to zoom and pan in; write no file.")
def plot(session: str, t0: float, t1: float, root: str, output: Path | None, window: bool) -> None:
    """Draw the spikes and the behavior of SESSION from T0 to T1 seconds.

    Units are sorted by brain area where the recording names areas; trials are shaded; the strip
    below says what is train, valid and test, and what is scored.
    """
    from neurobrick.dataset.dataset import Dataset
    from neurobrick.display import plots

    if not t0 < t1:
        raise click.UsageError(f"T0 must be before T1, not {t0:g} and {t1:g}")
    if window and output:
        raise click.UsageError("--window opens a window, --output writes a file: choose one")
    found = Dataset(root)[session]
    if window:
        plots.show(found, t0, t1)
        return
    output = output or Path("neurobrick.png")
    plots.save(found, t0, t1, output)
    click.echo(f"wrote {output}")
