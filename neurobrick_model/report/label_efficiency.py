"""Label efficiency: how well runs decode, against how much labeled behavior they were trained on.

Runs are read from `metrics.json` and `recipe.yaml` in their folders.
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

# The name of each way of adapting, in the order of the page. "train": the run adapts nothing.
WAYS = {
    "identify": "unit identification",
    "unfreeze": "gradual unfreezing",
    "finetune": "full finetuning",
    "scratch": "from scratch",
    "train": "trained without a base",
}
R2BySession = Mapping[str, float]  # R² by session id, NaN for a session without scored samples


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: how it was trained, and how well it decodes."""

    name: str
    way: str  # of adapting, a key of WAYS
    parent: str | None  # name of the base decoder
    labels: float  # s of labeled behavior, mean over sessions
    seed: int
    seconds: float  # that training took
    target: str
    unit: str
    samples: Mapping[str, int]  # scored samples by session id
    checksums: Mapping[str, int]  # of the times of the scored samples, by session id
    decoder: R2BySession
    baselines: Mapping[str, R2BySession]  # by name of the baseline

    @classmethod
    def read(cls, folder: Path) -> FinishedRun:
        """The run in `folder`. Raises StoreError when there is none, or it is not finished."""
        path = folder / "metrics.json"
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(
                f"{folder} holds no metrics.json: it is no run, or one that is not finished; "
                "--resume finishes it"
            ) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}: {error}") from error
        try:
            return cls._of(metrics, Recipe.from_yaml(folder / RECIPE))
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{path} was written by another version of neurobrick, {error} is not in it: train "
                "that run again"
            ) from error

    @classmethod
    def _of(cls, metrics: Mapping[str, Any], recipe: Recipe) -> FinishedRun:
        sessions, training = metrics["sessions"], metrics["training"]
        names = list(sessions[0]["baselines"])
        return cls(
            name=metrics["run"],
            way=recipe.adapt.way if recipe.adapt else "train",
            parent=recipe.adapt.base.name if recipe.adapt else None,
            labels=float(np.mean([session["labels"] for session in sessions])),
            seed=training["seed"],
            seconds=training["seconds"],
            target=metrics["target"],
            unit=metrics["unit"],
            samples={session["id"]: session["samples"] for session in sessions},
            checksums={session["id"]: session["checksum"] for session in sessions},
            decoder={session["id"]: _r2(session["decoder"]) for session in sessions},
            baselines={
                name: {session["id"]: _r2(session["baselines"][name]) for session in sessions}
                for name in names
            },
        )


@dataclass(frozen=True)
class Curve:
    """R² against seconds of labels, for one way of training or one baseline."""

    label: str
    baseline: bool
    seconds: tuple[float, ...]  # (n,) s of labels, rising
    mean: tuple[float, ...]  # (n,) over sessions and seeds
    low: tuple[float, ...]  # (n,) lowest of the seeds' means over sessions
    high: tuple[float, ...]  # (n,) highest of these
    sessions: Mapping[str, tuple[float, ...]]  # (n,) mean over seeds, by session id


def curves(runs: Sequence[FinishedRun]) -> list[Curve]:
    """A curve for each way in which `runs` were trained, then one for each baseline. All runs are
    scored on the same sessions. Baselines depend on the labels and not on the way."""
    curves = []
    for way, label in WAYS.items():
        decoders = [(run, run.decoder) for run in runs if run.way == way]
        if decoders:
            curves.append(_curve(label, False, decoders))
    for name in dict.fromkeys(name for run in runs for name in run.baselines):
        scores = [(run, run.baselines[name]) for run in runs if name in run.baselines]
        curves.append(_curve(name, True, scores))
    return curves


def _curve(label: str, baseline: bool, scores: Sequence[tuple[FinishedRun, R2BySession]]) -> Curve:
    cells: dict[float, dict[int, list[R2BySession]]] = defaultdict(lambda: defaultdict(list))
    for run, score in scores:
        cells[round(run.labels, 1)][run.seed].append(score)
    seconds = sorted(cells)
    seeds = [
        [mean(mean(score.values()) for score in of_seed) for of_seed in cells[x].values()]
        for x in seconds
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
                mean(mean(score[id] for score in of_seed) for of_seed in cells[x].values())
                for x in seconds
            )
            for id in scores[0][1]
        },
    )


def mean(values: Iterable[float]) -> float:
    """The mean of the finite values; NaN if there are none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _r2(scores: Mapping[str, Any]) -> float:
    return float("nan") if scores["r2"] is None else scores["r2"]
