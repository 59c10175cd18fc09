"""The gradients of a batch's loss, of all ranks together.

A batch is computed in parts: one after the other, each on a whole device, or side by side by the
cores of one CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from neurobrick_model.compute.cpu_threads import CpuThreads
from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.recipe.settings import TrainingSettings
from neurobrick_model.training.batches import Batch, BatchMaker, Prefetcher, shares
from neurobrick_model.training.optimization.loss import Objective
from neurobrick_model.training.throughput import Meter


class Gradients:
    """Cuts this rank's windows of a step and leaves the gradients of the whole batch's loss in the
    model. `team`: the cores that share the work, if they do."""

    def __init__(
        self,
        objective: Objective,
        cutter: BatchMaker,
        settings: TrainingSettings,
        ranks: Ranks,
        team: CpuThreads | None,
        meter: Meter,
    ) -> None:
        self.team = team
        self.shares = shares(
            settings.batch,
            settings.microbatch,
            ranks.rank,
            ranks.count,
            least=team.size if team else 1,
        )
        self.feed = Prefetcher(cutter, self.shares)
        self._objective, self._cutter, self._steps = objective, cutter, settings.steps
        self._ranks, self._meter = ranks, meter
        self._parallel: nn.Module = objective

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While the ranks, which can talk to each other, average their gradients."""
        self._parallel = self._ranks.parallel(self._objective)
        try:
            yield
        finally:
            # Before the ranks part: what averages would be the last to hold their group, and free
            # it with the interpreter locked, waiting for threads that wait for the lock.
            self._parallel = self._objective

    def others_learn(self) -> None:
        """Other parameters learn from now on."""
        if self._parallel is not self._objective:
            self._parallel = self._ranks.parallel(self._objective)  # which looks at them once

    def compute(self, step: int) -> Tensor:
        """Gradients of `step`. Returns the sums (readouts, 4) of `Objective` over this rank's
        windows."""
        return self._by_team(self.team, step) if self.team else self._in_turn(step)

    def no_sums(self) -> Tensor:
        """The sums of no window."""
        return torch.zeros(len(self._objective.widths), 4, device=self._objective.shares.device)

    def _in_turn(self, step: int) -> Tensor:
        """By one microbatch after the other, while the next step's are cut."""
        ranks = self._ranks
        batches = self.feed.take(step)
        self._meter.count(batches)
        weights = ranks.sum(torch.stack([batch.weights for batch in batches]).sum(0))
        sums = self.no_sums()
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            with nullcontext() if last else ranks.apart(self._parallel):
                part = self._parallel(batch)
                # Ranks are averaged over; what is wanted is the sum of what they have.
                (self._objective.loss(part, weights) * ranks.count).backward()
            sums += part.detach()
        if step + 1 < self._steps:
            self.feed.look_ahead(step + 1)
        return sums

    def _by_team(self, team: CpuThreads, step: int) -> Tensor:
        """By cores that each cut and compute microbatches of their own. They are added up in their
        order, so that which core was faster is no matter."""
        parameters = [p for p in self._objective.parameters() if p.requires_grad]
        batches = list(team.map(partial(self._cutter.cut, step), self.shares))
        self._meter.count(batches)
        weights = torch.stack([batch.weights for batch in batches]).sum(0)

        def compute(batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
            part = self._objective(batch)
            loss = self._objective.loss(part, weights)
            return part.detach(), torch.autograd.grad(loss, parameters)

        sums = self.no_sums()
        total: list[Tensor] = []
        for part, gradients in team.map(compute, batches):
            sums += part
            if total:
                torch._foreach_add_(total, gradients)
            else:
                total = list(gradients)
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return sums
