"""A run's folder: who may write in it, where it came from, and what a resume checks.

`recipe.yaml` is the resolved recipe, `run.json` the versions and the corpus's fingerprint.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

import neurobrick
from neurobrick import NeurobrickError, RecipeError
from neurobrick_model.decoding.spec import WEIGHTS, Parent
from neurobrick_model.files import read_json, to_json, write_text
from neurobrick_model.recipe.recipe import RECIPE, Recipe
from neurobrick_model.training.output.checkpoint import Checkpoints
from neurobrick_model.training.output.log import CURVES, LOG

RUN = "run.json"
METRICS = "metrics.json"
REPORT = "report.html"
# Where and on what a run goes does not change what it is: it may go on elsewhere.
MAY_CHANGE_ON_RESUME = {
    "runs",
    "adapt.base",  # a resume holds its weights against those it began with
    "data.root",
    "data.place",
    "training.device",
    "training.microbatch",
    "training.compile",
    "training.checkpoint_every",
    "training.checkpoints",
}


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """While no other process writes into the run's folder.

    Raises NeurobrickError when another does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise NeurobrickError(
            f"another neurobrick-train is writing to {folder}: wait for it, or train under another "
            "name with --set name=…"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_new(folder: Path, saved: Checkpoints) -> None:
    """Raises RecipeError when there is a run or a decoder in `folder`, which a new one replaces."""
    if saved.paths() or any((folder / name).exists() for name in (WEIGHTS, METRICS)):
        raise RecipeError(
            f"{folder} holds a run already: --resume goes on with it, --force deletes it and "
            "starts anew, --set name=… gives the new one another name"
        )


def begin(folder: Path, recipe: Recipe, fingerprint: str, parent: Parent | None) -> None:
    """Clear the folder of an earlier run and say what this one is."""
    for name in (LOG, WEIGHTS, METRICS, REPORT):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CURVES, ignore_errors=True)
    write_text(folder / RECIPE, recipe.to_yaml())
    told: dict[str, Any] = {"corpus": fingerprint, "versions": versions()}
    if parent:
        told["parent"] = parent.model_dump()
        base = read_json(Path(parent.path) / RUN) or {}
        if "imported" in base:  # what the weights go back to, however often they were adapted
            told["imported"] = base["imported"]
    write_text(folder / RUN, to_json(told) + "\n")


def checkpoints(folder: Path, keep: int) -> Checkpoints:
    """Those of the run in `folder`."""
    return Checkpoints(folder / "checkpoints", keep)


def check_same(
    folder: Path,
    state: Mapping[str, Any],
    recipe: Recipe,
    fingerprint: str,
    parent: Parent | None,
) -> None:
    """Raises RecipeError when the checkpoint `state` is of another recipe, corpus or parent."""
    changed = difference(state["recipe"], json.loads(recipe.model_dump_json()))
    if changed:
        raise RecipeError(
            f"cannot resume {folder}: its recipe differs in {changed}; "
            "train it anew, or under another name"
        )
    if state["corpus"] != fingerprint:
        raise RecipeError(
            f"cannot resume {folder}: the sessions have been prepared anew, or are others, since "
            "it began; train it anew, or under another name"
        )
    if parent and state["parent"] != parent.sha256:
        raise RecipeError(
            f"cannot resume {folder}: the decoder in {parent.path} that it adapts has changed "
            "since it began; adapt that anew, or under another name"
        )


def versions() -> dict[str, str]:
    """Of what training was done with."""
    return {
        "neurobrick": neurobrick.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first key, dotted, in which two recipes differ; where and on what device they run does
    not count."""
    for key in new:
        name = f"{prefix}{key}"
        if name in MAY_CHANGE_ON_RESUME or old.get(key) == new[key]:
            continue
        if isinstance(old.get(key), Mapping) and isinstance(new[key], Mapping):
            inner = difference(old[key], new[key], f"{name}.")
            if inner is None:
                continue
            return inner
        return f"{name} ({old.get(key)!r}, now {new[key]!r})"
    return None
