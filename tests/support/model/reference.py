"""The decoder written for clarity, after the paper: one window at a time, one head at a time, in
float64. All faster implementations are compared with this one, gradients included.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurobrick_model.data.timeline import TICKS
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.model.tokens import KINDS
from neurobrick_model.recipe.settings import ModelSettings
from neurobrick_model.training.batches import Batch


class Reference:
    """A decoder with the weights of `model`. `p` holds them by name, float64, with gradients."""

    def __init__(self, model: Perceiver, sizes: ModelSettings) -> None:
        self.sizes = sizes
        state = model.state_dict().items()
        self.p = {name: value.detach().double().cpu().requires_grad_() for name, value in state}

    def loss(self, batch: Batch) -> Tensor:
        """The weighted mean squared error over all windows of a batch, without dropout."""
        total = torch.zeros((), dtype=torch.float64)
        for w in range(len(batch.target[0])):
            error = (self.window(batch, w) - batch.target[0][w].double()).square().mean(-1)
            total = total + (batch.weight[0][w].double() * error).sum()
        return total / batch.weight[0].double().sum()

    def window(self, batch: Batch, w: int) -> Tensor:
        """Decoded behavior (q, d) of one window of a batch."""
        keys, queries = batch.keys, batch.queries
        rows = slice(int(keys.offsets[w]), int(keys.offsets[w + 1]))
        return self.decode(
            keys.token[rows] // KINDS,
            keys.token[rows] % KINDS,
            keys.time[rows].double() / TICKS,
            int(queries.session[w]),
            queries.time[w].double() / TICKS,
        )

    def decode(
        self, unit: Tensor, kind: Tensor, time: Tensor, session: int, moments: Tensor
    ) -> Tensor:
        """Decoded behavior (q, d) at `moments` (q,) s, from the tokens (n,) of one window."""
        p, s = self.p, self.sizes
        tokens = p["unit_embedding.weight"][unit] + p["kind_embedding.weight"][kind]
        grid = (torch.arange(s.steps).double() + 0.5) * s.latent_step
        tx = grid.repeat_interleave(s.latents_per_step)
        x = p["latent_embedding.weight"].repeat(s.steps, 1)
        context = self.norm(tokens, "read.norm_context")
        inner = self.norm(x, "read.norm")
        x = x + self.attend("read", inner, tx, context, time, s.cross_heads, turn_values=True)
        x = x + self.feedforward("read_feedforward", x)
        for k in range(s.depth):
            name = f"layers.{k}.attention"
            inner = self.norm(x, f"{name}.norm")
            x = x + self.attend(name, inner, tx, inner, tx, s.self_heads, turn_values=True)
            x = x + self.feedforward(f"layers.{k}.feedforward", x)
        y = p["session_embedding.weight"][session].repeat(len(moments), 1)
        context = self.norm(x, "ask.norm_context")
        inner = self.norm(y, "ask.norm")
        y = y + self.attend("ask", inner, moments, context, tx, s.cross_heads, turn_values=False)
        y = y + self.feedforward("ask_feedforward", y)
        return y @ p["readout.weight"].T + p["readout.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def turn(self, x: Tensor, time: Tensor) -> Tensor:
        """Rotate pairs of neighbors in the first half of each row by its time."""
        shortest, longest = self.sizes.rotary_periods
        n = self.sizes.head_dim // 4
        columns = list(x.unbind(1))
        for pair in range(n):
            period = shortest * (longest / shortest) ** (pair / (n - 1))
            c, s = torch.cos(2 * math.pi * time / period), torch.sin(2 * math.pi * time / period)
            a, b = columns[2 * pair], columns[2 * pair + 1]
            columns[2 * pair], columns[2 * pair + 1] = a * c - b * s, a * s + b * c
        return torch.stack(columns, 1)

    def attend(
        self,
        name: str,
        x: Tensor,
        tx: Tensor,
        y: Tensor,
        ty: Tensor,
        heads: int,
        *,
        turn_values: bool,
    ) -> Tensor:
        p, w = self.p, self.sizes.head_dim
        q, k, v = (
            source @ p[f"{name}.{to}.weight"].T
            for source, to in ((x, "to_query"), (y, "to_key"), (y, "to_value"))
        )
        read = []
        for h in range(heads):
            part = slice(h * w, (h + 1) * w)
            qh, kh, vh = self.turn(q[:, part], tx), self.turn(k[:, part], ty), v[:, part]
            if turn_values:
                vh = self.turn(vh, ty)
            score = torch.exp(qh @ kh.T / math.sqrt(w))
            out = score / score.sum(1, keepdim=True) @ vh
            read.append(self.turn(out, -tx) if turn_values else out)
        return torch.cat(read, 1) @ p[f"{name}.to_output.weight"].T + p[f"{name}.to_output.bias"]

    def feedforward(self, name: str, x: Tensor) -> Tensor:
        p = self.p
        hidden = self.norm(x, f"{name}.norm") @ p[f"{name}.up.weight"].T + p[f"{name}.up.bias"]
        value, gate = hidden.chunk(2, dim=1)
        gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
        return value * gelu @ p[f"{name}.down.weight"].T + p[f"{name}.down.bias"]
