"""Runs compared: one page that holds their scores against each other, and what labels they took.

R² of different recordings cannot be compared. So runs are put together only where they decode the
same samples of the same sessions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from neurobrick_model.files import write_text
from neurobrick_model.report import figures
from neurobrick_model.report.html import duration, figure, page, r2, table
from neurobrick_model.report.label_efficiency import WAYS, FinishedRun, curves, mean


def compare(folders: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Write the page that compares the runs in `folders` to `out`, and return what it says of each,
    mean R² of decoder and baselines among it.

    Raises StoreError for a folder without a finished run, or when the page cannot be written.
    """
    runs = [FinishedRun.read(folder) for folder in folders]
    write_text(out, render(runs))
    return [_summary(run) for run in runs]


def render(runs: Sequence[FinishedRun]) -> str:
    """The page: for runs that can be compared, R² against labels, and their scores."""
    groups: dict[Any, list[FinishedRun]] = defaultdict(list)
    order = list(WAYS)
    for run in sorted(runs, key=lambda run: (order.index(run.way), run.labels, run.seed)):
        groups[run.target, run.unit, tuple(run.checksums.items())].append(run)
    parts = ["<h1>Runs compared</h1>"]
    if len(groups) > 1:
        parts += [
            '<p class="soft">They decode different sessions, or different samples of them; only '
            "those that decode the same are held against each other.</p>"
        ]
    for group in groups.values():
        parts += _group(group)
    return page("Runs compared", parts)


def _group(runs: Sequence[FinishedRun]) -> list[str]:
    first = runs[0]
    samples = sum(first.samples.values())
    sessions = _count(len(first.samples), "session")
    return [
        f"<h2>{escape(first.target)} ({escape(first.unit)}) of {sessions}, {samples:,} samples, "
        f"by {_count(len(runs), 'run')}</h2>",
        figure(figures.efficiency(curves(runs))),
        '<p class="soft">Lines are means over sessions and seeds, bars reach over the seeds, faint '
        "lines are single sessions. Baselines have the same labels.</p>",
        _runs(runs),
        _sessions(runs),
    ]


def _runs(runs: Sequence[FinishedRun]) -> str:
    baselines = list(dict.fromkeys(name for run in runs for name in run.baselines))
    labels = [figures.LABELS[name] for name in baselines]
    heads = ["run", "way", "base", "labels", "seed", "R²", *labels, "training"]
    rows = [
        [
            escape(run.name),
            WAYS[run.way],
            escape(run.parent or "–"),
            f"{run.labels:,.0f} s",
            str(run.seed),
            f"<b>{r2(mean(run.decoder.values()))}</b>",
            *(r2(mean(run.baselines.get(name, {}).values())) for name in baselines),
            duration(run.seconds),
        ]
        for run in runs
    ]
    return table(heads, rows)


def _sessions(runs: Sequence[FinishedRun]) -> str:
    """R² of each run by session, folded away."""
    rows = [
        [escape(id), *(r2(run.decoder[id]) for run in runs)]
        for id in runs[0].samples
    ]  # fmt: skip
    shown = table(["session", *(run.name for run in runs)], rows)
    return f"<details><summary>R² by session</summary>{shown}</details>"


def _summary(run: FinishedRun) -> dict[str, Any]:
    return {
        "run": run.name,
        "way": run.way,
        "base": run.parent,
        "labels": run.labels,
        "seed": run.seed,
        "mean": {
            "decoder": mean(run.decoder.values()),
            "baselines": {name: mean(one.values()) for name, one in run.baselines.items()},
        },
        "sessions": dict(run.decoder),
        "seconds": run.seconds,
    }


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
