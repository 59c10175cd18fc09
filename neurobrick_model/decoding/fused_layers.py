"""Layers of the decoder, written by hand for one window on a CPU. Used by `SlidingWindow`.

They compute what model/attention.py and model/perceiver.py do, and must follow every change there;
tests/model/decoding/test_stream.py compares the two. For one window each product is short, so that
the work around it counts. Weights are transposed once, as products read them. Projections of the
same input are one product, and their rotations another. Memory and its views are made once for all
layers. Nothing is kept for gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.model.perceiver import FeedForward, Layer, Perceiver

Turn = Tensor  # (n, 1, head_dim // 4) complex64: the rotation at each of n times, for all heads


class FusedLinear:
    """Linear maps of one input as one product, after a layer norm if there is one."""

    def __init__(self, *maps: nn.Linear, norm: nn.LayerNorm | None = None) -> None:
        self._weight = torch.cat([each.weight for each in maps]).t().contiguous()
        self._bias = None if maps[0].bias is None else torch.cat([each.bias for each in maps])
        self._norm = norm and (norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The outputs (n, outputs) of all maps, side by side, of `x` (n, inputs); written to `out`
        if it is given."""
        if self._norm:
            x = torch.layer_norm(x, *self._norm)
        if self._bias is None:
            return torch.mm(x, self._weight, out=out)
        return torch.addmm(self._bias, x, self._weight, out=out)


class FusedFeedForward:
    """`perceiver.FeedForward`, without dropout."""

    def __init__(self, feedforward: FeedForward) -> None:
        self._up = FusedLinear(feedforward.up, norm=feedforward.norm)
        self._down = FusedLinear(feedforward.down)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (n, dim) plus its branch."""
        value, gate = self._up(x).chunk(2, dim=-1)
        return x + self._down(functional.gelu(gate).mul_(value))


class FusedLayer:
    """The products of `perceiver.Layer`."""

    def __init__(self, layer: Layer) -> None:
        attention = layer.attention
        self.project = FusedLinear(
            attention.to_query, attention.to_key, attention.to_value, norm=attention.norm
        )
        self.output = FusedLinear(attention.to_output)
        self.feedforward = FusedFeedForward(layer.feedforward)


class FusedProcessor:
    """One or more of `perceiver.Layer`, for latents at the times of `grid`."""

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
        """The latents `x` (n, dim) after all layers: (n, dim)."""
        query, key, value = self._parts
        for layer in self._layers:
            layer.project(x, out=self._projected)
            self._pairs.mul_(self._grid)
            read = functional.scaled_dot_product_attention(query, key, value)
            read = turn(joined(read[0]), self._back, self._heads)
            x = layer.feedforward(x + layer.output(read))
        return x


class FusedAnswer:
    """`Perceiver.decode` for one query, of the session in row `session` of the vocabulary, to
    latents at the times of `grid`.

    Multiply the key weights into the single query, and the value weights into the output weights,
    so that the latents need no projection.
    """

    def __init__(self, model: Perceiver, session: int, grid: Turn) -> None:
        ask = model.ask
        self._heads, self._back = ask.heads, grid.conj_physical()
        self._embedding = model.session_embedding.weight[session][None]
        self._query = scaled(ask.queries(self._embedding), ask.heads)
        self._to_key = ask.to_key.weight.unflatten(0, (ask.heads, -1))
        to_value, to_output = ask.to_value.weight, ask.to_output.weight.t()
        value_output = by_head(to_value.t(), ask.heads) @ to_output.unflatten(0, (ask.heads, -1))
        self._value_output, self._bias = value_output.flatten(0, 1), ask.to_output.bias
        self._norm = cast(nn.LayerNorm, ask.norm_context)
        self._feedforward = FusedFeedForward(model.ask_feedforward)
        self._readout = model.readout

    def query(self, moment: Turn) -> Tensor:
        """The query at `moment`, times the key weights, for each latent: (heads, latents, dim).

        Its products with the normed latents are the attention scores.
        """
        query = turn(self._query.clone(), moment, self._heads).repeat(len(self._back), 1)
        return by_head(turn(query, self._back, self._heads), self._heads) @ self._to_key

    def __call__(self, latents: Tensor, query: Tensor) -> Tensor:
        """The output (columns,) of `query` (heads, latents, dim), from `latents` (latents, dim)."""
        context = self._norm(latents)
        share = (query * context).sum(-1).softmax(-1)
        read = torch.addmm(self._bias, (share @ context).view(1, -1), self._value_output)
        return self._readout(self._feedforward(self._embedding + read))[0]


def scaled(query: Tensor, heads: int) -> Tensor:
    """Queries (n, heads * head_dim), scaled so that their products with keys are scores."""
    return query * (query.shape[-1] // heads) ** -0.5


def turn(x: Tensor, angle: Turn, heads: int) -> Tensor:
    """`x` (n, heads * head_dim), rotated in place, as by `attention.rotate`."""
    pairs(x, heads).mul_(angle)
    return x


def pairs(x: Tensor, heads: int) -> Tensor:
    """The pairs of numbers in `x` (n, heads * head_dim) that turn: a view as complex numbers, (n,
    heads, head_dim // 4)."""
    head_dim = x.shape[-1] // heads
    return torch.view_as_complex(x.view(len(x), heads, 2, head_dim // 4, 2)[:, :, 0])


def by_head(x: Tensor, heads: int) -> Tensor:
    """`x` (n, heads * width) as (heads, n, width)."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def joined(x: Tensor) -> Tensor:
    """`x` (heads, n, width) as (n, heads * width)."""
    return x.transpose(0, 1).flatten(1)
