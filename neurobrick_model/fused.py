"""Parts of the decoder as one window takes them fastest, without what training and batches need.

Weights lie the way that products on a CPU read them fastest. Projections of the same latents are
one product, and their rotations another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.perceiver import FeedForward, Layer

Turn = Tensor  # (n, 1, head_dim // 4) complex64: a rotation for each of n times, for all heads


class FusedLinear:
    """`parts`, of one input and without bias if they are several, side by side."""

    def __init__(self, *parts: nn.Linear) -> None:
        self._weight = torch.cat([part.weight for part in parts]).t().contiguous()
        self._bias = parts[0].bias

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (n, inputs) as (n, outputs)."""
        if self._bias is None:
            return x @ self._weight
        return torch.addmm(self._bias, x, self._weight)


class FusedFeedForward:
    """`perceiver.FeedForward`."""

    def __init__(self, feedforward: FeedForward) -> None:
        self._norm = feedforward.norm
        self._up, self._down = FusedLinear(feedforward.up), FusedLinear(feedforward.down)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (n, dim) with its branch."""
        value, gate = self._up(self._norm(x)).chunk(2, dim=-1)
        return x + self._down(functional.gelu(gate).mul_(value))


class FusedLayer:
    """`perceiver.Layer`, for latents that stay at the times of `grid`."""

    def __init__(self, layer: Layer, grid: Turn) -> None:
        attention = layer.attention
        self._heads, self._norm = attention.heads, attention.norm
        self._project = FusedLinear(attention.to_query, attention.to_key, attention.to_value)
        self._output = FusedLinear(attention.to_output)
        self._feedforward = FusedFeedForward(layer.feedforward)
        self._grid, self._back = grid, grid.conj_physical()

    def __call__(self, x: Tensor) -> Tensor:
        """The latents (n, dim) that it makes of `x` (n, dim)."""
        parts = 3 * self._heads
        turned = turn(self._project(self._norm(x)), self._grid, parts)
        query, key, value = by_head(turned, parts).chunk(3)
        read = functional.scaled_dot_product_attention(query[None], key[None], value[None])
        read = turn(joined(read[0]), self._back, self._heads)
        return self._feedforward(x + self._output(read))


def turn(x: Tensor, angle: Turn, heads: int) -> Tensor:
    """As `attention.rotate`, of `x` (n, heads * head_dim), in place."""
    pairs = x.view(len(x), heads, 2, angle.shape[-1], 2)
    torch.view_as_complex(pairs[:, :, 0]).mul_(angle)
    return x


def by_head(x: Tensor, heads: int) -> Tensor:
    """`x` (n, heads * width) as (heads, n, width)."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def joined(x: Tensor) -> Tensor:
    """`x` (heads, n, width) as (n, heads * width)."""
    return x.transpose(0, 1).flatten(1)
