"""How a preparation looks on a terminal, while it runs and after.

Bars on a terminal, one plain line a session when the output is piped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from neurobrick import transfer
from neurobrick.display.console import duration, size
from neurobrick.errors import StoreError
from neurobrick.prepare.conduct import Watch
from neurobrick.prepare.plan import Job, Outcome, totals

SIGNS = {
    "prepared": "[green]✓[/]",
    "unchanged": "[dim]=[/]",
    "skipped": "[yellow]–[/]",
    "failed": "[red]✗[/]",
}


@contextmanager
def watching(show: Console, *, downloads: bool = True) -> Iterator[Watch]:
    """A Watch that draws bars on a terminal and prints a line a session elsewhere.

    One of the bars is of bytes, where there are `downloads`.
    """

    def unlisted(fault: StoreError) -> None:
        show.print(f"[yellow]⚠[/] not in the catalogue: {escape(str(fault))}")

    if not show.is_terminal:
        yield Watch(finished=lambda outcome: show.print(_line(outcome)), unlisted=unlisted)
        return
    fetching = Progress(
        SpinnerColumn(),
        TextColumn("fetching "),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=show,
        transient=True,
    )
    preparing = Progress(
        SpinnerColumn(),
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        console=show,
        transient=True,
    )
    bytes_bar = fetching.add_task("", total=None, visible=False)
    sessions_bar = preparing.add_task("", total=None)

    def planned(jobs: Sequence[Job]) -> None:
        remote = sum(job.asset.size for job in jobs if job.asset.elsewhere)
        fetching.update(bytes_bar, total=remote, visible=downloads and remote > 0)
        preparing.update(sessions_bar, total=len(jobs))

    def finished(outcome: Outcome) -> None:
        preparing.advance(sessions_bar)
        show.print(_line(outcome))

    with Live(Group(fetching, preparing), console=show, transient=True):
        yield Watch(
            planned=planned,
            fetched=lambda n_bytes: fetching.advance(bytes_bar, n_bytes),
            finished=finished,
            unlisted=unlisted,
        )


@contextmanager
def copying(show: Console) -> Iterator[transfer.Watch]:
    """A Watch of a push or a pull: a bar of bytes on a terminal, and a line a session."""

    def finished(copy: transfer.Copy) -> None:
        sign = SIGNS["failed" if copy.status == "failed" else "prepared"]
        said = f"{copy.files} files, {size(copy.size)}" if copy.status == "copied" else copy.status
        show.print(f"{sign} {escape(copy.session_id)}  {said}")

    columns = (SpinnerColumn(), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=show,
        transient=True,
        disable=not show.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)
        yield transfer.Watch(
            planned=lambda n_bytes: bar.update(task, total=n_bytes),
            moved=lambda n_bytes: bar.advance(task, n_bytes),
            finished=finished,
        )


def _line(outcome: Outcome) -> str:
    head = f"{SIGNS[outcome.status]} {escape(outcome.session_id)}"
    if outcome.status == "prepared":
        return (
            f"{head}  {outcome.units} units, {outcome.spikes:,} spikes,"
            f" {duration(outcome.seconds)}, {size(outcome.size)}"
        )
    return f"{head}  {outcome.status}{': ' if outcome.reason else ''}{escape(outcome.reason)}"


def closing(outcomes: Sequence[Outcome], where: str = "") -> str:
    """The last lines of a preparation: totals, then what failed or was skipped, and why; `where`
    are the options by which other commands find what was prepared."""
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


def plan_table(jobs: Sequence[Job]) -> Table:
    """What a dry run shows: each asset, its bytes, and the session that it would become."""
    table = Table("asset", "session", box=None, pad_edge=False)
    table.add_column("size", justify="right")
    for job in jobs:
        table.add_row(escape(job.asset.path), escape(job.session_id), size(job.asset.size))
    total = sum(job.asset.size for job in jobs)
    table.add_row(f"{len(jobs)} assets", "", f"{size(total)} ({total:,} bytes)")
    return table
