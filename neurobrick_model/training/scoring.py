"""The end of a run: what it decodes of held-out data, beside baselines, scored and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurobrick_model.baselines.fit_all import Baseline, baselines
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.scored_parts import HEADLINE
from neurobrick_model.evaluation.breakdown import DECODER, break_down, break_down_readout
from neurobrick_model.evaluation.decoded import Classified, Decoded, of_part
from neurobrick_model.evaluation.metrics import mean_r2
from neurobrick_model.files import to_json, write_text
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.report import run_report
from neurobrick_model.report.embedding_maps import Map
from neurobrick_model.training.output import run_folder

BLOCK = 2  # windows, each as long as the behavior takes to change: what outlasts its correlation


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
    """Score `decoded`, the reported samples by session, and `others`, the test split of each
    further readout, write `metrics.json` and the report, which shows the `maps` of embeddings, and
    return the metrics; `training` is what they say of how it was trained."""
    seed = recipe.training.seed
    fitted = baselines(corpus, recipe.baseline, seed)
    decoders = {DECODER: decoded} | {name: one.decoded for name, one in fitted.items()}
    block = BLOCK * recipe.model.window
    parts = {part: break_down(corpus, decoders, part, block, seed) for part in corpus.targets.parts}
    headline = parts.pop(HEADLINE)
    decoded = of_part(corpus, decoded, HEADLINE)
    headlines = {
        name: replace(one, decoded=of_part(corpus, one.decoded, HEADLINE))
        for name, one in fitted.items()
    }
    metrics = {
        "run": recipe.name,
        "target": corpus.target,
        "unit": corpus.unit,
        "axes": list(corpus.axes),
        "split": "test",
        "mean": {
            "decoder": mean_r2(decoded.values()),
            "baselines": {name: mean_r2(one.decoded.values()) for name, one in headlines.items()},
        },
        "baselines_left_out": dict(fitted.left_out),
        "summary": headline["summary"],
        "sessions": _sessions(corpus, headline["sessions"], fitted),
        "parts": [part for one in parts.values() if (part := _held(one))["sessions"]],
        "readouts": [
            break_down_readout(corpus, one.readout, others[one.readout.name], block, seed)
            for one in corpus.targets.readouts
        ],
        "training": dict(training),
        "versions": run_folder.versions(),
    }
    write_text(folder / run_folder.METRICS, to_json(metrics) + "\n")
    write_text(
        folder / run_folder.REPORT,
        run_report.render(recipe, metrics, log, decoded, headlines, maps),
    )
    return metrics


def _sessions(
    corpus: Corpus, scored: Sequence[Mapping[str, Any]], fitted: Mapping[str, Baseline]
) -> list[dict[str, Any]]:
    return [
        {
            "id": one["id"],
            "units": units,
            "labels": labels,
            **one,
            "baselines": {
                name: {**scores, **fitted[name].chosen[one["id"]]}
                for name, scores in one["baselines"].items()
            },
        }
        for one, units, labels in zip(
            scored, corpus.vocabulary.units, corpus.label_seconds, strict=True
        )
    ]


def _held(part: Mapping[str, Any]) -> dict[str, Any]:
    """Without the sessions that have no samples in it."""
    return {**part, "sessions": [one for one in part["sessions"] if one["samples"]]}
