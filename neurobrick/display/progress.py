"""How a preparation looks on a terminal, while it runs and after.

Bars on a terminal, one plain line a session when the output is piped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from neurobrick import transfer
from neurobrick.display.console import duration, size
from neurobrick.prepare.plan import Job, Outcome, PassedOver, totals
from neurobrick.progress import Progress

SIGNS = {
    "prepared": "[green]✓[/]",
    "unchanged": "[dim]=[/]",
    "skipped": "[yellow]–[/]",
    "failed": "[red]✗[/]",
}


class Lines(Progress):
    """A line for each session that is done, and for each notice."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def finished(self, item: object) -> None:
        if isinstance(item, Outcome):
            self._console.print(_line(item))

    def say(self, line: str) -> None:
        self._console.print(f"[yellow]⚠[/] {escape(line)}")


class Bars(Lines):
    """Lines above two bars: bytes fetched, if any are to be, and sessions prepared."""

    def __init__(self, console: Console, *, downloads: bool) -> None:
        super().__init__(console)
        self._downloads = downloads
        fetching = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("fetching "),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
            console=console,
        )
        preparing = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("preparing"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            console=console,
        )
        self._bars = {
            "fetching": (fetching, fetching.add_task("", total=None, visible=False)),
            "preparing": (preparing, preparing.add_task("", total=None)),
        }
        self.drawing = Live(Group(fetching, preparing), console=console, transient=True)

    def total(self, stage: str, amount: int) -> None:
        bar, task = self._bars[stage]
        bar.update(task, total=amount)
        if stage == "fetching":
            bar.update(task, visible=self._downloads and amount > 0)

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        bar, task = self._bars[stage]
        bar.advance(task, amount)


@contextmanager
def preparing(console: Console, *, downloads: bool = True) -> Iterator[Progress]:
    """A Progress that draws bars on a terminal, and prints a line a session elsewhere.

    Without `downloads`, there is no bar of bytes.
    """
    if not console.is_terminal:
        yield Lines(console)
        return
    progress = Bars(console, downloads=downloads)
    with progress.drawing:
        yield progress


class Copies(Lines):
    """Of a push or a pull: a bar of bytes on a terminal, and a line for each session."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.drawing = bars.Progress(
            bars.SpinnerColumn(),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self.drawing.add_task("", total=None)

    def total(self, stage: str, amount: int) -> None:
        self.drawing.update(self._task, total=amount)

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        self.drawing.advance(self._task, amount)

    def finished(self, item: object) -> None:
        if isinstance(item, transfer.Copy):
            sign = SIGNS["failed" if item.status == "failed" else "prepared"]
            copied = f"{item.files} files, {size(item.size)}"
            text = copied if item.status == "copied" else item.status
            self._console.print(f"{sign} {escape(item.session_id)}  {text}")


@contextmanager
def copying(console: Console) -> Iterator[Progress]:
    """The `Copies` of a push or a pull, drawn meanwhile."""
    progress = Copies(console)
    with progress.drawing:
        yield progress


def _line(outcome: Outcome) -> str:
    head = f"{SIGNS[outcome.status]} {escape(outcome.session_id)}"
    if outcome.status == "prepared":
        return (
            f"{head}  {outcome.units} units, {outcome.spikes:,} spikes,"
            f" {duration(outcome.seconds)}, {size(outcome.size)}"
        )
    return f"{head}  {outcome.status}{': ' if outcome.reason else ''}{escape(outcome.reason)}"


def closing(
    outcomes: Sequence[Outcome], passed_over: Sequence[PassedOver] = (), where: str = ""
) -> str:
    """The last lines of a preparation: totals, then every failed or skipped file with the reason.

    `where` holds the options by which other commands find the stores, such as ` --root DATA`.
    """
    counts = totals(outcomes)
    made = [outcome for outcome in outcomes if outcome.status == "prepared"]
    lines = [
        ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "nothing to prepare"
    ]
    if made:
        lines[0] += (
            f": {sum(o.units for o in made):,} units, {sum(o.spikes for o in made):,} spikes,"
            f" {duration(sum(o.seconds for o in made))}, {size(sum(o.size for o in made))}"
        )
    lines += not_chosen(passed_over)
    n_left, n_noted = sum(len(o.left) for o in made), sum(bool(o.notes) for o in made)
    if n_left or n_noted:
        lines.append(
            f"{n_left:,} objects of the files were left, {n_noted:,} sessions have notes:"
            f" neurobrick info SESSION{where} says what and why"
        )
    for outcome in outcomes:
        if outcome.status in ("skipped", "failed"):
            lines.append(f"{outcome.path}: {outcome.status}: {outcome.reason}")
    return "\n".join(lines)


def not_chosen(passed_over: Sequence[PassedOver]) -> list[str]:
    """A line for each rule that left assets out: how many, the rule, the first of them."""
    paths: dict[str, list[str]] = {}
    for group in passed_over:
        paths.setdefault(group.rule, []).extend(group.paths)
    return [f"{len(p)} not chosen, by {rule}: the first is {p[0]}" for rule, p in paths.items()]


def plan_table(jobs: Sequence[Job]) -> Table:
    """The table of a dry run: each asset, its bytes, and the session that it would become."""
    table = Table("asset", "session", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    for job in jobs:
        table.add_row(escape(job.asset.path), escape(job.session_id), size(job.asset.size))
    total = sum(job.asset.size for job in jobs)
    table.add_row(f"{len(jobs)} assets", "", f"{size(total)} ({total:,} bytes)")
    return table
