"""The loss: for each readout a weighted mean, kept as sums that microbatches and ranks can add up.

The loss of a behavior is the squared error of its z-scores. The loss of a column with classes is
the cross-entropy.
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

# Columns of the sums.
LOSS, NULL_LOSS, PREDICTION, WEIGHT = range(4)


class Objective(nn.Module):
    """The decoder with its loss: a batch in, sums out.

    Args:
        model: the decoder.
        precision: dtype of its matrix products.
        further: the readouts that are decoded beside the target.
    """

    shares: Tensor  # (readouts,) weight of each readout in the total loss; the target's is 1

    def __init__(
        self, model: Perceiver, precision: torch.dtype, further: Sequence[ReadoutTargets] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        widths = [targets.readout.width for targets in further]
        self.widths = [model.readout.out_features - sum(widths), *widths]
        shares = torch.tensor([1.0, *(targets.share for targets in further)])
        self.register_buffer("shares", shares.to(model.latent_time.device), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Sums over the batch's samples, each times its weight: (readouts, 4) float32.

        The columns are the loss; the loss of the null model, which reads no spikes; for a behavior
        the mean square of the prediction, for classes the number of correct predictions; and the
        weights themselves.
        """
        mixed = self.precision != torch.float32
        with torch.autocast(batch.target[0].device.type, self.precision, enabled=mixed):
            prediction = self.model(batch.keys, batch.queries, batch.dropout_keys)
        predictions = prediction.float().split(self.widths, -1)
        readouts = zip(predictions, batch.target, batch.weight, strict=True)
        return torch.stack([
            _class_sums(*readout) if readout[1].dtype == torch.int64 else _behavior_sums(*readout)
            for readout in readouts
        ])  # fmt: skip

    def loss(self, sums: Tensor, weights: Tensor) -> Tensor:
        """What is minimized, a scalar. `sums` are those of a part of a batch; `weights` (readouts,)
        are the weights of the whole batch, so that the losses of its parts add up to its loss."""
        return (self.shares * sums[:, LOSS] / weights.clamp(min=1e-6)).sum()


def _behavior_sums(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sums (4,) of a behavior; each sample counts the mean over its axes.

    The null model always predicts the mean, which is zero after z-scoring.
    """
    squares = torch.stack(
        [(prediction - target).square(), target.square(), prediction.detach().square()]
    )
    return torch.cat([(squares.mean(-1) * weight).sum((1, 2)), weight.sum()[None]])


def _class_sums(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sums (4,) of a column with classes. In the null model all classes are equally likely."""
    loss = functional.cross_entropy(
        prediction.movedim(-1, 1), target.clamp(min=0), reduction="none"
    )  # fmt: skip
    correct = (prediction.argmax(-1) == target).float()
    null_loss = torch.full_like(loss, math.log(prediction.shape[-1]))
    sums = torch.stack([loss, null_loss, correct, torch.ones_like(loss)]) * weight
    return sums.sum((1, 2))


@dataclass(frozen=True)
class Scores:
    """How well a behavior was predicted over some batches."""

    loss: float  # mean squared error, in variances of the behavior
    null_loss: float  # the same of always predicting the mean
    spread: float  # variance of the predictions, as a share of the behavior's

    @classmethod
    def of(cls, sums: Tensor) -> Scores:
        """The scores that the added-up sums (4,) of a behavior make."""
        loss, null_loss, prediction, weight = sums.tolist()
        weight = max(weight, 1e-6)
        return cls(loss / weight, null_loss / weight, prediction / max(null_loss, 1e-12))
