"""Attention with times: rotary embeddings, and keys packed without padding.

There are three ways of reading packed keys, and they give the same: one kernel over ragged
sequences (`torch.nn.attention.varlen`, on cards and in precisions that have it), one call for each
window (on a CPU, where calls are cheap beside their work), and padding with a mask (elsewhere).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import varlen

from neurobrick_model.data.timeline import TICKS

Angle = Tensor  # (…, head_dim // 4, 2) float32, cosines and sines


class Rotary(nn.Module):
    """Times as rotations of number pairs. The first half of a head's pairs turn, with the given
    `periods` in seconds, or with as many as there are pairs between two, ends included, spaced
    evenly in their logarithm; the other half stay."""

    turns: Tensor  # (head_dim // 4,) float64, of a whole turn, that a tick makes

    def __init__(self, head_dim: int, periods: Sequence[float]) -> None:
        super().__init__()
        if len(periods) == head_dim // 4:
            each = torch.tensor(periods, dtype=torch.float64)
        else:
            first, last = (math.log10(period) for period in periods)
            each = torch.logspace(first, last, head_dim // 4, dtype=torch.float64)
        self.register_buffer("turns", 1 / (each * TICKS), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:
        """Moved, but never rounded: a model in half precision keeps its sense of time."""
        turns = self.turns
        super()._apply(fn, recurse)
        self.turns = turns.to(self.turns.device)
        return self

    def forward(self, time: Tensor) -> Angle:
        """`time` (…,) in whole ticks.

        In float64 up to the fraction of a turn: the shortest period turns ten thousand times in a
        second, and float32 would leave a hundredth of a turn of it to chance.
        """
        turned = time.double()[..., None] * self.turns
        angle = (2 * math.pi) * (turned - turned.round()).float()
        return torch.stack([angle.cos(), angle.sin()], dim=-1)


def rotate(
    x: Tensor, angle: Angle, heads: int, *, back: bool = False, owned: bool = False
) -> Tensor:
    """Turn pairs of neighbors in the first half of every head of `x` (…, heads * head_dim) by
    `angle` (…, head_dim // 4, 2), or back.

    `owned` says that `x` is read by nobody else, so that it may be turned in place.
    """
    if not torch.compiler.is_compiling():
        return _Rotate.apply(x, angle, heads, back, owned)
    cos, sin = angle[..., None, :, :].unbind(-1)
    by_head = x.unflatten(-1, (heads, -1))
    turning, still = by_head.chunk(2, dim=-1)
    a, b = turning.unflatten(-1, (-1, 2)).float().unbind(-1)
    if back:
        sin = -sin
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned.to(x.dtype), still], dim=-1).flatten(-2)


class _Rotate(torch.autograd.Function):
    """The rotation op by op: one complex product over half of the memory. Written out in sines,
    which a compiler makes one loop of, it takes six times as long.

    Its gradient is turned in place. So what reads the result has to make a gradient for it alone,
    as products do, and attention; a sum would give the same one to both of its terms.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, angle: Angle, heads: int, back: bool, owned: bool
    ) -> Tensor:  # fmt: skip
        ctx.heads, ctx.back = heads, back
        ctx.save_for_backward(angle)
        if not owned:
            return _turn(x.clone(memory_format=torch.contiguous_format), angle, heads, back)
        ctx.mark_dirty(x)
        return _turn(x, angle, heads, back)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (angle,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return _turn(gradient, angle, ctx.heads, not ctx.back), None, None, None, None


def _turn(x: Tensor, angle: Angle, heads: int, back: bool) -> Tensor:
    """In place; in float32 at least."""
    turn = torch.view_as_complex(angle)[..., None, :]
    turn = turn.conj_physical() if back else turn
    half = x.unflatten(-1, (heads, 2, -1))[..., 0, :]
    wide = half.to(torch.promote_types(x.dtype, torch.float32))
    torch.view_as_complex(wide.unflatten(-1, (-1, 2))).mul_(turn)
    if wide is not half:
        half.copy_(wide)
    return x


class Attention(nn.Module):
    """Multi-head attention in which queries and keys, and values where asked, are rotated by their
    times, so that only time differences matter. A rotated value is turned back by its reader's
    time: what is read says how long ago it was.

    Projections are apart from attending, so that a caller can project once what it uses often.
    """

    def __init__(
        self, dim: int, heads: int, head_dim: int, *, cross: bool, rotate_values: bool
    ) -> None:
        super().__init__()
        self.heads, self.rotate_values = heads, rotate_values
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim) if cross else None
        self.to_query = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_key = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_value = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_output = nn.Linear(heads * head_dim, dim)

    def queries(self, x: Tensor) -> Tensor:
        """`x` (…, dim) as queries (…, heads * head_dim)."""
        return self.to_query(self.norm(x))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """`context` (…, dim) as keys and values, each (…, heads * head_dim)."""
        context = (self.norm_context or self.norm)(context)
        return self.to_key(context), self.to_value(context)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, query_angle: Angle, key_angle: Angle
    ) -> Tensor:
        """What `query` (b, q, heads * head_dim) reads from keys and values (b, n, …), all three of
        which may be turned in place: (b, q, dim). Angles may be of one window for all."""
        query, key, value = self._turned(query, key, value, query_angle, key_angle)
        read = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        return self._output(read.transpose(1, 2), query_angle)

    def packed(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_angle: Angle,
        key_angle: Angle,
        offsets: Tensor,
        longest: int,
    ) -> Tensor:
        """What the same `query` (1, q, heads * head_dim) reads in each of b windows, whose keys and
        values (n, …) are packed as `offsets` (b + 1,) says: (b, q, dim)."""
        query, key, value = self._turned(query, key, value, query_angle, key_angle)
        query = query.expand(len(offsets) - 1, -1, -1, -1)
        return self._output(attend_packed(query, key, value, offsets, longest), query_angle)

    def _turned(
        self, query: Tensor, key: Tensor, value: Tensor, query_angle: Angle, key_angle: Angle
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three at their times, each (…, heads, head_dim)."""
        query = rotate(query, query_angle, self.heads, owned=True)
        key = rotate(key, key_angle, self.heads, owned=True)
        if self.rotate_values:
            value = rotate(value, key_angle, self.heads, owned=True)
        query, key, value = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, value))
        return query, key, value

    def _output(self, read: Tensor, query_angle: Angle) -> Tensor:
        """The output (b, q, dim) of what heads have read (b, q, heads, head_dim)."""
        read = read.flatten(-2)
        if self.rotate_values:
            read = rotate(read, query_angle, self.heads, back=True)
        return self.to_output(read)


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int
) -> Tensor:
    """Attention of `query` (b, q, heads, head_dim) to packed keys and values (n, heads, head_dim),
    of which window k has rows `offsets[k]:offsets[k + 1]`, at most `longest`: (b, q, heads,
    head_dim). Rows after the last window are not read."""
    if len(offsets) == 2 and longest == key.shape[0]:  # one window, and no padding
        return attend_all(query, key, value)
    if not key.is_cuda:
        return attend_each(query, key, value, offsets)
    if has_varlen(key):
        return attend_varlen(query, key, value, offsets, longest)
    return attend_padded(query, key, value, offsets, longest)


def has_varlen(key: Tensor) -> bool:
    """Whether the kernel over ragged sequences takes these keys: flash attention's cards (Ampere
    and later), half precisions and head sizes."""
    return (
        key.is_cuda
        and key.dtype in (torch.float16, torch.bfloat16)
        and key.shape[-1] % 8 == 0
        and key.shape[-1] <= 256
        and torch.cuda.get_device_capability(key.device) >= (8, 0)
    )


def attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int
) -> Tensor:
    """`attend_packed` by the kernel over ragged sequences."""
    b, q, heads, width = query.shape
    query_offsets = torch.arange(b + 1, dtype=torch.int32, device=query.device) * q
    # The kernel neither reads nor writes what follows the last window, gradients included.
    real = (torch.arange(len(key), device=key.device) < offsets[-1])[:, None, None]
    read = varlen.varlen_attn(
        query.reshape(b * q, heads, width),
        torch.where(real, key, 0),
        torch.where(real, value, 0),
        query_offsets,
        offsets,
        q,
        longest,
    )
    assert isinstance(read, Tensor)
    return read.view(b, q, heads, width)


def attend_all(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of `query` (1, q, heads, head_dim) to all keys and values (n, heads, head_dim)."""
    read = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(0, 1)[None], value.transpose(0, 1)[None]
    )
    return read.transpose(1, 2)


def attend_each(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
    """`attend_packed` by one call for each window."""
    counts = offsets.diff().tolist()
    counts.append(len(key) - sum(counts))  # padding, if any
    windows = zip(query.split(1), key.split(counts), value.split(counts), strict=False)
    return torch.cat([attend_all(*window) for window in windows])


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int
) -> Tensor:
    """`attend_packed` by padding every window to the `longest`, and a mask."""
    place = torch.arange(longest, device=key.device)
    mask = place < offsets.diff()[:, None]
    row = torch.where(mask, offsets[:-1, None] + place, 0)
    read = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key[row].transpose(1, 2),
        value[row].transpose(1, 2),
        attn_mask=mask[:, None, None],
    )
    return read.transpose(1, 2)
