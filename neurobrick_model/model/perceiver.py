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
- The readout is one linear map to all that a run decodes, not one for each of several tasks; its
  bias starts at zero.
- Weights of attention are not dropped out (the paper drops 0.2): fused kernels over ragged keys do
  not, and what they drop elsewhere would depend on who else is in the batch.
- The sizes, dropout rates and rotary periods are the recipe's; the published ones are the presets
  `poyo-1.3m` and `poyo-11.8m`, and the defaults are what a small model on a CPU can afford.

Training departs in three things: a cosine from the warm-up on is the default in place of the
paper's late decay (`optim`), the number of kept units is plainly triangular (`tokens.triangular`),
and the loss is divided by the sum of its weights (`objective`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurobrick_model.data.timeline import TICKS
from neurobrick_model.model.attention import Angle, Attention, Rotary
from neurobrick_model.model.tokens import KINDS, Keys, Queries
from neurobrick_model.randomness import dropout
from neurobrick_model.recipe.settings import ModelSettings

EMBEDDING_SCALE = 0.02  # standard deviation of fresh embeddings, as published
LAYER_SITES = 3  # places of a layer that have dropout
OTHER_SITES = 2  # of the rest

DropoutKeys = tuple[Tensor | None, ...]  # for each site, keys (b,) int32 of what it drops


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
        self.rotary = Rotary(s.head_dim, s.rotary_periods)
        grid = ((torch.arange(s.steps, dtype=torch.float64) + 0.5) * s.latent_step * TICKS).round()
        self.register_buffer(
            "latent_time", grid.to(torch.int32).repeat_interleave(s.latents_per_step),
            persistent=False,
        )  # fmt: skip
        cross = (s.dim, s.cross_heads, s.head_dim)
        self.read = Attention(*cross, cross=True, rotate_values=True)
        self.read_feedforward = FeedForward(s.dim, s.feedforward, s.feedforward_dropout)
        self.layers = nn.ModuleList([Layer(s) for _ in range(s.depth)])
        self.ask = Attention(*cross, cross=True, rotate_values=False)
        self.ask_feedforward = FeedForward(s.dim, s.feedforward, s.feedforward_dropout)
        self.readout = nn.Linear(s.dim, n_outputs)
        nn.init.zeros_(self.readout.bias)

    latent_time: Tensor  # (latents,) int32 ticks from the window's start

    @property
    def sites(self) -> int:
        """How many places have dropout."""
        return LAYER_SITES * len(self.layers) + OTHER_SITES

    def forward(self, keys: Keys, queries: Queries, dropout_keys: Tensor | None = None) -> Tensor:
        """z-scored behavior (b, q, outputs) at every query; rows of padding hold nonsense.

        `dropout_keys` (sites, b) int32 choose what is dropped out; nothing is, by default.
        """
        sites: DropoutKeys = (
            (None,) * self.sites if dropout_keys is None else dropout_keys.unbind(0)
        )
        grid = self.rotary(self.latent_time[None])
        latents = self.encode(keys, grid, sites[-1])
        for number, layer in enumerate(self.layers):
            latents = layer(latents, grid, *sites[LAYER_SITES * number :][:LAYER_SITES])
        return self.decode(latents, grid, queries.time, queries.session, sites[-2])

    def encode(self, keys: Keys, grid: Angle, dropout_keys: Tensor | None = None) -> Tensor:
        """Latents (b, latents, dim) that have read the tokens of each window."""
        unit, kind = keys.table // KINDS, keys.table % KINDS
        tokens = self.unit_embedding(unit) + self.kind_embedding(kind)
        latents = self.latent_embedding.weight.repeat(self.steps, 1)
        key, value = self.read.keys_values(tokens)
        read = self.read.packed(
            self.read.queries(latents[None]),
            functional.embedding(keys.row, key),
            functional.embedding(keys.row, value),
            grid,
            self.rotary(keys.time),
            keys.offsets,
            keys.longest,
        )
        return self.read_feedforward(latents + read, dropout_keys)

    def decode(
        self,
        latents: Tensor,
        grid: Angle,
        time: Tensor,
        session: Tensor,
        dropout_keys: Tensor | None = None,
    ) -> Tensor:
        """Behavior (b, q, outputs) that the latents tell of, at `time` (b, q) ticks."""
        asked = self.session_embedding(session)[:, None]
        query = self.ask.queries(asked).repeat(1, time.shape[1], 1)
        read = self.ask(query, *self.ask.keys_values(latents), self.rotary(time), grid)
        return self.readout(self.ask_feedforward(asked + read, dropout_keys))


class Layer(nn.Module):
    """Self-attention and feed-forward, pre-norm, each on a residual branch with dropout."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        s = settings
        self.attention = Attention(
            s.dim, s.self_heads, s.head_dim, cross=False, rotate_values=True
        )  # fmt: skip
        self.feedforward = FeedForward(s.dim, s.feedforward, s.feedforward_dropout)
        self.dropout = s.residual_dropout

    def forward(
        self,
        x: Tensor,
        angle: Angle,
        attended: Tensor | None = None,
        hidden: Tensor | None = None,
        fed: Tensor | None = None,
    ) -> Tensor:
        """`x` (b, n, dim) at the times that `angle` (1, n, …) stands for. The other three are keys
        (b,) of the dropout of the attention, inside the feed-forward, and of the feed-forward."""
        attention = self.attention
        read = attention(attention.queries(x), *attention.keys_values(x), angle, angle)
        x = x + dropout(read, self.dropout, attended)
        return x + dropout(self.feedforward.branch(x, hidden), self.dropout, fed)


class FeedForward(nn.Module):
    """Pre-norm feed-forward with `factor * dim` hidden units, gated by GELU (Shazeer 2020)."""

    def __init__(self, dim: int, factor: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * factor * dim)
        self.down = nn.Linear(factor * dim, dim)
        self.dropout = dropout

    def branch(self, x: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        """What is to be added to `x` (b, n, dim)."""
        return self.down(dropout(gated(self.up(self.norm(x))), self.dropout, dropout_keys))

    def forward(self, x: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        """`x` (b, n, dim) with its branch."""
        return x + self.branch(x, dropout_keys)


def gated(x: Tensor) -> Tensor:
    """The first half of `x` (…, 2 n), gated by GELU of the second: (…, n)."""
    if not torch.compiler.is_compiling():
        return _Gated.apply(x)
    value, gate = x.chunk(2, dim=-1)
    return value * functional.gelu(gate)


class _Gated(torch.autograd.Function):
    """Op by op, the gradients of both halves are written where they belong, not joined after."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return value * functional.gelu(gate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        value, gate = x.chunk(2, dim=-1)
        both = torch.empty_like(x)
        to_value, to_gate = both.chunk(2, dim=-1)
        torch.mul(gradients[0], functional.gelu(gate), out=to_value)
        torch.ops.aten.gelu_backward.grad_input(gradients[0] * value, gate, grad_input=to_gate)
        return both


def _embedding(n: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(n, dim)
    nn.init.normal_(embedding.weight, std=EMBEDDING_SCALE)
    return embedding
