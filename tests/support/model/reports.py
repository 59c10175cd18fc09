"""The report of a run that was never trained, for any decoded samples and names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick_model import Recipe
from neurobrick_model.baselines.fit_all import Baseline
from neurobrick_model.evaluation.bootstrap import assess
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.report import run_report
from neurobrick_model.report.embedding_maps import Map
from tests.support.model.reaches import Floats


def report(truth: Floats, guess: Floats, trial: NDArray[np.int64], *, name: str = "sim/a") -> str:
    """A page with every section. The decoder and a ridge decoder have decoded the same; `name` is
    what everything on the page is called."""
    scores = assess(truth, guess, trial).record()
    decoded = {name: Decoded(np.arange(len(truth)) / 100, truth, guess)}
    scored = {"decoder": scores, "baselines": {"ridge": scores}}
    session = {"id": name, "units": 3, "samples": len(truth), "trials": 20, **scored}
    side: dict[str, Any] = {"accuracy": 0.5, "guessing": 0.5, "ci95": {"accuracy": [0.4, 0.6]}}
    metrics: dict[str, Any] = {
        "run": name,
        "target": name,
        "unit": name,
        "axes": [name, name],
        "split": name,
        "mean": {"decoder": scores["r2"], "baselines": {"ridge": scores["r2"]}},
        "baselines_left_out": {"gru": name},
        "summary": scored,
        "sessions": [session],
        "parts": [{"split": name, "during": name, "summary": scored, "sessions": [session]}],
        "readouts": [
            {"name": name, "unit": "", "classes": [name], "axes": [], "sessions": {name: side}}
        ],
        "training": {
            "spikes": 10,
            "seconds": 10.0,
            "device": name,
            "ranks": 2,
            "steps": 5,
            "best_step": 5,
            "precision": name,
            "windows_per_second": 1.0,
            "tokens_per_second": None,
            "utilization": None,
            "parameters": 5,
            "seed": 0,
            "warnings": [name],
        },
        "versions": {name: name},
    }
    labels = (name, name, "M1", "M1")
    maps = [Map("units", np.eye(4)[:, :2], (0.5, 0.4), {"area": labels})]
    baselines = {"ridge": Baseline(decoded, {name: {}})}
    recipe = Recipe.model_validate({"name": "x", "data": {"sessions": [name]}})
    return run_report.render(recipe, metrics, [], decoded, baselines, maps)
