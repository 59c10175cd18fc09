"""The objective: of each readout a weighted loss, as sums that microbatches and ranks can add up.

A behavior's is the squared error of its z-scores; of what is discrete, the cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.data.readouts import ReadoutTargets
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.training.batches import Batch

ERROR, NOTHING, GUESS, WEIGHT = range(4)


class Objective(nn.Module):
    """The decoder with its loss: a batch in, sums out.

    Args: the decoder, the precision of its products, and what it decodes beside the target.
    """

    shares: Tensor  # (readouts,) what each one's loss counts, the target's first

    def __init__(
        self, model: Perceiver, precision: torch.dtype, others: Sequence[ReadoutTargets] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        widths = [one.readout.width for one in others]
        self.widths = [model.readout.out_features - sum(widths), *widths]
        shares = torch.tensor([1.0, *(one.share for one in others)])
        self.register_buffer("shares", shares.to(model.latent_time.device), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Weighted sums over the batch's samples, (readouts, 4) float32: of the loss, of the loss
        that guessing nothing would make, of what the guess holds, and of the weights."""
        mixed = self.precision != torch.float32
        with torch.autocast(batch.target[0].device.type, self.precision, enabled=mixed):
            guess = self.model(batch.keys, batch.queries, batch.dropout_keys)
        parts = zip(guess.float().split(self.widths, -1), batch.target, batch.weight, strict=True)
        return torch.stack([
            _classes(*part) if part[1].dtype == torch.int64 else _values(*part) for part in parts
        ])  # fmt: skip

    def loss(self, sums: Tensor, weights: Tensor) -> Tensor:
        """What is minimized: of a part of a batch, its `sums` by the whole batch's `weights`
        (readouts,), so that parts add up."""
        return (self.shares * sums[:, ERROR] / weights.clamp(min=1e-6)).sum()


def _values(guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Of a behavior, each sample its mean over axes; nothing is the mean, z-scored zeros."""
    squares = torch.stack([(guess - target).square(), target.square(), guess.detach().square()])
    return torch.cat([(squares.mean(-1) * weight).sum((1, 2)), weight.sum()[None]])


def _classes(guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Of classes: nothing is no class more likely than another, and a guess holds as much as it is
    right."""
    error = functional.cross_entropy(
        guess.movedim(-1, 1), target.clamp(min=0), reduction="none"
    )  # fmt: skip
    right = (guess.argmax(-1) == target).float()
    nothing = torch.full_like(error, math.log(guess.shape[-1]))
    sums = torch.stack([error, nothing, right, torch.ones_like(error)]) * weight
    return sums.sum((1, 2))


@dataclass(frozen=True)
class Scores:
    """What sums over some batches say: the `loss`, what guessing nothing would lose, and the
    variance of the guesses as a share of that of the truth."""

    loss: float
    null_loss: float
    spread: float

    @classmethod
    def of(cls, sums: Tensor) -> Scores:
        """Of added-up sums (4,) of a behavior."""
        error, nothing, guess, weight = sums.tolist()
        weight = max(weight, 1e-6)
        return cls(error / weight, nothing / weight, guess / max(nothing, 1e-12))
