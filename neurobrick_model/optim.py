"""Optimizer, schedule and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from neurobrick_model.recipe import TrainingSettings


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; embeddings, norms and biases do not, as shrinking them has no meaning: they
    are read through a norm, or they are one."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        matrix = parameter.ndim > 1 and id(parameter) not in embeddings
        (decayed if matrix else free).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); the rate is set anew at every step."""
    return torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay), lr=settings.learning_rate
    )


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """A linear rise over the warm-up, then half a cosine down to zero at the last step."""
    warmup = round(settings.warmup * settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - warmup)
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


class Average:
    """Exponential moving average of a model's weights, of which early steps weigh no more than
    late ones: its decay rises to the given one (Adam's bias correction, applied to weights)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights as they are after `step` steps."""
        decay = min(self.decay, step / (step + 10))
        for name, value in model.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over saved weights."""
        for name, value in weights.items():
            self.weights[name].copy_(value)
