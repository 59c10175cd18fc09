"""The objective: weighted squared error of z-scored behavior, as sums that microbatches and ranks
can add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurobrick_model.batches import Batch
from neurobrick_model.perceiver import Perceiver

ERROR, NOTHING, GUESS, WEIGHT = range(4)


class Objective(nn.Module):
    """The decoder with its loss: a batch in, sums out."""

    def __init__(self, model: Perceiver, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, batch: Batch) -> Tensor:
        """Weighted sums over the batch's samples, (4,) float32: of the squared error, of the error
        that guessing nothing but zeros would make, of the squared guess, and of the weights; of the
        first three, each sample counts its mean over axes."""
        device = batch.target.device
        mixed = self.precision != torch.float32
        with torch.autocast(device.type, self.precision, enabled=mixed):
            guess = self.model(batch.keys, batch.queries, batch.chance)
        guess = guess.float()
        squares = torch.stack([(guess - batch.target).square(), batch.target.square(),
                               guess.detach().square()])  # fmt: skip
        return torch.cat([
            (squares.mean(-1) * batch.weight).sum((1, 2)), batch.weight.sum()[None],
        ])  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What sums over some batches say: the `loss`, what guessing zeros would lose, and the variance
    of the guesses as a share of that of the truth."""

    loss: float
    null_loss: float
    spread: float

    @classmethod
    def of(cls, sums: Tensor) -> Scores:
        """Of added-up sums (4,)."""
        error, nothing, guess, weight = sums.tolist()
        weight = max(weight, 1e-6)
        return cls(error / weight, nothing / weight, guess / max(nothing, 1e-12))
