"""The decoder for one session and one window that slides.

From one step to the next, spikes come and go. All else stands still in the window's own time, and
is computed once: the latents' queries, the projections of every unit's spike, the output's query,
and what each latent reads of the starts and ends of units, which is as much as one more token.

As attention knows differences of times only, spikes keep the rotation that they got when they came,
by a clock of their own. The latents' queries are turned to where the window now is on that clock,
and what they read is turned back.

It computes what `Perceiver.forward` does of one window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from neurobrick_model.data.timeline import Vocabulary
from neurobrick_model.decoding.fused_layers import (
    FusedAnswer,
    FusedFeedForward,
    FusedLinear,
    FusedProcessor,
    Turn,
    by_head,
    joined,
    scaled,
    turn,
)
from neurobrick_model.model.perceiver import Layer, Perceiver
from neurobrick_model.model.tokens import END, SPIKE, START


@dataclass(frozen=True)
class StaticParts:
    """What does not depend on spikes in a window of `length` ticks. Of the starts and ends of all
    units, what each latent reads, `read` (heads, latents, head_dim), and its `score` (heads,
    latents, 1), as if they were one token. Of the output, its `query` as each latent is to be
    multiplied with, (heads, latents, dim)."""

    length: int
    score: Tensor
    read: Tensor
    query: Tensor


class SlidingWindow:
    """`model` for one `session`, a row of its `vocabulary`, asked for the behavior `lag` ticks
    before the window's end. When the model's weights change, make another."""

    @torch.inference_mode()
    def __init__(self, model: Perceiver, vocabulary: Vocabulary, session: int, lag: int) -> None:
        self._model, self._lag = model, lag
        self.device = model.latent_time.device
        self._heads = heads = model.read.heads
        first = vocabulary.first_unit[session]
        units = slice(first, first + vocabulary.units[session])
        tokens = model.unit_embedding.weight[units] + model.kind_embedding.weight[:, None]
        self._table = torch.cat(model.read.keys_values(tokens), -1)  # (kinds, units, width)
        self._latents = model.latent_embedding.weight.repeat(model.steps, 1)
        self._query = scaled(model.read.queries(self._latents), heads)
        self._grid = self._turn(model.latent_time)
        self._output = FusedLinear(model.read.to_output)
        self._feedforward = FusedFeedForward(model.read_feedforward)
        layers = [cast(Layer, layer) for layer in model.layers]
        self._process = FusedProcessor(layers, self._grid) if layers else nn.Identity()
        self._answer = FusedAnswer(model, session, self._grid)
        self._scores = torch.empty(0, device=self.device)
        self._still = self._static_parts(0)

    def room(self, n: int) -> Tensor:
        """Memory for `n` embedded spikes."""
        width = self._table.shape[-1] // (2 * self._heads)
        return torch.empty(2 * self._heads, n, width, device=self.device)

    @torch.inference_mode()
    def embed(self, unit: Tensor, time: Tensor) -> Tensor:
        """Keys and values (2 * heads, n, head_dim) of spikes of `unit` (n,), rows of the session's
        units table, at `time` (n,) int64, ticks of any one clock."""
        turned = turn(self._table[SPIKE, unit], self._turn(time), 2 * self._heads)
        return by_head(turned, 2 * self._heads)

    @torch.inference_mode()
    def decode(self, spikes: Tensor, start: int, length: int) -> Tensor:
        """The model's output (columns,) `lag` ticks before the end of a window of `length` ticks
        that holds `spikes` (2 * heads, n, head_dim), embedded; it starts at tick `start` of their
        clock."""
        if length != self._still.length:
            self._still = self._static_parts(length)
        read = self._read(spikes, self._turn(self._model.latent_time.long() + start))
        latents = self._process(self._feedforward(self._latents + self._output(read)))
        return self._answer(latents, self._still.query)

    def _read(self, spikes: Tensor, angle: Turn) -> Tensor:
        """What latents at the times of `angle` read of spikes and edges, (latents, width)."""
        still, heads = self._still, self._heads
        query = by_head(turn(self._query.clone(), angle, heads), heads)
        key, value = spikes.chunk(2)
        share = self._memory(key.shape[1] + 1)
        torch.bmm(query, key.mT, out=share[..., :-1])
        share[..., -1:] = still.score
        torch.softmax(share, -1, out=share)
        read = turn(joined(share[..., :-1] @ value), angle.conj_physical(), heads)
        return read.add_(joined(share[..., -1:] * still.read))

    def _static_parts(self, length: int) -> StaticParts:
        """Units start with the window and end with it."""
        heads = self._heads
        end = turn(self._table[END].clone(), self._moment(length), 2 * heads)
        key, value = by_head(torch.cat([self._table[START], end]), 2 * heads).chunk(2)
        score = by_head(turn(self._query.clone(), self._grid, heads), heads) @ key.mT
        read = turn(joined(score.softmax(-1) @ value), self._grid.conj_physical(), heads)
        return StaticParts(
            length,
            score=score.logsumexp(-1, keepdim=True),
            read=by_head(read, heads),
            query=self._answer.query(self._moment(length - self._lag)),
        )

    def _memory(self, n: int) -> Tensor:
        """Room for (heads, latents, n), the same at every step: to be given fresh memory by the
        system takes longer than to fill it."""
        shape = (self._heads, len(self._latents), n)
        size = shape[0] * shape[1] * n
        if size > len(self._scores):
            self._scores = torch.empty(2 * size, device=self.device)
        return self._scores[:size].view(shape)

    def _turn(self, time: Tensor) -> Turn:
        return torch.view_as_complex(self._model.rotary(time))[:, None]

    def _moment(self, tick: int) -> Turn:
        return self._turn(torch.tensor([tick], device=self.device))
