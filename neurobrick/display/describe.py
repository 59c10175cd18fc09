"""Sessions in words: what `neurobrick list` and `neurobrick info` show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from neurobrick.dataset.session import Session
from neurobrick.display.console import duration, size
from neurobrick.intervals import Intervals

MOST_ALIKE = 20  # lines that differ only in a number; if there are more, they are counted
SHOWN_ALIKE = 2  # of them that are still shown


def sessions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of `neurobrick list`: one row for each session of the catalogue."""
    table = Table(box=None, pad_edge=False)
    names = ("session", "subject", "units", "spikes", "duration", "size")
    cells = [
        (
            row["session"],
            row["subject"] or "",
            f"{row['units']:,}",
            f"{row['spikes']:,}",
            duration(row["duration"]),
            size(row["bytes"]),
        )
        for row in rows
    ]
    for k, name in enumerate(names):
        # Ids are copied and numbers are read, so neither may be cut.
        widest = max(len(cell) for cell in (name, *(line[k] for line in cells)))
        table.add_column(name, justify="right" if k > 1 else "left", min_width=widest)
    table.add_column("behavior (target first)", overflow="fold")
    for row, line in zip(rows, cells, strict=True):
        behavior = sorted(row["behavior"], key=lambda name: name != row["target"])
        table.add_row(*map(escape, line), escape(", ".join(behavior)))
    return table


def session(recording: Session) -> str:
    """The text of `neurobrick info`."""
    about, source = recording.metadata, recording.metadata.provenance
    lines = [
        recording.id,
        f"  subject     {about.subject.id or 'not named'},"
        f" {about.subject.species or 'species not given'}",
        f"  recorded    {about.session_start_time or 'date not given'},"
        f" {duration(recording.domain.duration)}",
        f"  neurons     {recording.n_units} units, {recording.n_spikes:,} spikes"
        f"{_areas(recording)}",
        f"  target      {recording.target or 'none'}",
        f"  evaluation  {_part(recording.evaluation, recording.domain)}",
    ]
    if about.description:
        lines.insert(1, f"  about       {' '.join(about.description.split())}")
    lines.append("  source")
    if source.dandiset:
        lines.append(f"    dandiset {source.dandiset}, version {source.version}")
    lines.append(f"    {source.path}, {size(source.size)}, {source.digest[:20]}…")
    if source.streamed:
        read = sum(part.stop - part.start for part in source.streamed)
        lines.append(f"    {size(read)} of it read, without a download")
    lines.append(f"    read by neurobrick {source.neurobrick}, spec {source.spec_hash[:12]}…")
    lines.append("  behavior")
    for name, behavior in recording.behavior.items():
        rate = f"{behavior.rate:g} Hz" if behavior.rate else "irregular"
        lines.append(f"    {name}  {behavior.shape}, {behavior.unit}, {rate}")
    lines.append("  intervals")
    lines += [f"    {name}  {table.num_rows} rows" for name, table in recording.intervals.items()]
    lines.append("  splits")
    lines += [f"    {name}  {_part(v, recording.domain)}" for name, v in recording.splits.items()]
    for title, rows in (
        ("notes", list(about.notes)),
        ("left in the file", [f"{left.path}: {left.reason}" for left in about.left]),
    ):
        if rows:
            lines.append(f"  {title}")
            lines += [f"    {row}" for row in collapsed(rows)]
    return "\n".join(lines)


def collapsed(rows: Iterable[str]) -> list[str]:
    """`rows`, shortened: of more than 20 rows that differ only in a number, the first two and a
    count of the others.

    Rows that are alike stand together, where the first of them stood.
    """
    alike: dict[str, list[str]] = {}
    for row in rows:
        alike.setdefault(re.sub(r"\d+", "0", row), []).append(row)
    shown = []
    for group in alike.values():
        if len(group) > MOST_ALIKE:
            shown += [*group[:SHOWN_ALIKE], f"and {len(group) - SHOWN_ALIKE} more like these"]
        else:
            shown += group
    return shown


def _part(part: Intervals, whole: Intervals) -> str:
    if part == whole:
        return "all of it"
    share = part.duration / whole.duration if whole.duration else 0.0
    return f"{duration(part.duration)} ({share:.0%}) in {len(part)} stretches"


def _areas(recording: Session) -> str:
    """How many units each brain area has, where the file names areas."""
    if "area" not in recording.units.column_names:
        return ""
    counts: dict[str, int] = {}
    for area in recording.units["area"].to_pylist():
        counts[str(area or "no area")] = counts.get(str(area or "no area"), 0) + 1
    return f" ({', '.join(f'{n} {area}' for area, n in sorted(counts.items()))})"
