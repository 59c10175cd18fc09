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
    """List the sessions of a corpus: units, spikes, duration, behavior.

    \b
    neurobrick list
    neurobrick list --where 'duration > 600' --units 'area == "M1"'
    neurobrick list --root s3://bucket/corpus --json

    With filters, only sessions that match all of them are listed. A filter compares columns of the
    catalogue: ==, <, in, and, or, not, is None, name.startswith("x").
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
    """Show what SESSION holds, where it comes from, and what of its file was left, and why.

    \b
    neurobrick info 000128/sub-Jenkins_ses-full_desc-train
    neurobrick info local/recording --json
    """
    from neurobrick.dataset.dataset import Dataset
    from neurobrick.display import describe
    from neurobrick.display.console import console

    recording = Dataset(root)[session]
    if as_json:
        click.echo(recording.metadata.model_dump_json(indent=1))
        return
    console().print(describe.session(recording), markup=False, soft_wrap=True)


@click.command()
@session_argument
@click.argument("t0", type=float)
@click.argument("t1", type=float)
@corpus_option
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the picture; its ending is the format (png, svg, pdf).  [default:"
    " neurobrick.png]",
)
@click.option("--window", is_flag=True, help="Open a window to zoom and pan in; write no file.")
def plot(session: str, t0: float, t1: float, root: str, output: Path | None, window: bool) -> None:
    """Draw the spikes and the behavior of SESSION from T0 to T1 seconds.

    \b
    neurobrick plot local/recording 10 20 -o look.png
    neurobrick plot local/recording 10 20 --window

    Units are sorted by brain area where the recording names areas. Trials are shaded. The strip
    below shows train, valid and test, and the time in which decoding is scored.
    """
    from neurobrick.dataset.dataset import Dataset
    from neurobrick.display import plots

    if not t0 < t1:
        raise click.UsageError(f"T0 must be before T1, not {t0:g} and {t1:g}")
    if window and output:
        raise click.UsageError("--window opens a window, --output writes a file: choose one")
    recording = Dataset(root)[session]
    if window:
        plots.show(recording, t0, t1)
        return
    output = output or Path("neurobrick.png")
    plots.save(recording, t0, t1, output)
    click.echo(f"wrote {output}")
