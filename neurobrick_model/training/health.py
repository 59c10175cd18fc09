"""Health: warnings of a run that learns nothing.

A decoder that has collapsed raises no error: it predicts the mean, and its loss looks plausible. So
the loss is compared with the loss of always predicting the mean of the same samples, and the
variance of the predictions and the size of the weights are watched.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from neurobrick import NeurobrickError
from neurobrick_model.training.optimization.loss import Scores

PATIENCE = 200  # steps after warm-up without warnings, or
PATIENT_SHARE = 0.1  # this share of all steps, whichever is more
USELESS = 0.98  # a loss above this share of the null loss: nothing is learned
USEFUL = 0.9  # a loss below this share of the null loss: something has been learned
FLAT = 1e-3  # variance of the predictions below this share of the behavior's: constant
SHRUNK = 0.1  # size of the weights below this share of their first size: they vanish
SMOOTHING = 0.7  # weight of the earlier losses in the moving average


class Health:
    """Looks at a run every few steps.

    Args:
        matrices: the model's weight matrices.
        steps: steps of the whole run.
        warmup: steps of the warm-up.
    """

    def __init__(self, matrices: list[nn.Parameter], steps: int, warmup: int) -> None:
        self._matrices = matrices
        self._first_size = rms(matrices)
        self._warn_from = warmup + max(PATIENCE, round(PATIENT_SHARE * steps))
        self._ratio: float | None = None  # loss / null loss, a moving average
        self._useful = False  # whether the ratio was ever below USEFUL
        self._given: set[str] = set()  # the kinds of warnings that were given

    def look(self, step: int, scores: Scores) -> list[str]:
        """New warnings after `step` steps, one sentence each, with what to do. Each kind of warning
        is given once.

        Raises NeurobrickError when the loss is not finite: such a run cannot recover.
        """
        if not math.isfinite(scores.loss):
            raise NeurobrickError(
                f"the loss is {scores.loss} at step {step}; lower training.learning_rate, or "
                "raise training.warmup"
            )
        ratio = scores.loss / max(scores.null_loss, 1e-12)
        mean = ratio if self._ratio is None else self._ratio
        self._ratio = SMOOTHING * mean + (1 - SMOOTHING) * ratio
        self._useful |= self._ratio < USEFUL
        if step < self._warn_from and not self._useful:
            return []
        warnings = self._warnings(step, self._ratio, scores.spread)
        new = [text for kind, text in warnings.items() if kind not in self._given]
        self._given |= set(warnings)
        return new

    def _warnings(self, step: int, ratio: float, spread: float) -> dict[str, str]:
        """Everything that is wrong at `step`, by kind."""
        warnings = {}
        if ratio > USELESS and self._useful:
            warnings["risen"] = (
                f"the loss has risen back to that of always predicting the mean, at step {step}: "
                "training has collapsed; lower training.learning_rate"
            )
        elif ratio > USELESS:
            warnings["useless"] = (
                "the loss has not fallen below that of always predicting the mean, after "
                f"{step} steps: nothing is learned; check the target and its unit, and try "
                "another training.learning_rate"
            )
        if spread < FLAT:
            warnings["flat"] = (
                f"the decoder predicts the same whatever it reads, at step {step}: it has "
                "collapsed; lower training.learning_rate or training.weight_decay"
            )
        size = rms(self._matrices)
        if size < SHRUNK * self._first_size:
            warnings["shrunk"] = (
                f"the weights have shrunk to {size / self._first_size:.0%} of their first size, at "
                f"step {step}: they are collapsing; lower training.weight_decay or "
                "training.learning_rate"
            )
        return warnings


def rms(parameters: list[nn.Parameter]) -> float:
    """Root mean square of all elements of `parameters`."""
    squares: list[Tensor] = [parameter.detach().square().sum() for parameter in parameters]
    count = sum(parameter.numel() for parameter in parameters)
    return math.sqrt(sum(float(square) for square in squares) / max(count, 1))
