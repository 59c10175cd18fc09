"""The end of a run: the decoder and the baselines are scored on held-out data, and the report is
written.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurobrick import Progress
from neurobrick_model.baselines.fit_all import Baseline, Baselines, baselines
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.scored_parts import HEADLINE
from neurobrick_model.evaluation.breakdown import DECODER, break_down, break_down_readout
from neurobrick_model.evaluation.decoded import Classified, Decoded, of_part
from neurobrick_model.evaluation.metrics import mean_r2
from neurobrick_model.files import to_json, write_text
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.report import embedding_maps, run_report
from neurobrick_model.training.output import run_folder
from neurobrick_model.training.output.run_state import RunState
from neurobrick_model.training.setup import Setup
from neurobrick_model.training.throughput import Reading

# Where there are no trials, scores are resampled in blocks of this many windows. A window is about
# as long as behavior is correlated with itself, so blocks are independent.
BLOCK = 2


@dataclass(frozen=True)
class HeldOut:
    """What the decoder made of the held-out data, by session."""

    target: Mapping[str, Decoded]  # the samples of all splits that are scored
    # Each further readout by name, the samples of the test split.
    readouts: Mapping[str, Mapping[str, Decoded | Classified]]


def training_facts(
    setup: Setup, state: RunState, fingerprint: str, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How the decoder was trained, as the key `training` of `metrics.json` has it.

    `fingerprint` is the corpus's; `records` are those of the run's log.
    """
    readings = {
        name: [record[name] for record in records if record.get(name) is not None]
        for name in Reading.names()
    }
    return {
        "steps": state.step,
        "best_step": state.best_step,
        "best_valid_r2": state.best,
        "seconds": state.seconds,
        "parameters": n_parameters(setup.model),
        "spikes": len(setup.corpus.spikes),
        "device": str(setup.device),
        "ranks": setup.ranks.count,
        "precision": str(setup.precision).removeprefix("torch."),
        "seed": setup.recipe.training.seed,
        "corpus": fingerprint,
        "warnings": [record["warning"] for record in records if "warning" in record],
        **{name: statistics.median(r) if r else None for name, r in readings.items()},
    }


def n_parameters(model: Perceiver) -> int:
    """Number of trainable parameters in the model."""
    return sum(parameter.numel() for parameter in model.parameters())


def score(
    setup: Setup,
    held_out: HeldOut,
    training: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    weights: Perceiver,
    progress: Progress,
) -> dict[str, Any]:
    """Score `held_out` beside the baselines, write `metrics.json` and `report.html`, and return the
    metrics.

    `training` are the `training_facts`, `records` those of the run's log. The report maps the
    embeddings of `weights`. `progress` gets warnings, and the fitting of baselines.

    Raises StoreError when a file cannot be written.
    """
    recipe, corpus = setup.recipe, setup.corpus
    fitted = baselines(corpus, recipe.baseline, recipe.training.seed, progress)
    metrics = _metrics(recipe, corpus, held_out, fitted)
    warnings = [*training["warnings"], *unscored(metrics["sessions"], held_out.target)]
    for warning in warnings[len(training["warnings"]) :]:
        progress.say(f"warning: {warning}")
    metrics["training"] = {**training, "warnings": warnings}
    metrics["versions"] = run_folder.versions()
    write_text(recipe.folder / run_folder.METRICS, to_json(metrics) + "\n")
    decoded = of_part(corpus, held_out.target, HEADLINE)
    headline = {
        name: replace(baseline, decoded=of_part(corpus, baseline.decoded, HEADLINE))
        for name, baseline in fitted.items()
    }
    maps = embedding_maps.maps(weights, corpus.anatomies)
    page = run_report.render(recipe, metrics, records, decoded, headline, maps)
    write_text(recipe.folder / run_folder.REPORT, page)
    return metrics


def unscored(sessions: Sequence[Mapping[str, Any]], decoded: Mapping[str, Decoded]) -> list[str]:
    """A warning for each session of `metrics.json` whose test R² is not a number, with the reason.

    `decoded` are the scored samples of each session.
    """
    warnings = []
    for session in sessions:
        if math.isfinite(session["decoder"]["r2"]):
            continue
        truth, prediction = decoded[session["id"]].truth, decoded[session["id"]].guess
        if not session["samples"]:
            reason = "none of its samples are in the scored test data"
        elif not (np.isfinite(truth).all() and np.isfinite(prediction).all()):
            reason = "the target or the prediction has values that are not finite"
        else:
            reason = f"the target does not vary over its {session['samples']:,} scored samples"
        warnings.append(f"{session['id']} has no test R²: {reason}")
    return warnings


def _metrics(
    recipe: Recipe, corpus: Corpus, held_out: HeldOut, fitted: Baselines
) -> dict[str, Any]:
    """`metrics.json`, but for how the decoder was trained."""
    seed, block = recipe.training.seed, BLOCK * recipe.model.window
    decoders = {DECODER: held_out.target}
    decoders |= {name: baseline.decoded for name, baseline in fitted.items()}
    parts = {part: break_down(corpus, decoders, part, block, seed) for part in corpus.targets.parts}
    headline = parts.pop(HEADLINE)
    means = {
        name: mean_r2(of_part(corpus, decoded, HEADLINE).values())
        for name, decoded in decoders.items()
    }
    return {
        "run": recipe.name,
        "target": corpus.target,
        "unit": corpus.unit,
        "axes": list(corpus.axes),
        "split": "test",
        "mean": {"decoder": means.pop(DECODER), "baselines": means},
        "baselines_left_out": dict(fitted.left_out),
        "summary": headline["summary"],
        "sessions": _sessions(corpus, headline["sessions"], fitted),
        "parts": [scored for part in parts.values() if (scored := _scored(part))["sessions"]],
        "readouts": [
            break_down_readout(
                corpus, targets.readout, held_out.readouts[targets.readout.name], block, seed
            )
            for targets in corpus.targets.readouts
        ],
    }


def _sessions(
    corpus: Corpus, scored: Sequence[Mapping[str, Any]], fitted: Mapping[str, Baseline]
) -> list[dict[str, Any]]:
    """The scores of each session, with its units, its seconds of labels, and what was chosen for
    its baselines."""
    return [
        {
            "id": session["id"],
            "units": units,
            "labels": labels,
            **session,
            "baselines": {
                name: {**scores, **fitted[name].chosen[session["id"]]}
                for name, scores in session["baselines"].items()
            },
        }
        for session, units, labels in zip(
            scored, corpus.vocabulary.units, corpus.label_seconds, strict=True
        )
    ]


def _scored(part: Mapping[str, Any]) -> dict[str, Any]:
    """The part without the sessions that have no samples in it."""
    return {**part, "sessions": [scored for scored in part["sessions"] if scored["samples"]]}
