"""The end of a run: what it decodes of the test split, beside the baseline, scored and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurobrick_model import report, run
from neurobrick_model.baselines import Ridge, ridge
from neurobrick_model.corpus import Corpus
from neurobrick_model.embeddings import Map
from neurobrick_model.evaluate import Classified, Decoded, mean_r2
from neurobrick_model.files import to_json, write_text
from neurobrick_model.readouts import Readout
from neurobrick_model.recipe import Recipe


def score(
    folder: Path,
    recipe: Recipe,
    corpus: Corpus,
    decoded: Mapping[str, Decoded],
    others: Mapping[str, Mapping[str, Decoded | Classified]],
    training: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    maps: Sequence[Map],
) -> dict[str, Any]:
    """Score `decoded`, the test split by session, and `others`, the same of each further readout,
    write `metrics.json` and the report, which shows the `maps` of embeddings, and return the
    metrics; `training` is what they say of how it was trained."""
    baseline, ridges = ridge(corpus, recipe.baseline)
    metrics = {
        "run": recipe.name,
        "target": corpus.target,
        "unit": corpus.unit,
        "axes": list(corpus.axes),
        "split": "test",
        "mean": {"decoder": mean_r2(decoded.values()), "ridge": mean_r2(baseline.values())},
        "sessions": _sessions(corpus, decoded, baseline, ridges),
        "readouts": [
            _readout(one.readout, others[one.readout.name]) for one in corpus.targets.readouts
        ],
        "training": dict(training),
        "versions": run.versions(),
    }
    write_text(folder / run.METRICS, to_json(metrics) + "\n")
    write_text(folder / run.REPORT, report.render(recipe, metrics, log, decoded, baseline, maps))
    return metrics


def _sessions(
    corpus: Corpus,
    decoded: Mapping[str, Decoded],
    baseline: Mapping[str, Decoded],
    ridges: Sequence[Ridge],
) -> list[dict[str, Any]]:
    vocabulary = corpus.vocabulary
    return [
        {
            "id": id,
            "units": units,
            "labels": labels,
            "samples": len(decoded[id].time),
            "decoder": {"r2": decoded[id].r2, "axes": decoded[id].r2_axes},
            "ridge": {
                "r2": baseline[id].r2,
                "axes": baseline[id].r2_axes,
                "bin": fitted.bin,
                "alpha": fitted.alpha,
            },
        }
        for id, units, labels, fitted in zip(
            vocabulary.sessions, vocabulary.units, corpus.label_seconds, ridges, strict=True
        )
    ]


def _readout(readout: Readout, decoded: Mapping[str, Decoded | Classified]) -> dict[str, Any]:
    """Of a behavior its R², of what is discrete its accuracy, of each session that has scored
    samples, and their mean."""
    by_session: dict[str, dict[str, Any]] = {}
    for id, one in decoded.items():
        if not len(one.time):
            continue
        if isinstance(one, Classified):
            by_session[id] = {"accuracy": one.accuracy, "guessing": one.guessing}
        else:
            by_session[id] = {"r2": one.r2, "axes": one.r2_axes}
    name = "accuracy" if readout.classes else "r2"
    scores = [scores[name] for scores in by_session.values()]
    return {
        **readout.model_dump(mode="json"),
        "mean": {name: float(np.mean(scores)) if scores else float("nan")},
        "sessions": by_session,
    }
