"""The command line: parse, call, print.

Exit status: 0 trained and scored; 1 something failed, and the last line says why; 2 wrong usage, a
recipe that does not validate included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from neurobrick import NeurobrickError, RecipeError, __version__
from neurobrick_model.recipe import Recipe

if TYPE_CHECKING:
    from neurobrick_model.meter import Reading
    from neurobrick_model.trainer import Watch

# Before torch is loaded: threads that wait by spinning starve each other, and whatever else runs
# on the machine, by more than tenfold; asleep they cost an idle machine about a fifth.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PLAIN_SECONDS = 10.0  # between progress lines when the output is piped


class Commands(click.Group):
    """Commands, of which `train` need not be named: what is none of them is a recipe."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = next((arg for arg in args if not arg.startswith("-")), None)
        if named is not None and named not in self.commands:
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["RECIPE [OPTIONS] | COMMAND …"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurobrick-train")
def main() -> None:
    """Train spike decoders, and take them to new recordings.

    neurobrick-train recipes/multisession.yaml trains the decoder that a recipe describes; the other
    commands start from one that was trained.
    """


@main.command()
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
def train(recipe: Path, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Train the decoder that RECIPE describes, and score it on held-out data.

    Leaves runs/NAME: the decoder, its metrics, the log, and report.html, one page to look at.

    On several GPUs, and on several machines that see the same folders, start it by torchrun:

    \b
        torchrun --nproc-per-node 8 -m neurobrick_model.cli RECIPE

    A run that was stopped, or killed, goes on with --resume and ends with the weights it would have
    had. Watch its curves with: tensorboard --logdir runs
    """
    try:
        settings = Recipe.from_yaml(recipe, overrides)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    console = Console(highlight=False, stderr=as_json)
    try:
        from neurobrick_model.files import to_json  # torch is loaded when it is needed
        from neurobrick_model.trainer import Trainer

        with watching(console, settings.training.steps) as watch:
            metrics = Trainer(settings, watch=watch).fit(resume=resume)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    if not metrics:  # another rank has them
        return
    if as_json:
        click.echo(to_json(metrics))
    else:
        console.print(table(metrics))
        console.print(f"report: {settings.folder / 'report.html'}", markup=False, soft_wrap=True)


@contextmanager
def watching(console: Console, steps: int) -> Iterator[Watch]:
    """A Watch that draws a bar on a terminal, and prints a line now and then elsewhere."""
    from neurobrick_model.trainer import Watch

    class Plain(Watch):
        said = 0.0

        def say(self, line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        def step(self, step: int, loss: float, reading: Reading) -> None:
            if step == steps or time.monotonic() - self.said > PLAIN_SECONDS:
                self.said = time.monotonic()
                self.say(f"step {step}/{steps}  {_state(loss, reading)}")

    if not console.is_terminal:
        yield Plain()
        return
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("training", total=steps, state="")

    class Bar(Plain):
        def step(self, step: int, loss: float, reading: Reading) -> None:
            bar.update(task, completed=step, state=_state(loss, reading))

    with bar:
        yield Bar()


def _state(loss: float, reading: Reading) -> str:
    return (
        f"loss {loss:.4f}  {reading.windows_per_second:,.0f} windows/s  "
        f"{reading.utilization:.0%} of peak"
    )


def table(metrics: Mapping[str, Any]) -> Table:
    """R² of the decoder and the baselines by session, and their means."""
    mean = metrics["mean"]
    names = list(mean["baselines"])
    shown = Table("session", title=f"test R², {metrics['target']}", title_justify="left")
    for column in ("decoder", *names):
        shown.add_column(column, justify="right")
    for session in metrics["sessions"]:
        scores = [session["decoder"], *(session["baselines"][name] for name in names)]
        shown.add_row(session["id"], *(f"{one['r2']:.4f}" for one in scores))
    shown.add_section()
    means = [mean["decoder"], *(mean["baselines"][name] for name in names)]
    shown.add_row("mean", *(f"{value:.4f}" for value in means))
    return shown


if __name__ == "__main__":
    main()
