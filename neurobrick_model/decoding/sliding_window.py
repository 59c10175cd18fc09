"""The decoder for one session and one window that slides along with the recording.

It computes `Perceiver.forward` for one window, by hand, with the layers of fused_layers.py. Both
files must follow every change in model/perceiver.py and model/attention.py.

From one step to the next, only the spikes change. Everything else depends on times within the
window, which stay the same, and is computed once: the latents' queries, the keys and values of each
unit's spike, the output's query, and the attention to the start and end tokens, which act together
as one more token.

Attention depends on differences of times only. So a spike is rotated once, when it comes, by its
time on a clock that does not slide. At each step the latents' queries are rotated by the window's
place on that clock, and the result is rotated back.
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
    """The parts of the computation that depend only on the window's length, not on its spikes.

    Each latent attends to all start and end tokens as if they were one token.
    """

    length: int  # of the window, ticks
    score: Tensor  # (heads, latents, 1), attention score of that token
    read: Tensor  # (heads, latents, head_dim), value of that token
    query: Tensor  # (heads, latents, dim), of the output: `FusedAnswer.query`


class SlidingWindow:
    """`model` for the session in row `session` of its `vocabulary`, decoding the behavior `lag`
    ticks before the window's end.

    Weights are copied: make another when the model's weights change.
    """

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
        self._static = self._static_parts(0)

    def room(self, n: int) -> Tensor:
        """Empty memory for `n` embedded spikes: (2 * heads, n, head_dim)."""
        width = self._table.shape[-1] // (2 * self._heads)
        return torch.empty(2 * self._heads, n, width, device=self.device)

    @torch.inference_mode()
    def embed(self, unit: Tensor, time: Tensor) -> Tensor:
        """Keys and values of spikes, rotated by their times: (2 * heads, n, head_dim).

        `unit` (n,) are rows of the session's units table, `time` (n,) int64 ticks of a clock that
        does not slide.
        """
        rotated = turn(self._table[SPIKE, unit], self._turn(time), 2 * self._heads)
        return by_head(rotated, 2 * self._heads)

    @torch.inference_mode()
    def decode(self, spikes: Tensor, start: int, length: int) -> Tensor:
        """The model's output (columns,), `lag` ticks before the end of a window.

        `spikes` (2 * heads, n, head_dim) are its embedded spikes. The window starts at tick `start`
        of their clock and is `length` ticks long.
        """
        if length != self._static.length:
            self._static = self._static_parts(length)
        read = self._read(spikes, self._turn(self._model.latent_time.long() + start))
        latents = self._process(self._feedforward(self._latents + self._output(read)))
        return self._answer(latents, self._static.query)

    def _read(self, spikes: Tensor, angle: Turn) -> Tensor:
        """The first attention of latents at the times of `angle` to spikes, starts and ends:
        (latents, heads * head_dim)."""
        static, heads = self._static, self._heads
        query = by_head(turn(self._query.clone(), angle, heads), heads)
        key, value = spikes.chunk(2)
        share = self._memory(key.shape[1] + 1)
        torch.bmm(query, key.mT, out=share[..., :-1])
        share[..., -1:] = static.score
        torch.softmax(share, -1, out=share)
        read = turn(joined(share[..., :-1] @ value), angle.conj_physical(), heads)
        return read.add_(joined(share[..., -1:] * static.read))

    def _static_parts(self, length: int) -> StaticParts:
        """Attention to the start and end tokens depends only on the window's length, so compute it
        once."""
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
        """Memory for attention scores (heads, latents, n), the same at every step: the system takes
        longer to provide fresh memory than the scores take to compute."""
        shape = (self._heads, len(self._latents), n)
        size = shape[0] * shape[1] * n
        if size > len(self._scores):
            self._scores = torch.empty(2 * size, device=self.device)
        return self._scores[:size].view(shape)

    def _turn(self, time: Tensor) -> Turn:
        """The rotations at `time` (n,) ticks."""
        return torch.view_as_complex(self._model.rotary(time))[:, None]

    def _moment(self, tick: int) -> Turn:
        """The rotation at one tick."""
        return self._turn(torch.tensor([tick], device=self.device))
