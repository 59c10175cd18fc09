"""Optimizers and their schedule.

Weight decay is for matrices. Norms and biases have none, as shrinking them has no meaning. The
embeddings of units and sessions have an optimizer that treats each row as a parameter of its own
(`row_adam`), since a batch uses few of them.
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
    """One optimizer for each kind of parameter. Their rates are set anew at every step.

    `adamw` is AdamW (Loshchilov & Hutter 2019). `lamb` is LAMB (You et al. 2020), which POYO uses.
    `muon` is Muon (Jordan et al. 2024) for the matrices of attentions and feed-forwards, and AdamW
    for the rest; Muon's updates are scaled so that AdamW's rate suits them (Liu et al. 2025).
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    matrices, vectors = split_parameters(model)
    embeddings = (model.unit_embedding, model.session_embedding)
    weights = [parameter for table in embeddings for parameter in table.parameters()]
    rows = RowAdam(weights, lr=rate, trust=settings.optimizer == "lamb")
    undecayed = {"params": vectors, "weight_decay": 0.0}
    fused = True
    if settings.optimizer == "muon":
        hidden = [p for p in matrices if p is not model.readout.weight]
        undecayed = {"params": [*vectors, model.readout.weight], "weight_decay": 0.0}
        muon = torch.optim.Muon(
            hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
        )  # fmt: skip
        return [muon, torch.optim.AdamW([undecayed], lr=rate, fused=fused), rows]
    groups = [{"params": matrices, "weight_decay": decay}, undecayed]
    if settings.optimizer == "lamb":
        from pytorch_optimizer import Lamb

        return [Lamb(groups, lr=rate), rows]
    return [torch.optim.AdamW(groups, lr=rate, fused=fused), rows]


def split_parameters(model: Perceiver) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices, and the other parameters: norms, biases, small embeddings. The
    embeddings of units and sessions are in neither list."""
    rows = {id(model.unit_embedding.weight), id(model.session_embedding.weight)}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in model.parameters():
        if id(parameter) not in rows:
            matrix = parameter.ndim > 1 and id(parameter) not in tables
            (matrices if matrix else vectors).append(parameter)
    return matrices, vectors


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The learning rate at `step`: a linear rise during warm-up, the peak while it is held, then
    half a cosine or a line down to zero at the last step."""
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
    """A copy of `model` that holds the exponential moving average of its weights.

    The decay rises to `decay` from step to step; otherwise the first steps would count too much.
    """

    @torch.no_grad()
    def update(mean: Tensors, current: Tensors, count: Tensor | int) -> None:
        step = int(count) + 1  # the first update is a copy, not an average
        current_decay = min(decay, step / (step + 10))
        torch._foreach_lerp_(mean, current, 1 - current_decay)

    return AveragedModel(model, multi_avg_fn=update)
