"""Adam for embedding tables. A batch uses few of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) that treats each row of a matrix as a parameter of its own.

    A row without a gradient does not move, and its moments do not decay. Bias correction counts the
    updates of the row, not the steps of the run. So a unit that few batches contain learns as if
    every batch contained it.

    With `trust`, the update of a row is scaled to the norm of the row, as LAMB does (You et al.
    2020). LAMB's learning rates are too large for rows without it.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        trust: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient: those with a gradient that is not all zeros. A row
        that some window used hardly ever has a gradient of exact zeros."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["updates"] = torch.zeros_like(weight[:, :1])  # (rows, 1) updates of each row
            state["mean"] = torch.zeros_like(weight)  # (rows, dim) first moment
            state["square"] = torch.zeros_like(weight)  # (rows, dim) second moment
        first, second = group["betas"]
        updates, mean, square = state["updates"], state["mean"], state["square"]
        touched = gradient.ne(0).any(1, keepdim=True).to(weight.dtype)
        updates += touched
        mean += touched * (1 - first) * (gradient - mean)
        square += touched * (1 - second) * (gradient.square() - square)
        count = updates.clamp(min=1)
        update = mean / (1 - first**count)
        update /= (square / (1 - second**count)).sqrt_().add_(group["eps"])
        if group["trust"]:
            norm, length = weight.norm(dim=1, keepdim=True), update.norm(dim=1, keepdim=True)
            update *= torch.where((norm > 0) & (length > 0), norm / length.clamp(min=1e-12), 1.0)
        weight.sub_(group["lr"] * touched * update)
