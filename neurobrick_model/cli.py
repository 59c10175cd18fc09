"""The command line: parse, call, print.

Exit status: 0 trained and scored; 1 something failed, and the last line says why; 2 wrong usage, a
recipe that does not validate included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from neurobrick import NeurobrickError, RecipeError, __version__
from neurobrick_model.recipe import Recipe

PLAIN_SECONDS = 10.0  # between progress lines when the output is piped


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the recipe, such as training.steps=100; repeatable.",
)
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint, if it has one.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.version_option(__version__, prog_name="neurobrick-train")
def main(recipe: Path, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Train the decoder that RECIPE describes, and score it on held-out data.

    Leaves runs/NAME: the decoder, its metrics, the log, and report.html, one page to look at.
    """
    try:
        settings = Recipe.from_yaml(recipe, overrides)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    console = Console(highlight=False, stderr=as_json)
    try:
        from neurobrick_model.trainer import Trainer

        with watching(console, settings.training.steps) as watch:
            metrics = Trainer(settings, watch=watch).fit(resume=resume)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        from neurobrick_model.checkpoint import as_json as dumped

        click.echo(dumped(metrics))
    else:
        console.print(table(metrics))
        console.print(f"report: {settings.folder / 'report.html'}")
