"""Training: set up, step, loop, resume.

Every random draw of a step comes from the recipe's seed and the step's number, so a run that goes
on from a checkpoint takes the very steps it would have taken, with no generator state to save.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import neurobrick
from neurobrick import Dataset, NeurobrickError, RecipeError
from neurobrick_model import report
from neurobrick_model.baselines import Ridge, ridge
from neurobrick_model.checkpoint import (
    load_state,
    load_weights,
    save_state,
    to_json,
    write_text,
)
from neurobrick_model.corpus import Corpus
from neurobrick_model.decoder import WEIGHTS, DecoderSpec
from neurobrick_model.evaluate import Decoded, decode_split, mean_r2
from neurobrick_model.optim import Average, learning_rate, make_optimizer
from neurobrick_model.perceiver import Perceiver
from neurobrick_model.recipe import Recipe
from neurobrick_model.tokens import all_units, drop_units, key_tokens, query_tokens

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
LOG_EVERY = 20  # steps


class Watch:
    """Told how training goes; this one says nothing."""

    def say(self, line: str) -> None:
        """A line worth reading."""

    def step(self, step: int, loss: float, windows_per_second: float) -> None:
        """`step` steps are done."""


@dataclass
class Progress:
    """Where a run stands; what a checkpoint keeps beside weights and optimizer."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training run of a recipe. `dataset` is opened from the recipe's root by default."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset | None = None, watch: Watch | None = None
    ) -> None:
        self.recipe = recipe
        self.watch = watch or Watch()
        self.device = choose_device(recipe.training.device)
        dataset = dataset if dataset is not None else Dataset(recipe.data.root)
        self.corpus = Corpus.from_dataset(dataset, recipe.data, self.device)
        self.spec = DecoderSpec.describe(recipe, self.corpus)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.training.seed)
            self.model = self.spec.build().to(self.device)
        self.optimizer = make_optimizer(self.model, recipe.training)
        decay = recipe.training.ema
        self.average = Average(self.model, decay) if decay else None
        self.progress = Progress()

    def fit(self, *, resume: bool = False) -> dict[str, Any]:
        """Train, keep the weights that validate best, score them on the test split, and write the
        run's folder: recipe, decoder, checkpoint, log, metrics, report. Returns the metrics.

        With `resume`, goes on from the folder's checkpoint if it has one.

        Raises RecipeError when the folder holds a run of another recipe, NeurobrickError when the
        loss is no longer finite.
        """
        folder = self.recipe.folder
        folder.mkdir(parents=True, exist_ok=True)
        if not (resume and self._resume(folder)):
            for name in (CHECKPOINT, LOG, WEIGHTS, "metrics.json", "report.html"):
                (folder / name).unlink(missing_ok=True)
            write_text(folder / "recipe.yaml", self.recipe.to_yaml())
        vocabulary = self.corpus.vocabulary
        self.watch.say(
            f"{len(vocabulary.sessions)} sessions, {vocabulary.n_units} units, "
            f"{len(self.corpus.spikes.time):,} spikes, {n_parameters(self.model):,} parameters, "
            f"on {self.device}"
        )
        with torch.random.fork_rng():
            self._loop(folder)
        return self._finish(folder)

    def train_step(self, step: int) -> Tensor:
        """One optimizer step; returns the loss, a scalar."""
        settings = self.recipe.training
        loss = self.loss(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        if self.average:
            self.average.update(self.model, step + 1)
        return loss.detach()

    def loss(self, step: int) -> Tensor:
        """Weighted mean squared error of the batch of this step, in z-scored units."""
        settings, corpus = self.recipe.training, self.corpus
        draw, dropout = step_seeds(settings.seed, step)
        generator = torch.Generator(self.device).manual_seed(draw)
        torch.manual_seed(dropout)
        windows = corpus.train.draw(self.recipe.model.window, settings.batch, generator)
        units = all_units(corpus.vocabulary, windows.session)
        if settings.unit_dropout:
            units = drop_units(units, settings.unit_dropout, generator)
        keys = key_tokens(corpus.spikes, windows, units)
        queries = query_tokens(corpus.targets.time, windows, settings.queries, generator)
        guess = self.model(keys, queries)
        weight = corpus.targets.weight[queries.sample] * queries.mask
        error = (guess - corpus.targets.value[queries.sample]).square().mean(2)
        return (weight * error).sum() / weight.sum().clamp(min=1e-6)

    def _loop(self, folder: Path) -> None:
        settings, progress = self.recipe.training, self.progress
        self.model.train()
        clock = time.perf_counter()
        total, since, ticked = torch.zeros((), device=self.device), progress.step, clock
        while progress.step < settings.steps:
            total += self.train_step(progress.step)
            progress.step += 1
            last = progress.step == settings.steps
            validate = last or progress.step % settings.validate_every == 0
            if last or progress.step % LOG_EVERY == 0:
                loss = float(total) / (progress.step - since)
                now = time.perf_counter()
                rate = settings.batch * (progress.step - since) / (now - ticked)
                self._log(folder, step=progress.step, loss=loss, windows_per_second=rate)
                self.watch.step(progress.step, loss, rate)
                if not math.isfinite(loss):
                    raise NeurobrickError(
                        f"the loss is {loss} at step {progress.step}; lower training.learning_rate"
                    )
                total.zero_()
                since, ticked = progress.step, now
            if validate:
                progress.seconds += time.perf_counter() - clock
                self._validate(folder)
                clock = ticked = time.perf_counter()
                total.zero_()
                since = progress.step

    def _validate(self, folder: Path) -> None:
        """Score the validation split, keep the weights if they are the best, save a checkpoint."""
        progress = self.progress
        weights = self.average.weights if self.average else self.model.state_dict()
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(weights)
        r2 = mean_r2(self._decode("valid").values())
        if r2 > progress.best or not math.isfinite(r2):
            progress.best, progress.best_step = r2, progress.step
            self.spec.save(folder, weights)
        self.model.load_state_dict(current)
        self._log(folder, step=progress.step, valid_r2=r2)
        self.watch.say(f"step {progress.step}: validation R² {r2:.4f} (best {progress.best:.4f})")
        save_state(
            folder / CHECKPOINT,
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "model": current,
                "average": self.average.weights if self.average else {},
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(progress),
            },
        )

    def _resume(self, folder: Path) -> bool:
        """Take up the folder's checkpoint; False if it has none."""
        if not (folder / CHECKPOINT).exists():
            self.watch.say(f"{folder} holds no checkpoint: starting from the beginning")
            return False
        state = load_state(folder / CHECKPOINT, self.device)
        changed = difference(state["recipe"], self.recipe.model_dump(mode="json"))
        if changed:
            raise RecipeError(
                f"cannot resume {folder}: its recipe differs in {changed}; "
                "train it anew, or under another name"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load(state["average"])
        self.progress = Progress(**state["progress"])
        lines = (json.dumps(record) for record in self.progress.log)
        write_text(folder / LOG, "".join(f"{line}\n" for line in lines))
        self.watch.say(f"resuming {folder} at step {self.progress.step}")
        return True

    def _decode(self, split: str) -> dict[str, Decoded]:
        return decode_split(
            self.model, self.corpus, split, self.recipe.model.window, self.spec.step
        )

    def _log(self, folder: Path, **record: float) -> None:
        self.progress.log.append(record)
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _finish(self, folder: Path) -> dict[str, Any]:
        self.model.load_state_dict(load_weights(folder / WEIGHTS))
        decoded = self._decode("test")
        baseline, ridges = ridge(self.corpus, self.recipe.baseline)
        metrics = self._metrics(decoded, baseline, ridges)
        write_text(folder / "metrics.json", to_json(metrics) + "\n")
        page = report.render(self.recipe, metrics, self.progress.log, decoded, baseline)
        write_text(folder / "report.html", page)
        return metrics

    def _metrics(
        self,
        decoded: Mapping[str, Decoded],
        baseline: Mapping[str, Decoded],
        ridges: Sequence[Ridge],
    ) -> dict[str, Any]:
        progress, settings = self.progress, self.recipe.training
        return {
            "run": self.recipe.name,
            "target": self.corpus.target,
            "unit": self.corpus.unit,
            "axes": list(self.corpus.axes),
            "split": "test",
            "mean": {"decoder": mean_r2(decoded.values()), "ridge": mean_r2(baseline.values())},
            "sessions": [
                {
                    "id": id,
                    "units": units,
                    "samples": len(decoded[id].time),
                    "decoder": {"r2": decoded[id].r2, "axes": decoded[id].r2_axes},
                    "ridge": {
                        "r2": baseline[id].r2,
                        "axes": baseline[id].r2_axes,
                        "bin": fitted.bin,
                        "alpha": fitted.alpha,
                    },
                }
                for id, units, fitted in zip(
                    self.corpus.vocabulary.sessions,
                    self.corpus.vocabulary.units,
                    ridges,
                    strict=True,
                )
            ],
            "training": {
                "steps": settings.steps,
                "best_step": progress.best_step,
                "best_valid_r2": progress.best,
                "seconds": progress.seconds,
                "windows_per_second": settings.batch * settings.steps / progress.seconds,
                "parameters": n_parameters(self.model),
                "spikes": len(self.corpus.spikes.time),
                "device": str(self.device),
                "seed": settings.seed,
            },
            "versions": {
                "neurobrick": neurobrick.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


def choose_device(wanted: str) -> torch.device:
    """The device of that name; `auto` is CUDA if there is one. Raises RecipeError for CUDA on a
    machine without it."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("training.device is cuda, but torch sees no CUDA device here")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def step_seeds(seed: int, step: int) -> tuple[int, int]:
    """Two independent seeds of a step: for drawing its batch, and for dropout."""
    draw, dropout = np.random.SeedSequence([seed, step]).generate_state(2, np.uint64)
    return int(draw) >> 1, int(dropout) >> 1  # torch takes signed 64-bit seeds


def n_parameters(model: Perceiver) -> int:
    """Trainable numbers in the model."""
    return sum(parameter.numel() for parameter in model.parameters())


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first key, dotted, in which two recipes differ; where and on what device they run does
    not count."""
    for key in new:
        name = f"{prefix}{key}"
        if name in {"runs", "data.root", "training.device"} or old.get(key) == new[key]:
            continue
        if isinstance(old.get(key), Mapping) and isinstance(new[key], Mapping):
            inner = difference(old[key], new[key], f"{name}.")
            if inner is None:
                continue
            return inner
        return f"{name} ({old.get(key)!r}, now {new[key]!r})"
    return None
