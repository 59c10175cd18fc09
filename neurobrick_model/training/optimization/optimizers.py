"""Optimizers and their schedule.

Matrices decay; norms and biases do not, as shrinking them has no meaning. Embeddings of units and
sessions are many, and a batch touches few: theirs is an optimizer that treats every row as a
parameter of its own (`rows`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import TrainingSettings
from neurobrick_model.training.optimization.row_adam import RowAdam

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimizers(model: Perceiver, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """One optimizer for each kind of parameter; their rates are set anew at every step.

    AdamW (Loshchilov & Hutter 2019); LAMB (You et al. 2020), which the paper uses; or Muon (Jordan
    et al. 2024) for the matrices of the attentions and feed-forwards, its updates scaled so that
    AdamW's rate suits it (Liu et al. 2025), with AdamW for the rest.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    matrices, others = split_parameters(model)
    embeddings = (model.unit_embedding, model.session_embedding)
    weights = [parameter for table in embeddings for parameter in table.parameters()]
    rows = RowAdam(weights, lr=rate, trust=settings.optimizer == "lamb")
    free = {"params": others, "weight_decay": 0.0}
    fused = True
    if settings.optimizer == "muon":
        hidden = [p for p in matrices if p is not model.readout.weight]
        free = {"params": [*others, model.readout.weight], "weight_decay": 0.0}
        muon = torch.optim.Muon(
            hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
        )  # fmt: skip
        return [muon, torch.optim.AdamW([free], lr=rate, fused=fused), rows]
    groups = [{"params": matrices, "weight_decay": decay}, free]
    if settings.optimizer == "lamb":
        from pytorch_optimizer import Lamb

        return [Lamb(groups, lr=rate), rows]
    return [torch.optim.AdamW(groups, lr=rate, fused=fused), rows]


def split_parameters(model: Perceiver) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices, and all else but the embeddings of units and sessions."""
    rows = {id(model.unit_embedding.weight), id(model.session_embedding.weight)}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if id(parameter) not in rows:
            matrix = parameter.ndim > 1 and id(parameter) not in tables
            (matrices if matrix else others).append(parameter)
    return matrices, others


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The rate at a step, which nothing but the step decides: a linear rise over the warm-up, the
    peak while it is held, then half a cosine or a line down to zero at the last step."""
    warmup = round(settings.warmup * settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    held = warmup + round(settings.hold * settings.steps)
    if step < held or settings.schedule == "constant":
        return settings.learning_rate
    done = (step - held) / max(1, settings.steps - held)
    left = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return settings.learning_rate * left


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` whose weights are the exponential moving average of its own, of which early
    steps weigh no more than late ones: the decay rises to the given one."""

    @torch.no_grad()
    def update(mean: Tensors, current: Tensors, count: Tensor | int) -> None:
        step = int(count) + 1  # the first one is copied, not averaged
        rising = min(decay, step / (step + 10))
        torch._foreach_lerp_(mean, current, 1 - rising)

    return AveragedModel(model, multi_avg_fn=update)
