"""A training run: start or resume, step, validate, checkpoint, score.

A step depends on the steps before it only through the weights and the optimizers' state. Its batch,
its dropout and its learning rate follow from the recipe and the step's number. So a run that
resumes from a checkpoint takes the very steps that it would have taken, on any number of ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurobrick import Dataset, Progress
from neurobrick_model.adaptation.recipes import resolve
from neurobrick_model.baselines.fit_all import check_baselines
from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.errors import Stopped
from neurobrick_model.evaluation.decoded import Decoded, decode_readouts, decode_rows
from neurobrick_model.evaluation.metrics import mean_r2
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.training.health import Health
from neurobrick_model.training.optimization.loss import Scores
from neurobrick_model.training.optimization.optimizers import learning_rate, split_parameters
from neurobrick_model.training.output import run_folder
from neurobrick_model.training.output.log import Log
from neurobrick_model.training.output.run_state import RunState
from neurobrick_model.training.scoring import HeldOut, n_parameters, score, training_facts
from neurobrick_model.training.setup import set_up
from neurobrick_model.training.stopping import asked_to_stop, out_of_memory

LOG_EVERY = 20  # steps
STAGE = "training"  # the stage of its progress


class Trainer:
    """One training run.

    Args:
        recipe: what to train. What a recipe that adapts leaves open is filled in.
        dataset: where sessions are read; opened from the recipe's root by default.
        progress: gets the steps of the stage `training`, and notices and warnings.
        ranks: the processes that train together; by default those that torchrun names.

    Raises RecipeError when the recipe does not fit the sessions, the base that it adapts, the ranks
    or the device; StoreError when a store or the base cannot be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | None = None,
        progress: Progress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks.from_environment()
        self.progress = (progress if self.ranks.first else None) or Progress()
        self.setup = setup = set_up(resolve(recipe), dataset, self.progress, self.ranks)
        self.recipe, self.start, self.corpus = setup.recipe, setup.start, setup.corpus
        self.model, self.average = setup.model, setup.average
        self.optimizers, self.gradients = setup.optimizers, setup.gradients
        self.state = RunState()
        self._stop = False

    def fit(self, *, resume: bool = False, force: bool = False) -> dict[str, Any]:
        """Train, keep the weights that validate best, score them on the test split, and write the
        run's folder: recipe, decoder, checkpoints, log, metrics, report.

        Returns the content of `metrics.json`; on all ranks but the first, an empty dictionary.

        With `resume`, the run goes on from the newest sound checkpoint in the folder, if there is
        one. With `force`, the run or decoder in the folder is deleted, and a new run starts.

        Raises RecipeError when the folder holds a run or decoder and neither is given, or a run of
        another recipe or corpus; Stopped when a signal asked to stop; StoreError when a file cannot
        be written; NeurobrickError when another process writes to the folder, when not all ranks
        join, or when the loss is no longer finite.
        """
        folder = self.recipe.folder
        with ExitStack() as stack:
            stack.enter_context(self.joined())
            if self.ranks.first:
                stack.enter_context(run_folder.exclusive(folder, self.progress.say))
            self.ranks.wait()
            self._start(folder, resume, force)
            log = Log(folder, self.state.step) if self.ranks.first else None
            if log:
                check_baselines(self.corpus, self.recipe.baseline, self.progress.say)
            stack.enter_context(asked_to_stop(self._ask_to_stop))
            stack.enter_context(out_of_memory())
            self._loop(folder, log)
            return self._finish(folder, log)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within the block, the ranks exchange tensors and average their gradients. Raises
        NeurobrickError when not all of them join."""
        with (
            self.ranks.joined(self.setup.device, self.progress.say),
            self.gradients.averaged(),
        ):
            yield

    @property
    def weights(self) -> Perceiver:
        """The model with the weights that are kept: the averaged ones, if there are any."""
        model: Perceiver = self.average.module if self.average else self.model  # type: ignore[assignment]
        return model

    def train_step(self, step: int) -> Tensor:
        """Take one optimizer step. Returns the sums (readouts, 4) of `Objective` over this rank's
        windows."""
        settings = self.recipe.training
        if self.start.set_learning(self.model, step):
            self.gradients.learning_changed()
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
        """The scored samples of a split, by session, as the kept weights decode them. Every rank
        decodes a part, and all ranks get the whole."""
        return self._decode(self.corpus.targets.scored[split])

    def _decode(self, rows: Tensor) -> dict[str, Decoded]:
        window, step = self.recipe.model.window, self.setup.spec.step
        return decode_rows(self.weights, self.corpus, rows, window, step, self.ranks)

    def _start(self, folder: Path, resume: bool, force: bool) -> None:
        """Load the newest checkpoint in the folder, if it is to be resumed; else clear the folder
        for a new run."""
        fingerprint = self._fingerprint = self.corpus.fingerprint()
        saved = self._saved = run_folder.checkpoints(folder, self.recipe.training.checkpoints)
        say, parent = self.progress.say, self.start.parent
        checkpoint = saved.load(self.setup.device, say) if resume else None
        if checkpoint is not None:
            run_folder.check_same(folder, checkpoint, self.recipe, fingerprint, parent)
            self._load(checkpoint)
            say(f"resuming {folder} at step {self.state.step}")
        else:
            if resume:
                say(f"{folder} holds no checkpoint: starting from the beginning")
            elif not force:
                run_folder.check_new(folder, saved)
            self.ranks.wait()
            if self.ranks.first:
                saved.clear()
                run_folder.begin(folder, self.recipe, fingerprint, parent)
        vocabulary, precision = self.corpus.vocabulary, str(self.setup.precision)
        say(
            f"{len(vocabulary.sessions)} sessions, {vocabulary.n_units} units, "
            f"{n_parameters(self.model):,} parameters, on {self.ranks.count} × "
            f"{self.setup.device}, {precision.removeprefix('torch.')}"
        )

    def _load(self, checkpoint: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint["model"])
        if self.average:
            self.average.load_state_dict(checkpoint["average"])
        for optimizer, state in zip(self.optimizers, checkpoint["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.state = RunState(**checkpoint["progress"])

    def _loop(self, folder: Path, log: Log | None) -> None:
        settings, state = self.recipe.training, self.state
        matrices, _ = split_parameters(self.model)
        health = Health(matrices, settings.steps, round(settings.warmup * settings.steps))
        sums = self.gradients.zero_sums()
        before, began = state.seconds, time.perf_counter()
        checkpoint_every = settings.checkpoint_every or settings.validate_every
        self.progress.total(STAGE, settings.steps)
        self.progress.advance(STAGE, state.step)
        reported = state.step
        self.setup.meter.restart()
        while state.step < settings.steps and not self._ended_early():
            sums += self.train_step(state.step)
            state.step += 1
            step, last = state.step, state.step == settings.steps
            state.seconds = before + time.perf_counter() - began
            validates = last or step % settings.validate_every == 0
            if validates or step % LOG_EVERY == 0:
                # Before validation: weights with a loss that is not finite must not be kept.
                self._report(log, health, sums, step - reported)
                reported = step
                sums.zero_()
            if validates:
                self._validate(folder, log)
            stop = self._asked(step)
            if validates or stop or step % checkpoint_every == 0:
                self._save()
                sums.zero_()  # a run that resumes here starts with zero sums, too
                self.setup.meter.restart()
            if stop and not last:
                raise Stopped(f"stopped at step {step} of {settings.steps}; --resume goes on there")

    def _report(self, log: Log | None, health: Health, sums: Tensor, steps: int) -> None:
        """Log how the last `steps` steps went, and warn of what is wrong with them."""
        step = self.state.step
        of_target, *of_readouts = self.ranks.sum(sums)
        scores = Scores.of(of_target)
        reading = self.setup.meter.read()
        warnings = health.look(step, scores)
        if log:
            log.write(
                step,
                loss=scores.loss,
                null_loss=scores.null_loss,
                spread=scores.spread,
                learning_rate=learning_rate(step - 1, self.recipe.training),
                seconds=self.state.seconds,
                **asdict(reading),
                **{
                    f"loss_{targets.readout.name}": Scores.of(readout_sums).loss
                    for targets, readout_sums in zip(
                        self.corpus.targets.readouts, of_readouts, strict=True
                    )
                },
            )
            for warning in warnings:
                log.say(step, warning)
        self.progress.advance(STAGE, steps, f"loss {scores.loss:.4f}  {reading}")
        for warning in warnings:
            self.progress.say(f"warning: {warning}")

    def _validate(self, folder: Path, log: Log | None) -> None:
        """Score the validation split, and keep the weights if they are the best so far."""
        state = self.state
        r2 = mean_r2(self.decode("valid").values())
        # Without validation samples R² is NaN; then the newest weights are kept.
        if r2 > state.best or not math.isfinite(state.best):
            state.best, state.best_step = r2, state.step
            if self.ranks.first:
                self.start.save(folder, self.setup.spec, self.weights.state_dict())
        if log:
            log.write(state.step, valid_r2=r2, seconds=state.seconds)
        self.progress.say(
            f"step {state.step}: validation R² {r2:.4f} (best {state.best:.4f}, "
            f"step {state.best_step})"
        )

    def _save(self) -> None:
        """Write a checkpoint."""
        if self.ranks.first:
            self._saved.save(
                self.state.step,
                {
                    "recipe": self.recipe.model_dump(mode="json"),
                    "corpus": self._fingerprint,
                    "parent": self.start.parent.sha256 if self.start.parent else None,
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict() if self.average else {},
                    "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                    "progress": asdict(self.state),
                },
            )

    def _finish(self, folder: Path, log: Log | None) -> dict[str, Any]:
        """Score the kept weights on the held-out data. Every rank decodes, the first one writes."""
        self.ranks.wait()
        spec, window, ranks = self.setup.spec, self.recipe.model.window, self.ranks
        self.weights.load_state_dict(self.start.load(folder, spec))
        target = self._decode(self.corpus.targets.reported)
        readouts = decode_readouts(self.weights, self.corpus, "test", window, spec.step, ranks)
        if log is None:
            return {}
        facts = training_facts(self.setup, self.state, self._fingerprint, log.records)
        held_out = HeldOut(target, readouts)
        return score(self.setup, held_out, facts, log.records, self.weights, self.progress)

    def _ended_early(self) -> bool:
        """Whether the last `training.patience` validations brought nothing better."""
        patience, state = self.recipe.training.patience, self.state
        waited = state.step - state.best_step
        if not patience or waited < patience * self.recipe.training.validate_every:
            return False
        self.progress.say(f"no better validation since step {state.best_step}: training ends")
        return True

    def _ask_to_stop(self) -> None:
        self._stop = True

    def _asked(self, step: int) -> bool:
        """Whether a signal asked any rank to stop. Ranks exchange this every `LOG_EVERY` steps."""
        if self.ranks.count == 1:
            return self._stop
        if step % LOG_EVERY:
            return False
        stop = torch.tensor(float(self._stop), device=self.setup.device)
        return bool(self.ranks.sum(stop))
