"""The decoder's network: a Perceiver that reads individual spikes.

After Azabou et al. 2023, *A Unified, Scalable Framework for Neural Population Decoding* (POYO),
section 2. Spikes are tokens. Learned latents on a grid of times attend to the spikes (`encode`),
then to each other (`Layer`). Queries, one for each behavior sample, attend to the latents
(`decode`). It departs from the paper and its published code in these points:

- Keys and values of the input are projected once for each unit and kind of token, then gathered,
  because an input token is only its unit, its kind and its time. The result is the same. Queries of
  the first latents are projected once for each latent, those of the output once for each session.
- There are three kinds of token, not four: a spike, a unit's start, and a unit's end.
- The same weights read a window of any length: the latents of one time point are repeated.
- A window may be shorter than the grid of latents, where a training interval is shorter; its end
  tokens tell the length.
- The readout is one linear map to everything that a run decodes, instead of one for each of several
  tasks. Its bias starts at zero.
- Attention weights have no dropout (the paper: 0.2). Fused kernels over ragged keys have none, and
  elsewhere the dropout of a window would depend on the other windows of its batch.
- Sizes, dropout rates and rotary periods are the recipe's. The published ones are the presets
  `poyo-1.3m` and `poyo-11.8m`; the defaults are for a small model on a CPU.

Training departs in three points: the default schedule is a cosine from the warm-up on, instead of
the paper's late decay (`optimizers`); the number of kept units is triangular (`tokens.triangular`);
and the loss is divided by the sum of its weights (`loss`).

If you change the network, in this file or in attention.py, change these too:

- decoding/fused_layers.py and decoding/sliding_window.py, a second forward pass, written by hand,
  for `Stream` (tests/model/decoding/test_stream.py compares the two);
- tests/support/model/reference.py, the paper's formulas, one token at a time;
- model/flops.py, which counts its operations;
- exchange/torch_brain.py, which maps the weights of another project to these names;
- exchange/torch_program.py, which exports the network, and calls `forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
LAYER_SITES = 3  # places in a layer that have dropout
OTHER_SITES = 2  # feed-forwards of the decoder's and of the encoder's cross-attention


class Perceiver(nn.Module):
    """Spikes in, behavior out.

    Args: the sizes; the number of units and of sessions in the vocabulary; the number of columns of
    the output.
    """

    latent_time: Tensor  # (latents,) int32, ticks from the window's start

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
        # Names of these attributes are keys of weight files: to rename one needs a new format
        # number in decoder.json. `read` is the encoder's cross-attention, `ask` the decoder's.
        self.read = Attention(*cross, cross=True, rotate_values=True)
        self.read_feedforward = FeedForward(s.dim, s.feedforward, s.feedforward_dropout)
        self.layers = nn.ModuleList([Layer(s) for _ in range(s.depth)])
        self.ask = Attention(*cross, cross=True, rotate_values=False)
        self.ask_feedforward = FeedForward(s.dim, s.feedforward, s.feedforward_dropout)
        self.readout = nn.Linear(s.dim, n_outputs)
        nn.init.zeros_(self.readout.bias)

    @property
    def sites(self) -> int:
        """The number of places that have dropout."""
        return LAYER_SITES * len(self.layers) + OTHER_SITES

    def forward(self, keys: Keys, queries: Queries, dropout_keys: Tensor | None = None) -> Tensor:
        """z-scored behavior (b, q, outputs) at every query; rows of padding are meaningless.

        `dropout_keys` (sites, b) int32 choose the elements that are dropped out; none by default.
        """
        layer_keys, decoder_key, encoder_key = self._by_site(dropout_keys)
        grid = self.rotary(self.latent_time[None])
        latents = self.encode(keys, grid, encoder_key)
        for layer, site_keys in zip(self.layers, layer_keys, strict=True):
            latents = layer(latents, grid, *site_keys)
        return self.decode(latents, grid, queries.time, queries.session, decoder_key)

    def encode(self, keys: Keys, grid: Angle, dropout_key: Tensor | None = None) -> Tensor:
        """Latents (b, latents, dim) after reading the tokens of each window."""
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
        return self.read_feedforward(latents + read, dropout_key)

    def decode(
        self,
        latents: Tensor,
        grid: Angle,
        time: Tensor,
        session: Tensor,
        dropout_key: Tensor | None = None,
    ) -> Tensor:
        """Behavior (b, q, outputs) at `time` (b, q) ticks, from `latents` (b, latents, dim)."""
        embedding = self.session_embedding(session)[:, None]
        query = self.ask.queries(embedding).repeat(1, time.shape[1], 1)
        read = self.ask(query, *self.ask.keys_values(latents), self.rotary(time), grid)
        return self.readout(self.ask_feedforward(embedding + read, dropout_key))

    def _by_site(
        self, dropout_keys: Tensor | None
    ) -> tuple[list[Sequence[Tensor | None]], Tensor | None, Tensor | None]:
        """The keys (b,) of each place with dropout: of each layer, of `decode`, of `encode`."""
        keys: Sequence[Tensor | None] = (
            [None] * self.sites if dropout_keys is None else dropout_keys.unbind(0)
        )
        n_layers = len(self.layers)
        of_layers = [keys[k * LAYER_SITES : (k + 1) * LAYER_SITES] for k in range(n_layers)]
        decoder_key, encoder_key = keys[n_layers * LAYER_SITES :]
        return of_layers, decoder_key, encoder_key


class Layer(nn.Module):
    """Self-attention, then a feed-forward, pre-norm, each on a residual branch with dropout."""

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
        attention_key: Tensor | None = None,
        hidden_key: Tensor | None = None,
        feedforward_key: Tensor | None = None,
    ) -> Tensor:
        """`x` (b, n, dim) after attention and feed-forward; `angle` (1, n, …) are its times.

        The keys (b,) choose the dropout of the attention's branch, of the units inside the
        feed-forward, and of the feed-forward's branch.
        """
        attention = self.attention
        read = attention(attention.queries(x), *attention.keys_values(x), angle, angle)
        x = x + dropout(read, self.dropout, attention_key)
        return x + dropout(self.feedforward.branch(x, hidden_key), self.dropout, feedforward_key)


class FeedForward(nn.Module):
    """Pre-norm feed-forward with `factor * dim` hidden units, gated by GELU (Shazeer 2020)."""

    def __init__(self, dim: int, factor: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * factor * dim)
        self.down = nn.Linear(factor * dim, dim)
        self.dropout = dropout

    def branch(self, x: Tensor, dropout_key: Tensor | None = None) -> Tensor:
        """The residual branch (b, n, dim) of `x` (b, n, dim), which is to be added to it."""
        return self.down(dropout(gated(self.up(self.norm(x))), self.dropout, dropout_key))

    def forward(self, x: Tensor, dropout_key: Tensor | None = None) -> Tensor:
        """`x` (b, n, dim) plus its branch."""
        return x + self.branch(x, dropout_key)


def gated(x: Tensor) -> Tensor:
    """The first half of `x` (…, 2 n) times GELU of its second half: (…, n)."""
    if not torch.compiler.is_compiling():
        return _Gated.apply(x)
    value, gate = x.chunk(2, dim=-1)
    return value * functional.gelu(gate)


class _Gated(torch.autograd.Function):
    """Without a compiler: the gradients of both halves are written into one tensor, which saves a
    copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return value * functional.gelu(gate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        value, gate = x.chunk(2, dim=-1)
        gradient = torch.empty_like(x)
        of_value, of_gate = gradient.chunk(2, dim=-1)
        torch.mul(gradients[0], functional.gelu(gate), out=of_value)
        torch.ops.aten.gelu_backward.grad_input(gradients[0] * value, gate, grad_input=of_gate)
        return gradient


def _embedding(n: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(n, dim)
    nn.init.normal_(embedding.weight, std=EMBEDDING_SCALE)
    return embedding
