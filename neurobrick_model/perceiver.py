"""The decoder: a Perceiver that reads individual spikes.

After Azabou et al. 2023, *A Unified, Scalable Framework for Neural Population Decoding* (POYO),
section 2: spikes are tokens, learned latents on a time grid attend to them, attend to each other,
and are asked for the behavior at any time of the window. Where it departs from the paper and its
published code:

- Keys and values of the input are projected once for each unit and kind of token, then gathered,
  as an input token is nothing but its unit, its kind and its time. Same result, fewer products.
  So are the queries of the first latents (once a latent) and of the output (once a session).
- The rotated half of a head is its first half; pairs are (i, i + a quarter of the head).
- There is one readout, as a run decodes one behavior; its bias starts at zero.
- A window of any length is read by the same weights: the latents of one time point are repeated.
- Query, key, value and output projections carry a bias at the output only, as in the code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.recipe import ModelSettings
from neurobrick_model.tokens import KINDS, Keys, Queries

EMBEDDING_SCALE = 0.02  # standard deviation of fresh embeddings, as published
Angle = tuple[Tensor, Tensor]  # cos and sin, (b, 1, n, head_dim // 4): one row for all heads


class Perceiver(nn.Module):
    """Spikes in, behavior out.

    Args: the sizes, the number of units and sessions in the vocabulary, and of output axes.
    """

    def __init__(
        self, settings: ModelSettings, n_units: int, n_sessions: int, n_outputs: int
    ) -> None:
        super().__init__()
        s = settings
        self.steps = s.steps
        self.unit_embedding = _embedding(n_units, s.dim)
        self.kind_embedding = _embedding(KINDS, s.dim)
        self.latent_embedding = _embedding(s.latents_per_step, s.dim)
        self.session_embedding = _embedding(n_sessions, s.dim)
        self.rotary = Rotary(s.head_dim, *s.rotary_periods)
        grid = (torch.arange(s.steps) + 0.5) * s.latent_step
        self.register_buffer(
            "latent_time", grid.repeat_interleave(s.latents_per_step), persistent=False
        )
        cross = (s.dim, s.cross_heads, s.head_dim, s.attention_dropout)
        self.read = Attention(*cross, cross=True, rotate_values=True)
        self.read_feedforward = feedforward(s.dim, s.feedforward, s.feedforward_dropout)
        self.layers = nn.ModuleList([Layer(s) for _ in range(s.depth)])
        self.ask = Attention(*cross, cross=True, rotate_values=False)
        self.ask_feedforward = feedforward(s.dim, s.feedforward, s.feedforward_dropout)
        self.readout = nn.Linear(s.dim, n_outputs)
        nn.init.zeros_(self.readout.bias)

    latent_time: Tensor  # (latents,) s from the window's start

    def forward(self, keys: Keys, queries: Queries) -> Tensor:
        """z-scored behavior (b, q, outputs) at every query; rows of padding hold nonsense."""
        latents = self.encode(keys)
        grid = self.rotary(self.latent_time[None])
        for layer in self.layers:
            latents = layer(latents, grid)
        return self.decode(latents, grid, queries)

    def encode(self, keys: Keys) -> Tensor:
        """Latents (b, latents, dim) that have read the tokens of each window."""
        grid = self.rotary(self.latent_time[None])
        tokens = self.unit_embedding.weight[:, None] + self.kind_embedding.weight
        key, value = self.read.keys_values(tokens.flatten(0, 1))
        row = keys.unit * KINDS + keys.kind
        latents = self.latent_embedding.weight.repeat(self.steps, 1)
        read = self.read(
            self.read.queries(latents)[None].expand(len(row), -1, -1, -1),
            functional.embedding(row, key.flatten(1)).unflatten(2, key.shape[1:]),
            functional.embedding(row, value.flatten(1)).unflatten(2, value.shape[1:]),
            grid,
            self.rotary(keys.time),
            keys.mask,
        )
        latents = latents + read
        return latents + self.read_feedforward(latents)

    def decode(self, latents: Tensor, grid: Angle, queries: Queries) -> Tensor:
        """Behavior (b, q, outputs) that the latents tell of, at the queries' times."""
        asked = self.session_embedding(queries.session)[:, None]
        shape = (-1, queries.time.shape[1], -1, -1)
        answer = asked + self.ask(
            self.ask.queries(asked).expand(shape),
            *self.ask.keys_values(latents),
            self.rotary(queries.time),
            grid,
        )
        return self.readout(answer + self.ask_feedforward(answer))


