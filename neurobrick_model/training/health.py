"""Health: a run that learns nothing says so, instead of going on for days.

A decoder that has collapsed does not fail: its loss is that of guessing the mean, which looks like
a loss. So the loss is held against that of guessing the mean of the very same samples, the guesses
are watched for variance, and the weights for their size.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from neurobrick import NeurobrickError
from neurobrick_model.training.optimization.loss import Scores

PATIENCE = 200  # steps, at least, before anything but an infinity is said
SHARE = 0.1  # of all steps, that many if that is more
USELESS = 0.98  # of the loss of guessing the mean
USEFUL = 0.9
FLAT = 1e-3  # variance of the guesses, in those of the truth
SHRUNK = 0.1  # size of the weights, in what it was at first
SMOOTHING = 0.7  # of the ratio, from one look to the next


class Health:
    """Looks at a run now and then.

    Args: its matrices, and how many steps it takes in all, how many of them for warming up.
    """

    def __init__(self, matrices: list[nn.Parameter], steps: int, warmup: int) -> None:
        self._matrices = matrices
        self._size = rms(matrices)
        self._after = warmup + max(PATIENCE, round(SHARE * steps))
        self._ratio: float | None = None
        self._useful = False
        self._said: set[str] = set()

    def look(self, step: int, scores: Scores) -> list[str]:
        """What is newly wrong after `step` steps, a sentence each, with what to do.

        Raises NeurobrickError when the loss is not finite: nothing can come of such a run.
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
        if step < self._after and not self._useful:
            return []
        found = []
        if self._ratio > USELESS:
            found.append(self._useless(step))
        if scores.spread < FLAT:
            found.append(
                f"the decoder says the same whatever it reads, at step {step}: it has collapsed; "
                "lower training.learning_rate or training.weight_decay"
            )
        size = rms(self._matrices)
        if size < SHRUNK * self._size:
            found.append(
                f"the weights have shrunk to {size / self._size:.0%} of what they were, at step "
                f"{step}: they are collapsing; lower training.weight_decay or the rate"
            )
        new = [line for line in found if line.partition(",")[0] not in self._said]
        self._said |= {line.partition(",")[0] for line in new}
        return new

    def _useless(self, step: int) -> str:
        if self._useful:
            return (
                "the loss has risen back to that of guessing the mean, "
                f"at step {step}: training has collapsed; lower training.learning_rate"
            )
        return (
            "the loss has not fallen below that of guessing the mean, "
            f"after {step} steps: nothing is learned; check the target and its unit, and try "
            "another training.learning_rate"
        )


def rms(parameters: list[nn.Parameter]) -> float:
    """Root mean square of all their elements."""
    squares: list[Tensor] = [parameter.detach().square().sum() for parameter in parameters]
    count = sum(parameter.numel() for parameter in parameters)
    return math.sqrt(sum(float(square) for square in squares) / max(count, 1))
