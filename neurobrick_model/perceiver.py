"""The decoder: a Perceiver that reads individual spikes.

After Azabou et al. 2023, *A Unified, Scalable Framework for Neural Population Decoding* (POYO),
section 2: spikes are tokens, learned latents on a time grid attend to them, attend to each other,
and are asked for the behavior at any time of the window. Where it departs from the paper and its
published code:

- Keys and values of the input are projected once for each unit and kind of token, then gathered,
  as an input token is nothing but its unit, its kind and its time. Same result, fewer products.
  So are the queries of the first latents (once a latent) and of the output (once a session).
- There are three kinds of token, not four: a spike, and a unit's start and end.
- A window of any length is read by the same weights: the latents of one time point are repeated.
- A window may be shorter than the grid of latents, where a training interval is; its end tokens
  say so.
- There is one readout, as a run decodes one behavior; its bias starts at zero.
- The sizes, dropout rates and rotary periods are the recipe's; the published ones are defaults
  where a small model on a CPU can afford them.

Training departs in three things: AdamW with a cosine in place of LAMB with a late decay (`optim`),
a plain triangular number of kept units (`tokens.triangular`), and a loss that is divided by the
sum of its weights (`trainer`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.recipe import ModelSettings
from neurobrick_model.tokens import KINDS, Keys, Queries

EMBEDDING_SCALE = 0.02  # standard deviation of fresh embeddings, as published
Angle = Tensor  # (b, n, head_dim // 2) complex64 of modulus 1


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
        table = self.read.keys_values(tokens.flatten(0, 1))
        latents = self.latent_embedding.weight.repeat(self.steps, 1)
        read = self.read(
            self.read.queries(latents).expand(len(keys.unit), -1, -1),
            functional.embedding(keys.unit * KINDS + keys.kind, table),
            grid,
            self.rotary(keys.time),
            keys.mask,
        )
        latents = latents + read
        return latents + self.read_feedforward(latents)

    def decode(self, latents: Tensor, grid: Angle, queries: Queries) -> Tensor:
        """Behavior (b, q, outputs) that the latents tell of, at the queries' times."""
        asked = self.session_embedding(queries.session)[:, None]
        answer = asked + self.ask(
            self.ask.queries(asked).expand(-1, queries.time.shape[1], -1),
            self.ask.keys_values(latents),
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
            attention(attention.queries(x), attention.keys_values(x), angle, angle)
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
        """`x` (…, dim) as the queries of all heads (…, heads * head_dim)."""
        return self.to_query(self.norm(x))

    def keys_values(self, context: Tensor) -> Tensor:
        """`context` (…, dim) as keys, then values, of all heads (…, 2 * heads * head_dim)."""
        norm = self.norm_context or self.norm
        return self.to_key_value(norm(context))

    def forward(
        self,
        query: Tensor,
        key_value: Tensor,
        query_angle: Angle,
        key_angle: Angle,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What `query` (b, q, heads * head_dim) reads from keys and values (b, n, …): (b, q, dim).
        Keys where `mask` (b, n) is False are not seen."""
        query = rotate(query, query_angle)
        if self.rotate_values:
            key, value = rotate(key_value, key_angle).chunk(2, dim=-1)
        else:
            key, value = key_value.chunk(2, dim=-1)
            key = rotate(key, key_angle)
        read = functional.scaled_dot_product_attention(
            self._by_head(query),
            self._by_head(key),
            self._by_head(value),
            attn_mask=None if mask is None else mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        read = read.transpose(1, 2).flatten(2)
        if self.rotate_values:
            read = rotate(read, query_angle.conj())
        return self.to_output(read)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Rotary(nn.Module):
    """Times as rotations of number pairs. The first half of a head's pairs turn, with periods
    spaced evenly in their logarithm, ends included; the other half stay."""

    frequency: Tensor  # (head_dim // 2,) rad/s

    def __init__(self, head_dim: int, shortest: float, longest: float) -> None:
        super().__init__()
        turning = head_dim // 4
        periods = torch.logspace(math.log10(shortest), math.log10(longest), turning)
        frequency = torch.cat([2 * math.pi / periods, torch.zeros(turning)])
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, time: Tensor) -> Angle:
        """`time` (b, n) s."""
        angle = time[..., None] * self.frequency
        return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, angle: Angle) -> Tensor:
    """Turn each pair of neighbours in `x` (b, n, heads * head_dim), every head alike.

    As one complex product over contiguous memory; written out in sines it takes six.
    """
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    heads = pairs.shape[-1] // angle.shape[-1]
    return torch.view_as_real(pairs * angle.repeat(1, 1, heads)).flatten(-2)


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
