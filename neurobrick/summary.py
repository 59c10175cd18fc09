"""How things look on a terminal: preparation while it runs and after, sessions, sizes, durations.

Bars on a terminal, one plain line a session when the output is piped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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

from neurobrick.dataset import Session
from neurobrick.prepare import Job, Outcome, Watch, totals

SIGNS = {
    "prepared": "[green]✓[/]",
    "unchanged": "[dim]=[/]",
    "skipped": "[yellow]–[/]",
    "failed": "[red]✗[/]",
}


def console(*, stderr: bool = False) -> Console:
    """A console that does not break lines when its output is piped."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


@contextmanager
def watching(show: Console) -> Iterator[Watch]:
    """A Watch that draws bars on a terminal and prints a line a session elsewhere."""
    if not show.is_terminal:
        yield Watch(finished=lambda outcome: show.print(_line(outcome)))
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
        remote = sum(job.asset.size for job in jobs if job.asset.asset_id is not None)
        fetching.update(bytes_bar, total=remote, visible=remote > 0)
        preparing.update(sessions_bar, total=len(jobs))

    def finished(outcome: Outcome) -> None:
        preparing.advance(sessions_bar)
        show.print(_line(outcome))

    with Live(Group(fetching, preparing), console=show, transient=True):
        yield Watch(
            planned=planned,
            fetched=lambda n_bytes: fetching.advance(bytes_bar, n_bytes),
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


def closing(outcomes: Sequence[Outcome]) -> str:
    """The last lines of a preparation: totals, then what failed or was skipped, and why."""
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


def sessions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What `neurobrick list` shows of the catalogue's sessions, one row each."""
    table = Table("session", "subject", box=None, pad_edge=False)
    for name in ("units", "spikes", "duration", "size"):
        table.add_column(name, justify="right")
    table.add_column("behavior (target first)")
    for row in rows:
        behavior = sorted(row["behavior"], key=lambda name: name != row["target"])
        table.add_row(
            row["session"],
            row["subject"],
            f"{row['units']:,}",
            f"{row['spikes']:,}",
            duration(row["duration"]),
            size(row["bytes"]),
            ", ".join(behavior),
        )
    return table


def describe(session: Session) -> str:
    """What `neurobrick info` says of a session."""
    subject, source = session.metadata.subject, session.metadata.provenance
    lines = [
        session.id,
        f"  subject     {subject.id}, {subject.species or 'species not given'}",
        f"  recorded    {session.metadata.session_start_time or 'date not given'},"
        f" {duration(session.domain.duration)}",
        f"  neurons     {session.n_units} units, {session.n_spikes:,} spikes",
        f"  source      {source.path}, {size(source.size)}, sha256 {source.sha256[:12]}…",
        "  behavior",
    ]
    for name, behavior in session.behavior.items():
        rate = f"{behavior.rate:g} Hz" if behavior.rate else "irregular"
        target = ", the target" if name == session.target else ""
        lines.append(f"    {name}  {behavior.shape}, {behavior.unit}, {rate}{target}")
    lines.append("  intervals")
    lines += [f"    {name}  {table.num_rows} rows" for name, table in session.intervals.items()]
    lines.append("  splits")
    lines += [f"    {k}  {duration(v.duration)}" for k, v in session.splits.items()]
    for title, rows in (
        ("notes", list(session.metadata.notes)),
        ("left in the file", [f"{left.path}: {left.reason}" for left in session.metadata.left]),
    ):
        if rows:
            lines.append(f"  {title}")
            lines += [f"    {row}" for row in rows]
    return "\n".join(lines)


def size(n_bytes: float) -> str:
    """Bytes in the unit that a person would choose, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} TB"


def duration(seconds: float) -> str:
    """A length of time, as `12.3 s`, `4:05 min` or `2:30 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
