"""Sample efficiency: how well runs decode after how much labelled behavior.

It is read off what finished runs have left in their folders, `metrics.json` and `recipe.yaml`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurobrick import StoreError
from neurobrick_model.recipe.recipe import RECIPE, Recipe

# How each way of adapting is called, in this order; "train" is that of a run which adapts nothing.
WAYS = {
    "identify": "unit identification",
    "unfreeze": "gradual unfreezing",
    "finetune": "full finetuning",
    "scratch": "from scratch",
    "train": "trained without a base",
}
Scores = Mapping[str, float]  # R² by session id, NaN where it has no scored samples


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: how it was trained, from what `parent`, with how many seconds of `labels` of
    each session, in how many `seconds`; and how it scores: by session `samples`, a checksum of
    their times, and R² of the decoder and of each baseline."""

    name: str
    way: str
    parent: str | None
    labels: float
    seed: int
    seconds: float
    target: str
    unit: str
    samples: Mapping[str, int]
    checksums: Mapping[str, int]
    decoder: Scores
    baselines: Mapping[str, Scores]

    @classmethod
    def read(cls, folder: Path) -> FinishedRun:
        """The run in `folder`. Raises StoreError when it is none, or has not come to its end."""
        path = folder / "metrics.json"
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(
                f"{folder} holds no metrics.json: it is no run, or one that has not come to its "
                "end, to which --resume takes it"
            ) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}: {error}") from error
        try:
            return cls._of(metrics, Recipe.from_yaml(folder / RECIPE))
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{path} was written by another version of neurobrick, {error} is not in it: train "
                "that run anew"
            ) from error

    @classmethod
    def _of(cls, metrics: Mapping[str, Any], recipe: Recipe) -> FinishedRun:
        sessions, training = metrics["sessions"], metrics["training"]
        names = list(sessions[0]["baselines"])
        return cls(
            name=metrics["run"],
            way=recipe.adapt.way if recipe.adapt else "train",
            parent=recipe.adapt.base.name if recipe.adapt else None,
            labels=float(np.mean([one["labels"] for one in sessions])),
            seed=training["seed"],
            seconds=training["seconds"],
            target=metrics["target"],
            unit=metrics["unit"],
            samples={one["id"]: one["samples"] for one in sessions},
            checksums={one["id"]: one["checksum"] for one in sessions},
            decoder={one["id"]: _r2(one["decoder"]) for one in sessions},
            baselines={
                name: {one["id"]: _r2(one["baselines"][name]) for one in sessions} for name in names
            },
        )


@dataclass(frozen=True)
class Curve:
    """R² over `seconds` of labels (n,), rising: the `mean` over sessions and seeds, the `low` and
    `high` of the seeds' means over sessions, and the mean over seeds of each session."""

    label: str
    baseline: bool
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    sessions: Mapping[str, tuple[float, ...]]


def curves(runs: Sequence[FinishedRun]) -> list[Curve]:
    """A curve for each way that `runs`, scored on the same sessions, were trained, then one for
    each baseline. Baselines are fitted to the same labels whatever the way."""
    found = []
    for way, label in WAYS.items():
        mine = [run for run in runs if run.way == way]
        if mine:
            found.append(_curve(label, False, [(run, run.decoder) for run in mine]))
    for name in dict.fromkeys(name for run in runs for name in run.baselines):
        scores = [(run, run.baselines[name]) for run in runs if name in run.baselines]
        found.append(_curve(name, True, scores))
    return found


def _curve(label: str, baseline: bool, scores: Sequence[tuple[FinishedRun, Scores]]) -> Curve:
    cells: dict[float, dict[int, list[Scores]]] = defaultdict(lambda: defaultdict(list))
    for run, score in scores:
        cells[round(run.labels, 1)][run.seed].append(score)
    seconds = sorted(cells)
    seeds = [
        [mean(mean(score.values()) for score in own) for own in cells[x].values()] for x in seconds
    ]
    return Curve(
        label,
        baseline,
        tuple(seconds),
        mean=tuple(map(mean, seeds)),
        low=tuple(map(min, seeds)),
        high=tuple(map(max, seeds)),
        sessions={
            id: tuple(
                mean(mean(score[id] for score in own) for own in cells[x].values()) for x in seconds
            )
            for id in scores[0][1]
        },
    )


def mean(values: Iterable[float]) -> float:
    """The mean of those that are finite; NaN when there are none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _r2(scores: Mapping[str, Any]) -> float:
    return float("nan") if scores["r2"] is None else scores["r2"]
