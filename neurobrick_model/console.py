"""The console: how training goes, and the scores at its end."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rich.progress
from rich.console import Console
from rich.table import Table

from neurobrick import Progress

PLAIN_SECONDS = 10.0  # between progress lines when the output is no terminal


def replace_what_cannot_be_encoded() -> None:
    """Print `?` for signs that the output's encoding does not have, such as ² in ASCII, instead of
    failing with a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class PlainProgress(Progress):
    """Prints notices, and every few seconds a line that says how far a stage is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._printed = 0.0  # when, by the monotonic clock

    def total(self, stage: str, amount: int) -> None:
        self._totals[stage], self._done[stage] = amount, 0

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        total, done = self._totals.get(stage, 0), self._done.get(stage, 0) + amount
        self._done[stage] = done
        due = done == total or time.monotonic() - self._printed > PLAIN_SECONDS
        if amount and due:
            self._printed = time.monotonic()
            self.say(f"{stage} {done}/{total}  {state}".rstrip())

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class BarProgress(PlainProgress):
    """Prints notices above a bar for each stage."""

    def __init__(self, console: Console, bars: rich.progress.Progress) -> None:
        super().__init__(console)
        self._bars = bars
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def total(self, stage: str, amount: int) -> None:
        self._tasks[stage] = self._bars.add_task(stage, total=amount, state="")

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        self._bars.update(self._tasks[stage], advance=amount, state=state)


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """A Progress that draws a bar on a terminal, and prints a line now and then elsewhere."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[state]}"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bars:
        yield BarProgress(console, bars)


def scores(metrics: Mapping[str, Any]) -> Table:
    """The test R² of the decoder and the baselines with 95 % intervals: by session, their means,
    and the means of the parts that are scored separately.

    `metrics` is the content of `metrics.json`. A score that is not a number is shown as "–".
    """
    baselines = list(metrics["mean"]["baselines"])
    shown = Table(title=f"test R² (95 % interval), {metrics['target']}", title_justify="left")
    shown.add_column("session", overflow="fold")  # ids can be copied from a narrow table, too
    for column in ("decoder", *baselines):
        shown.add_column(column, justify="right")
    for session in metrics["sessions"]:
        shown.add_row(session["id"], *_r2(session))
    shown.add_section()
    shown.add_row("mean", *_r2(metrics["summary"]))
    for part in metrics["parts"]:
        shown.add_row(f"mean, {part['split']} {part['during']}", *_r2(part["summary"]))
    shown.add_section()
    for readout in metrics["readouts"]:
        if summary := readout["summary"]:
            name, label = ("r2", "R²") if readout["axes"] else ("accuracy", "accuracy")
            shown.add_row(f"{readout['name']}, mean {label}", _with_interval(summary, name))
    return shown


def _r2(scored: Mapping[str, Any]) -> Iterator[str]:
    for decoder in (scored["decoder"], *scored["baselines"].values()):
        yield _with_interval(decoder, "r2")


def _with_interval(decoder: Mapping[str, Any], name: str) -> str:
    """`0.812 (0.79 to 0.83)`; `0.812 (–)` where there is no interval, as for a single trial."""
    score, (low, high) = decoder[name], decoder["ci95"][name]
    if score != score:
        return "–"
    return f"{score:.3f} ({low:.2f} to {high:.2f})" if low == low else f"{score:.3f} (–)"
