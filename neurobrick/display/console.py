"""What the output of all commands shares: the console, sizes and durations, a bar for checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

Item = TypeVar("Item")

UNBROKEN = 10_000  # columns of a piped output: no line is broken


def console(*, stderr: bool = False) -> Console:
    """A console of standard output or error; it breaks no lines when its output is piped."""
    terminal = Console(stderr=stderr, highlight=False)
    if terminal.is_terminal:
        return terminal
    return Console(stderr=stderr, highlight=False, width=UNBROKEN)


def watched(show: Console, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """`items` as they come; on a terminal, a bar below the lines that are printed to `show`."""
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=show, transient=True, disable=not show.is_terminal) as bar:
        yield from bar.track(items, total=total)


def print_table(show: Console, table: Table) -> None:
    """Print `table` without cutting any of its words, however narrow the terminal is."""
    options = show.options.update(width=UNBROKEN)
    least = Measurement.get(show, options, table).minimum
    show.print(table, width=max(show.width, least), crop=False)


def size(n_bytes: float) -> str:
    """Bytes as `12 B`, `3.4 kB`, `5.6 MB`, `7.8 GB` or `9.01 TB`, in powers of 1000."""
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
