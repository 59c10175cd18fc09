"""Adam for embeddings of which a batch touches few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) in which each row of a matrix is a parameter of its own: a row that
    has no gradient is not moved by old momentum, its moments do not fade, and bias correction
    counts the row's own updates. So a unit that is seldom seen learns as if it were always there.

    With `trust`, the update of a row is scaled to the norm of the row, as LAMB does (You et al.
    2020): with as large a rate as LAMB likes, rows would be thrown about otherwise.
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
        """Move the rows that have a gradient. A row's gradient is zero where no window has read it,
        and hardly ever otherwise, so nothing else need say which were touched."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)

    def _move(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["updates"] = torch.zeros_like(weight[:, :1])
            state["mean"] = torch.zeros_like(weight)
            state["square"] = torch.zeros_like(weight)
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
