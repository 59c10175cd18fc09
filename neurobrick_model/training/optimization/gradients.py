"""The gradients of a batch's loss, over all ranks.

A batch is computed in microbatches: one after the other, or, on a CPU, side by side, each on a
thread of its own.
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
    """Makes this rank's windows of a step, and leaves the gradients of the whole batch's loss in
    the model's parameters.

    Args:
        objective: the model with its loss.
        batch_maker: makes the windows.
        settings: size of batch and microbatch, and the number of steps.
        ranks: the processes that share the batch.
        threads: the CPU threads that share this rank's windows; None to take microbatches in turn.
        meter: counts the windows.
    """

    def __init__(
        self,
        objective: Objective,
        batch_maker: BatchMaker,
        settings: TrainingSettings,
        ranks: Ranks,
        threads: CpuThreads | None,
        meter: Meter,
    ) -> None:
        self.threads = threads
        self.shares = shares(
            settings.batch,
            settings.microbatch,
            ranks.rank,
            ranks.count,
            least=threads.count if threads else 1,
        )
        self.prefetcher = Prefetcher(batch_maker, self.shares)
        self._objective, self._batch_maker = objective, batch_maker
        self._steps = settings.steps
        self._ranks, self._meter = ranks, meter
        self._parallel: nn.Module = objective

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block, which must lie within `Ranks.joined`, gradients are averaged over the
        ranks."""
        self._parallel = self._ranks.parallel(self._objective)
        try:
            yield
        finally:
            # Let go of the wrapper before the ranks part. It would be the last holder of their
            # process group, and freeing the group then waits, with the interpreter locked, for
            # threads that wait for the interpreter.
            self._parallel = self._objective

    def learning_changed(self) -> None:
        """To be called when other parameters learn from now on."""
        if self._parallel is not self._objective:
            # The wrapper lists the parameters that learn when it is made.
            self._parallel = self._ranks.parallel(self._objective)

    def compute(self, step: int) -> Tensor:
        """Set the gradients of `step`. Returns the sums (readouts, 4) of `Objective` over this
        rank's windows."""
        return self._on_threads(self.threads, step) if self.threads else self._in_turn(step)

    def zero_sums(self) -> Tensor:
        """Sums (readouts, 4) to add to."""
        return torch.zeros(len(self._objective.widths), 4, device=self._objective.shares.device)

    def _in_turn(self, step: int) -> Tensor:
        """One microbatch after the other. On a GPU, the next step's are made meanwhile."""
        ranks = self._ranks
        batches = self.prefetcher.take(step)
        self._meter.count(batches)
        weights = ranks.sum(torch.stack([batch.weights for batch in batches]).sum(0))
        sums = self.zero_sums()
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            with nullcontext() if last else ranks.without_averaging(self._parallel):
                part = self._parallel(batch)
                # Gradients are averaged over the ranks; their sum is needed.
                (self._objective.loss(part, weights) * ranks.count).backward()
            sums += part.detach()
        if step + 1 < self._steps:
            self.prefetcher.look_ahead(step + 1)
        return sums

    def _on_threads(self, threads: CpuThreads, step: int) -> Tensor:
        """Each thread makes and computes microbatches of its own. Their gradients are added in the
        order of the microbatches, so that the sum does not depend on which thread was faster."""
        parameters = [p for p in self._objective.parameters() if p.requires_grad]
        batches = list(threads.map(partial(self._batch_maker.cut, step), self.shares))
        self._meter.count(batches)
        weights = torch.stack([batch.weights for batch in batches]).sum(0)

        def compute(batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
            part = self._objective(batch)
            loss = self._objective.loss(part, weights)
            return part.detach(), torch.autograd.grad(loss, parameters)

        sums = self.zero_sums()
        total: list[Tensor] = []
        for part, gradients in threads.map(compute, batches):
            sums += part
            if total:
                torch._foreach_add_(total, gradients)
            else:
                total = list(gradients)
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return sums