class Layer(nn.Module):
    """Self-attention and feed-forward, pre-norm, each on a residual branch with dropout."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        s = settings
        self.attention = Attention(
            s.dim, s.self_heads, s.head_dim, s.attention_dropout, cross=False, rotate_values=True
        )
        self.feedforward = feedforward(s.dim, s.feedforward, s.feedforward_dropout)
        self.dropout = nn.Dropout(s.residual_dropout)

    def forward(self, x: Tensor, angle: Angle) -> Tensor:
        """`x` (b, n, dim) at the times that `angle` stands for."""
        attention = self.attention
        x = x + self.dropout(
            attention(attention.queries(x), *attention.keys_values(x), angle, angle)
        )
        return x + self.dropout(self.feedforward(x))


class Attention(nn.Module):
    """Multi-head attention in which queries and keys, and values where asked, are rotated by their
    times, so that only time differences matter. A rotated value is turned back by its reader's
    time: what is read says how long ago it was.

    Projections are apart from attending, so that a caller can project once what it uses often.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int,
        dropout: float,
        *,
        cross: bool,
        rotate_values: bool,
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.rotate_values = heads, dropout, rotate_values
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim) if cross else None
        self.to_query = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_key_value = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_output = nn.Linear(heads * head_dim, dim)

    def queries(self, x: Tensor) -> Tensor:
        """`x` (…, dim) as queries (…, heads, head_dim)."""
        return self.to_query(self.norm(x)).unflatten(-1, (self.heads, -1))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """`context` (…, dim) as keys and as values, each (…, heads, head_dim)."""
        norm = self.norm_context or self.norm
        both = self.to_key_value(norm(context)).unflatten(-1, (2, self.heads, -1))
        return both[..., 0, :, :], both[..., 1, :, :]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_angle: Angle,
        key_angle: Angle,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What `query` (b, q, heads, head_dim) reads from keys and values (b, n, …): (b, q, dim).
        Keys where `mask` (b, n) is False are not seen."""
        query = rotate(query.transpose(1, 2), query_angle)
        key = rotate(key.transpose(1, 2), key_angle)
        value = value.transpose(1, 2)
        if self.rotate_values:
            value = rotate(value, key_angle)
        read = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        if self.rotate_values:
            read = rotate(read, (query_angle[0], -query_angle[1]))
        return self.to_output(read.transpose(1, 2).flatten(2))


class Rotary(nn.Module):
    """Times as rotation angles, over periods spaced evenly in their logarithm, ends included."""

    frequency: Tensor  # (head_dim // 4,) rad/s

    def __init__(self, head_dim: int, shortest: float, longest: float) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(shortest), math.log10(longest), head_dim // 4)
        self.register_buffer("frequency", 2 * math.pi / periods, persistent=False)

    def forward(self, time: Tensor) -> Angle:
        """`time` (b, n) s."""
        angle = time[:, None, :, None] * self.frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, angle: Angle) -> Tensor:
    """Turn the pairs in the first half of the last axis of `x` (b, heads, n, head_dim)."""
    cos, sin = angle
    width = cos.shape[-1]
    first, second, rest = x.split([width, width, x.shape[-1] - 2 * width], dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], dim=-1)


class GEGLU(nn.Module):
    """Half of the input, gated by the GELU of the other half (Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * functional.gelu(gate)


def feedforward(dim: int, factor: int, dropout: float) -> nn.Sequential:
    """Pre-norm GEGLU feed-forward with `factor * dim` hidden units."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, 2 * factor * dim),
        GEGLU(),
        nn.Dropout(dropout),
        nn.Linear(factor * dim, dim),
    )


def _embedding(n: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(n, dim)
    nn.init.normal_(embedding.weight, std=EMBEDDING_SCALE)
    return embedding
