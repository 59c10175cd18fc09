"""Training: set up, step, loop, resume.

Nothing of a step depends on the steps before it but the weights and what the optimizers remember:
its batch, its dropout and its rate follow from the recipe and its number. So a run that goes on
from a checkpoint takes the very steps it would have taken, on as many ranks as there now are.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurobrick import Dataset
from neurobrick_model.adaptation.recipes import resolve
from neurobrick_model.adaptation.starting_weights import starting_weights
from neurobrick_model.baselines.fit_all import check_baselines
from neurobrick_model.compute.cpu_threads import CpuThreads
from neurobrick_model.compute.device import choose_device, choose_precision
from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.decoding.spec import DecoderSpec
from neurobrick_model.errors import Stopped
from neurobrick_model.evaluation.decoded import Decoded, decode_readouts, decode_rows
from neurobrick_model.evaluation.metrics import mean_r2
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.report import embedding_maps
from neurobrick_model.training.batches import BatchMaker
from neurobrick_model.training.compile import compile_parts, compiles
from neurobrick_model.training.health import Health
from neurobrick_model.training.optimization.gradients import Gradients
from neurobrick_model.training.optimization.loss import Objective, Scores
from neurobrick_model.training.optimization.optimizers import (
    averaged,
    learning_rate,
    make_optimizers,
    split_parameters,
)
from neurobrick_model.training.output import run_folder
from neurobrick_model.training.output.log import Log
from neurobrick_model.training.output.progress import Progress
from neurobrick_model.training.output.watch import Watch
from neurobrick_model.training.scoring import score
from neurobrick_model.training.stopping import asked_to_stop, out_of_memory
from neurobrick_model.training.throughput import Meter, Reading

LOG_EVERY = 20  # steps
CACHE = 2**28  # bytes of decoded arrays: a corpus is read once


class Trainer:
    """One training run of a recipe. `dataset` is opened from the recipe's root by default; `ranks`
    are those that torchrun says."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | None = None,
        watch: Watch | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.recipe = recipe = resolve(recipe)
        settings = recipe.training
        self.ranks = ranks or Ranks.from_environment()
        self.ranks.check(settings.batch)
        self.watch = (watch if self.ranks.first else None) or Watch()
        self.device = choose_device(settings.device, self.ranks.local)
        self.precision = choose_precision(settings.precision, self.device)
        dataset = dataset if dataset is not None else Dataset(recipe.data.root, cache_bytes=CACHE)
        self.start = starting_weights(recipe)
        self.corpus = Corpus.from_dataset(
            dataset, recipe.data, self.device, self.watch.say, settings.seed, self.start.inherited,
            recipe.evaluation,
        )  # fmt: skip
        self.spec = DecoderSpec.describe(recipe, self.corpus)
        self.start.check(self.spec)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.model = self.spec.build().to(self.device)
        self.start.start(self.model)
        self.start.set_learning(self.model, 0)
        self.average = averaged(self.model, settings.ema) if settings.ema else None
        self.optimizers = make_optimizers(self.model, settings)
        self.objective = Objective(self.model, self.precision, self.corpus.targets.readouts)
        compiled = compiles(settings, self.device)
        if compiled:
            compile_parts(self.model)
        self.cutter = BatchMaker(
            self.corpus,
            settings,
            recipe.model.window,
            self.model.sites,
            padded=compiled and self.device.type == "cuda",
        )
        threads = torch.get_num_threads()
        alone = self.device.type == "cpu" and self.ranks.count == 1 and not compiled
        team = CpuThreads(threads) if alone and threads > 1 else None
        self.meter = Meter(
            recipe.model,
            settings.queries,
            len(self.corpus.axes),
            self.device,
            self.precision,
            self.ranks.count,
        )
        self.gradients = Gradients(
            self.objective, self.cutter, settings, self.ranks, team, self.meter
        )
        self.progress = Progress()
        self._stop = False

    def fit(self, *, resume: bool = False, force: bool = False) -> dict[str, Any]:
        """Train, keep the weights that validate best, score them on the test split, and write the
        run's folder: recipe, decoder, checkpoints, log, metrics, report. Returns the metrics (an
        empty dictionary on ranks but the first).

        With `resume`, goes on from the folder's newest sound checkpoint if it has one. With
        `force`, deletes the run or decoder that is in the folder, and starts anew.

        Raises RecipeError when the folder holds a run or decoder and neither is given, or one of
        another recipe or corpus, Stopped when it was asked to stop, and NeurobrickError when
        another process writes to the folder or the loss is no longer finite.
        """
        folder = self.recipe.folder
        with ExitStack() as stack:
            stack.enter_context(self.joined())
            if self.ranks.first:
                stack.enter_context(run_folder.exclusive(folder, self.watch.say))
            self.ranks.wait()
            self._start(folder, resume, force)
            log = Log(folder, self.progress.step) if self.ranks.first else None
            if log:
                check_baselines(self.corpus, self.recipe.baseline, self.watch.say)
            stack.callback(log.close if log else lambda: None)
            stack.enter_context(asked_to_stop(self._ask_to_stop))
            stack.enter_context(out_of_memory())
            self._loop(folder, log)
            return self._finish(folder, log)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """While the ranks can talk to each other, and average their gradients."""
        with self.ranks.joined(self.device), self.gradients.averaged():
            yield

    @property
    def weights(self) -> Perceiver:
        """The model whose weights are kept: the averaged one, if there is one."""
        model: Perceiver = self.average.module if self.average else self.model  # type: ignore[assignment]
        return model

    def train_step(self, step: int) -> Tensor:
        """One optimizer step. Returns the sums (readouts, 4) of `Objective` over this rank's
        windows."""
        settings = self.recipe.training
        if self.start.set_learning(self.model, step):
            self.gradients.others_learn()
        sums = self.gradients.compute(step)
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        rate = learning_rate(step, settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.model)
        return sums

    def decode(self, split: str) -> dict[str, Decoded]:
        """The scored samples of a split as the kept weights decode them, by session; every rank
        decodes a part, and all get the whole."""
        return self._decode(self.corpus.targets.scored[split])

    def _decode(self, rows: Tensor) -> dict[str, Decoded]:
        return decode_rows(
            self.weights, self.corpus, rows, self.recipe.model.window, self.spec.step, self.ranks
        )

    def _start(self, folder: Path, resume: bool, force: bool) -> None:
        """Take up the folder's newest checkpoint where asked, or clear the folder for a new run."""
        fingerprint = self._fingerprint = self.corpus.fingerprint()
        saved = self._saved = run_folder.checkpoints(folder, self.recipe.training.checkpoints)
        state = saved.load(self.device, self.watch.say) if resume else None
        if state is not None:
            run_folder.check_same(folder, state, self.recipe, fingerprint, self.start.parent)
            self._load(state)
            self.watch.say(f"resuming {folder} at step {self.progress.step}")
        else:
            if resume:
                self.watch.say(f"{folder} holds no checkpoint: starting from the beginning")
            elif not force:
                run_folder.check_new(folder, saved)
            self.ranks.wait()
            if self.ranks.first:
                saved.clear()
                run_folder.begin(folder, self.recipe, fingerprint, self.start.parent)
        self.watch.say(
            f"{len(self.corpus.vocabulary.sessions)} sessions, "
            f"{self.corpus.vocabulary.n_units} units, {n_parameters(self.model):,} parameters, "
            f"on {self.ranks.count} × {self.device}, {str(self.precision).removeprefix('torch.')}"
        )

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.progress = Progress(**state["progress"])

    def _loop(self, folder: Path, log: Log | None) -> None:
        settings, progress = self.recipe.training, self.progress
        matrices, _ = split_parameters(self.model)
        health = Health(matrices, settings.steps, round(settings.warmup * settings.steps))
        sums = self.gradients.no_sums()
        before, began = progress.seconds, time.perf_counter()
        checkpoint_every = settings.checkpoint_every or settings.validate_every
        self.meter.restart()
        while progress.step < settings.steps and not self._ended_early():
            sums += self.train_step(progress.step)
            progress.step += 1
            step, last = progress.step, progress.step == settings.steps
            progress.seconds = before + time.perf_counter() - began
            validates = last or step % settings.validate_every == 0
            if validates or step % LOG_EVERY == 0:
                self._report(log, health, sums)  # first, as what is no number is not to be kept
                sums.zero_()
            if validates:
                self._validate(folder, log)
            stop = self._asked(step)
            if validates or stop or step % checkpoint_every == 0:
                self._save()
                sums.zero_()  # as a run that goes on from here begins
                self.meter.restart()
            if stop and not last:
                raise Stopped(f"stopped at step {step} of {settings.steps}; --resume goes on there")

    def _report(self, log: Log | None, health: Health, sums: Tensor) -> None:
        """Log how the last steps went, and say what is wrong with them."""
        step = self.progress.step
        of_target, *others = self.ranks.sum(sums)
        scores = Scores.of(of_target)
        reading = self.meter.read()
        warnings = health.look(step, scores)
        if log:
            log.write(
                step,
                loss=scores.loss,
                null_loss=scores.null_loss,
                spread=scores.spread,
                learning_rate=learning_rate(step - 1, self.recipe.training),
                seconds=self.progress.seconds,
                **asdict(reading),
                **{
                    f"loss_{one.readout.name}": Scores.of(own).loss
                    for one, own in zip(self.corpus.targets.readouts, others, strict=True)
                },
            )
            for warning in warnings:
                log.say(step, warning)
        self.watch.step(step, scores.loss, reading)
        for warning in warnings:
            self.watch.say(f"warning: {warning}")

    def _validate(self, folder: Path, log: Log | None) -> None:
        """Score the validation split, and keep the weights if they are the best."""
        progress = self.progress
        r2 = mean_r2(self.decode("valid").values())
        if r2 > progress.best or not math.isfinite(progress.best):  # NaN: nothing to validate with
            progress.best, progress.best_step = r2, progress.step
            if self.ranks.first:
                self.start.save(folder, self.spec, self.weights.state_dict())
        if log:
            log.write(progress.step, valid_r2=r2, seconds=progress.seconds)
        self.watch.say(
            f"step {progress.step}: validation R² {r2:.4f} (best {progress.best:.4f}, "
            f"step {progress.best_step})"
        )

    def _save(self) -> None:
        if self.ranks.first:
            self._saved.save(
                self.progress.step,
                {
                    "recipe": self.recipe.model_dump(mode="json"),
                    "corpus": self._fingerprint,
                    "parent": self.start.parent.sha256 if self.start.parent else None,
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict() if self.average else {},
                    "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                    "progress": asdict(self.progress),
                },
            )

    def _finish(self, folder: Path, log: Log | None) -> dict[str, Any]:
        """Score the kept weights on what is held out; every rank decodes, the first one writes."""
        self.ranks.wait()
        self.weights.load_state_dict(self.start.load(folder, self.spec))
        decoded = self._decode(self.corpus.targets.reported)
        window, ranks = self.recipe.model.window, self.ranks
        others = decode_readouts(self.weights, self.corpus, "test", window, self.spec.step, ranks)
        if log is None:
            return {}
        progress = self.progress
        measured = [r for r in log.records if "windows_per_second" in r]
        facts = {
            "steps": progress.step,
            "best_step": progress.best_step,
            "best_valid_r2": progress.best,
            "seconds": progress.seconds,
            "parameters": n_parameters(self.model),
            "spikes": len(self.corpus.spikes),
            "device": str(self.device),
            "ranks": self.ranks.count,
            "precision": str(self.precision).removeprefix("torch."),
            "seed": self.recipe.training.seed,
            "corpus": self._fingerprint,
            "warnings": [r["warning"] for r in log.records if "warning" in r],
            **{name: statistics.median(r[name] for r in measured) for name in Reading.names()},
        }
        self.watch.say(f"fitting what to compare with: {', '.join(self.recipe.baseline.which)}")
        maps = embedding_maps.maps(self.weights, self.corpus.anatomies)
        return score(folder, self.recipe, self.corpus, decoded, others, facts, log.records, maps)

    def _ended_early(self) -> bool:
        """Whether the last validations have brought nothing better."""
        patience, progress = self.recipe.training.patience, self.progress
        waited = progress.step - progress.best_step
        if not patience or waited < patience * self.recipe.training.validate_every:
            return False
        self.watch.say(f"no better validation since step {progress.best_step}: training ends")
        return True

    def _ask_to_stop(self) -> None:
        self._stop = True

    def _asked(self, step: int) -> bool:
        """Whether any rank was asked to stop; ranks ask each other only now and then."""
        if self.ranks.count == 1:
            return self._stop
        if step % LOG_EVERY:
            return False
        return bool(self.ranks.sum(torch.tensor(float(self._stop), device=self.device)))


def n_parameters(model: Perceiver) -> int:
    """Trainable numbers in the model."""
    return sum(parameter.numel() for parameter in model.parameters())
