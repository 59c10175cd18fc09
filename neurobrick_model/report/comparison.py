"""Runs compared: one page that shows their scores side by side, and what labels they took.

R² of different recordings cannot be compared. So runs are grouped by what they decode: the same
samples of the same sessions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from neurobrick_model.files import write_text
from neurobrick_model.report import figures, html
from neurobrick_model.report.label_efficiency import WAYS, FinishedRun, curves, mean


def compare(folders: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Write the page that compares the runs in `folders` to `out`. Returns what the page says about
    each run, such as the mean R² of decoder and baselines.

    Raises StoreError for a folder without a finished run, or when the page cannot be written.
    """
    runs = [FinishedRun.read(folder) for folder in folders]
    write_text(out, render(runs))
    return [_summary(run) for run in runs]


def render(runs: Sequence[FinishedRun]) -> str:
    """The page: R² against labels, and scores, for each group of runs that can be compared."""
    groups: dict[Any, list[FinishedRun]] = defaultdict(list)
    order = list(WAYS)
    for run in sorted(runs, key=lambda run: (order.index(run.way), run.labels, run.seed)):
        groups[run.target, run.unit, tuple(run.checksums.items())].append(run)
    return html.render(
        "comparison.html.j2",
        groups=[_group(group) for group in groups.values()],
        ways=WAYS,
        mean=mean,
    )


def _group(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """What the template shows of runs that decode the same samples."""
    baselines = list(dict.fromkeys(name for run in runs for name in run.baselines))
    return {
        "runs": runs,
        "efficiency": Markup(figures.efficiency(curves(runs))),
        "baselines": baselines,
        "labels": [figures.LABELS[name] for name in baselines],
    }


def _summary(run: FinishedRun) -> dict[str, Any]:
    return {
        "run": run.name,
        "way": run.way,
        "base": run.parent,
        "labels": run.labels,
        "seed": run.seed,
        "mean": {
            "decoder": mean(run.decoder.values()),
            "baselines": {name: mean(scores.values()) for name, scores in run.baselines.items()},
        },
        "sessions": dict(run.decoder),
        "seconds": run.seconds,
    }
