"""Parts of the decoder as one window takes them fastest on a CPU: where each product is short, what
lies around it counts as much.

Weights lie the way that products read them; projections of the same latents are one product, and
their rotations another; memory and its views are made once, for all layers; nothing is kept for
gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.model.perceiver import FeedForward, Layer, Perceiver

Turn = Tensor  # (n, 1, head_dim // 4) complex64: a rotation for each of n times, for all heads


class FusedLinear:
    """`parts` side by side, of one input, which is first brought to `norm` if there is one."""

    def __init__(self, *parts: nn.Linear, norm: nn.LayerNorm | None = None) -> None:
        self._weight = torch.cat([part.weight for part in parts]).t().contiguous()
        self._bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        self._norm = norm and (norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """`x` (n, inputs) as (n, outputs), in `out` if it is given."""
        if self._norm:
            x = torch.layer_norm(x, *self._norm)
        if self._bias is None:
            return torch.mm(x, self._weight, out=out)
        return torch.addmm(self._bias, x, self._weight, out=out)


class FusedFeedForward:
    """`perceiver.FeedForward`."""

    def __init__(self, feedforward: FeedForward) -> None:
        self._up = FusedLinear(feedforward.up, norm=feedforward.norm)
        self._down = FusedLinear(feedforward.down)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (n, dim) with its branch."""
        value, gate = self._up(x).chunk(2, dim=-1)
        return x + self._down(functional.gelu(gate).mul_(value))


class FusedLayer:
    """Products of `perceiver.Layer`."""

    def __init__(self, layer: Layer) -> None:
        one = layer.attention
        self.project = FusedLinear(one.to_query, one.to_key, one.to_value, norm=one.norm)
        self.output = FusedLinear(one.to_output)
        self.feedforward = FusedFeedForward(layer.feedforward)


class FusedProcessor:
    """One or more `perceiver.Layer`s, for latents that stay at the times of `grid`."""

    def __init__(self, layers: Sequence[Layer], grid: Turn) -> None:
        attention = layers[0].attention
        self._heads = attention.heads
        self._layers = [FusedLayer(layer) for layer in layers]
        self._grid, self._back = grid, grid.conj_physical()
        width = 3 * attention.to_query.out_features
        self._projected = torch.empty(len(grid), width, device=grid.device)
        self._pairs = pairs(self._projected, 3 * self._heads)
        self._parts = by_head(self._projected, 3 * self._heads)[None].chunk(3, dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """The latents (n, dim) that they make of `x` (n, dim)."""
        query, key, value = self._parts
        for layer in self._layers:
            layer.project(x, out=self._projected)
            self._pairs.mul_(self._grid)
            read = functional.scaled_dot_product_attention(query, key, value)
            read = turn(joined(read[0]), self._back, self._heads)
            x = layer.feedforward(x + layer.output(read))
        return x


class FusedAnswer:
    """What `model` answers one query, of the `session` at that row of its vocabulary. The query is
    brought to the latents, at the times of `grid`, which is less than to bring all of them to it:
    it is multiplied with the weights of keys beforehand, those of values with those of the output.
    """

    def __init__(self, model: Perceiver, session: int, grid: Turn) -> None:
        ask = model.ask
        self._heads, self._back = ask.heads, grid.conj_physical()
        self._asked = model.session_embedding.weight[session][None]
        self._query = scaled(ask.queries(self._asked), ask.heads)
        self._to_key = ask.to_key.weight.unflatten(0, (ask.heads, -1))
        to_value, to_output = ask.to_value.weight, ask.to_output.weight.t()
        told = by_head(to_value.t(), ask.heads) @ to_output.unflatten(0, (ask.heads, -1))
        self._told, self._bias = told.flatten(0, 1), ask.to_output.bias
        self._norm = cast(nn.LayerNorm, ask.norm_context)
        self._feedforward = FusedFeedForward(model.ask_feedforward)
        self._readout = model.readout

    def query(self, moment: Turn) -> Tensor:
        """What latents are to be multiplied with to be asked at `moment`: (heads, latents, dim)."""
        asked = turn(self._query.clone(), moment, self._heads).repeat(len(self._back), 1)
        return by_head(turn(asked, self._back, self._heads), self._heads) @ self._to_key

    def __call__(self, latents: Tensor, query: Tensor) -> Tensor:
        """The output (columns,) that the latents (n, dim) tell of."""
        context = self._norm(latents)
        share = (query * context).sum(-1).softmax(-1)
        read = torch.addmm(self._bias, (share @ context).view(1, -1), self._told)
        return self._readout(self._feedforward(self._asked + read))[0]


def scaled(query: Tensor, heads: int) -> Tensor:
    """Queries (n, heads * head_dim) whose products with keys are scores."""
    return query * (query.shape[-1] // heads) ** -0.5


def turn(x: Tensor, angle: Turn, heads: int) -> Tensor:
    """As `attention.rotate`, of `x` (n, heads * head_dim), in place."""
    pairs(x, heads).mul_(angle)
    return x


def pairs(x: Tensor, heads: int) -> Tensor:
    """The pairs of numbers that turn in `x` (n, heads * head_dim): a view (n, heads, head_dim // 4)
    as complex numbers."""
    head_dim = x.shape[-1] // heads
    return torch.view_as_complex(x.view(len(x), heads, 2, head_dim // 4, 2)[:, :, 0])


def by_head(x: Tensor, heads: int) -> Tensor:
    """`x` (n, heads * width) as (heads, n, width)."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def joined(x: Tensor) -> Tensor:
    """`x` (heads, n, width) as (n, heads * width)."""
    return x.transpose(0, 1).flatten(1)
