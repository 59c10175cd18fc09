"""A run's folder: who may write in it, what it was trained from, and what a resume compares.

`recipe.yaml` is the resolved recipe, `run.json` holds the versions and the corpus's fingerprint.
"""

from __future__ import annotations

import errno
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

import neurobrick
from neurobrick import NeurobrickError, RecipeError, StoreError
from neurobrick_model.decoding.spec import WEIGHTS, Parent
from neurobrick_model.files import read_json, to_json, write_text, writing
from neurobrick_model.recipe.recipe import RECIPE, Recipe
from neurobrick_model.training.output.checkpoint import Checkpoints
from neurobrick_model.training.output.curves import CURVES
from neurobrick_model.training.output.log import LOG

RUN = "run.json"
METRICS = "metrics.json"
REPORT = "report.html"
LOCK = ".lock"
# What a file system answers that has no locks, as some NFS and Lustre mounts.
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EIO}
# Settings that say where and on what device a run goes. A resume may change them.
MAY_CHANGE_ON_RESUME = {
    "runs",
    "adapt.base",  # `check_same` compares the weights themselves
    "data.root",
    "data.place",
    "training.device",
    "training.microbatch",
    "training.compile",
    "training.checkpoint_every",
    "training.checkpoints",
}


@contextmanager
def exclusive(folder: Path, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Create the run's folder, and lock it against other processes within the block.

    On a file system without locks the run goes on, and `say` gets a warning.

    Raises NeurobrickError when another process holds the lock, and StoreError when the folder
    cannot be created or written to.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise NeurobrickError(
            f"another neurobrick-train is writing to {folder}: wait for it, or train under another "
            "name with --set name=…"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS or not folder.is_dir():
            raise StoreError(
                f"cannot write to the run's folder {folder}: {error.strerror or error}; choose "
                "another with --set runs=…"
            ) from error
        say(
            f"warning: {folder} is on a file system without locks ({error.strerror}): make sure "
            "that no other neurobrick-train writes to it"
        )
    try:
        yield
    finally:
        lock.release()


def check_new(folder: Path, saved: Checkpoints) -> None:
    """Raises RecipeError when `folder` holds a run or a decoder, which a new run would replace."""
    if saved.paths() or any((folder / name).exists() for name in (WEIGHTS, METRICS)):
        raise RecipeError(
            f"{folder} holds a run already: --resume goes on with it, --force deletes it and "
            "starts anew, --set name=… gives the new one another name"
        )


def begin(folder: Path, recipe: Recipe, fingerprint: str, parent: Parent | None) -> None:
    """Delete the files of an earlier run, and write `recipe.yaml` and `run.json`.

    `fingerprint` is the corpus's; `parent` is the decoder that is adapted, if one is. Raises
    StoreError when the folder cannot be written to.
    """
    for name in (LOG, WEIGHTS, METRICS, REPORT):
        with writing(folder / name):
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CURVES, ignore_errors=True)
    write_text(folder / RECIPE, recipe.to_yaml())
    facts: dict[str, Any] = {"corpus": fingerprint, "versions": versions()}
    if parent:
        facts["parent"] = parent.model_dump()
        base = read_json(Path(parent.path) / RUN) or {}
        if "imported" in base:  # the origin of the weights, however often they were adapted since
            facts["imported"] = base["imported"]
    write_text(folder / RUN, to_json(facts) + "\n")


def checkpoints(folder: Path, keep: int) -> Checkpoints:
    """The checkpoints of the run in `folder`, the last `keep` of them."""
    return Checkpoints(folder / "checkpoints", keep)


def check_same(
    folder: Path,
    state: Mapping[str, Any],
    recipe: Recipe,
    fingerprint: str,
    parent: Parent | None,
) -> None:
    """Raises RecipeError when the checkpoint `state` has another recipe, corpus or parent."""
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
    """The versions of the software that trains."""
    return {
        "neurobrick": neurobrick.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first setting in which two recipes differ, as `training.batch (8, now 4)`; None if they
    agree. Settings that `MAY_CHANGE_ON_RESUME` are not compared."""
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
