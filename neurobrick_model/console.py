"""The console: how training goes, and the scores at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from neurobrick_model.training.output.watch import Watch
    from neurobrick_model.training.throughput import Reading

PLAIN_SECONDS = 10.0  # between progress lines when the output is piped


@contextmanager
def watching(console: Console, steps: int) -> Iterator[Watch]:
    """A Watch that draws a bar on a terminal, and prints a line now and then elsewhere."""
    from neurobrick_model.training.output.watch import Watch

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


def scores(metrics: Mapping[str, Any]) -> Table:
    """R² of the decoder and the baselines with their 95 % intervals: by session, their means, and
    the means of what is scored apart."""
    names = list(metrics["mean"]["baselines"])
    shown = Table(title=f"test R² (95 % interval), {metrics['target']}", title_justify="left")
    shown.add_column("session", overflow="fold")  # to be copied from where it is narrow, too
    for column in ("decoder", *names):
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
    for one in (scored["decoder"], *scored["baselines"].values()):
        yield _with_interval(one, "r2")


def _with_interval(scores: Mapping[str, Any], name: str) -> str:
    low, high = scores["ci95"][name]
    bounds = f" ({low:.2f} to {high:.2f})" if low == low else ""  # one trial has none
    return f"{scores[name]:.3f}{bounds}"
