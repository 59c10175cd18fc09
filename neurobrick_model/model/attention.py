"""Attention with times: rotary embeddings, and keys packed without padding.

Packed keys are attended to in one of three ways, with the same result: by one kernel over ragged
sequences (`torch.nn.attention.varlen`, on GPUs and in precisions that have it), by one call for
each window (on a CPU, where a call costs little beside its work), or by padding with a mask
(elsewhere).

decoding/fused_layers.py and decoding/sliding_window.py compute the same attention, written by hand
for one window. They must follow every change here; perceiver.py lists what else must.
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
    """Times as rotations of pairs of numbers, after Su et al. 2021, *RoFormer*.

    The first half of a head's pairs turn, the other half stay. `periods`, in seconds, are those of
    all head_dim // 4 turning pairs; or the shortest and the longest, between which the others are
    spaced evenly in their logarithm.
    """

    turns: Tensor  # (head_dim // 4,) float64, turns that each pair makes in a tick

    def __init__(self, head_dim: int, periods: Sequence[float]) -> None:
        super().__init__()
        if len(periods) == head_dim // 4:
            period = torch.tensor(periods, dtype=torch.float64)
        else:
            first, last = (math.log10(seconds) for seconds in periods)
            period = torch.logspace(first, last, head_dim // 4, dtype=torch.float64)
        self.register_buffer("turns", 1 / (period * TICKS), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:
        """Moves the module to a device, but never rounds `turns`: times stay exact in a model of
        half precision."""
        turns = self.turns
        super()._apply(fn, recurse)
        self.turns = turns.to(self.turns.device)
        return self

    def forward(self, time: Tensor) -> Angle:
        """The rotations at `time` (…,), whole ticks: (…, head_dim // 4, 2) float32.

        Turns are counted in float64, and only their fraction becomes float32: the shortest period
        makes ten thousand turns a second; float32 would round off a hundredth of a turn.
        """
        turns = time.double()[..., None] * self.turns
        angle = (2 * math.pi) * (turns - turns.round()).float()
        return torch.stack([angle.cos(), angle.sin()], dim=-1)


def rotate(
    x: Tensor, angle: Angle, heads: int, *, back: bool = False, inplace: bool = False
) -> Tensor:
    """Turn pairs of neighbors in the first half of every head of `x` (…, heads * head_dim) by
    `angle` (…, head_dim // 4, 2), or `back` by it: (…, heads * head_dim).

    `inplace=True`: overwrite `x`; the caller does not use it again.
    """
    if not torch.compiler.is_compiling():
        return _Rotate.apply(x, angle, heads, back, inplace)
    cos, sin = angle[..., None, :, :].unbind(-1)
    by_head = x.unflatten(-1, (heads, -1))
    turning, still = by_head.chunk(2, dim=-1)
    a, b = turning.unflatten(-1, (-1, 2)).float().unbind(-1)
    if back:
        sin = -sin
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned.to(x.dtype), still], dim=-1).flatten(-2)


class _Rotate(torch.autograd.Function):
    """The rotation without a compiler: one complex product over half of the memory. Written out in
    cosines and sines, which a compiler fuses into one loop, it would take six times as long.

    The backward pass overwrites its incoming gradient. Safe only if that gradient belongs to this
    tensor alone: true after a matmul or attention, false after `a + b`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, angle: Angle, heads: int, back: bool, inplace: bool
    ) -> Tensor:  # fmt: skip
        ctx.heads, ctx.back = heads, back
        ctx.save_for_backward(angle)
        if not inplace:
            return _turn(x.clone(memory_format=torch.contiguous_format), angle, heads, back)
        ctx.mark_dirty(x)
        return _turn(x, angle, heads, back)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (angle,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return _turn(gradient, angle, ctx.heads, not ctx.back), None, None, None, None


def _turn(x: Tensor, angle: Angle, heads: int, back: bool) -> Tensor:
    """`x`, turned in place. The product is computed in float32 at least."""
    rotation = torch.view_as_complex(angle)[..., None, :]
    rotation = rotation.conj_physical() if back else rotation
    turning = x.unflatten(-1, (heads, 2, -1))[..., 0, :]
    precise = turning.to(torch.promote_types(x.dtype, torch.float32))
    torch.view_as_complex(precise.unflatten(-1, (-1, 2))).mul_(rotation)
    if precise is not turning:
        turning.copy_(precise)
    return x


class Attention(nn.Module):
    """Multi-head attention in which queries and keys are rotated by their times.

    So only differences of times matter. With `rotate_values`, values are rotated too, and the
    result is turned back by the query's time: it depends on how long ago a value was.

    Projecting (`queries`, `keys_values`) and attending (`forward`, `packed`) are apart, so that a
    caller can project once and attend often. With `cross`, the context has a norm of its own.
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
        """Queries (…, heads * head_dim) of `x` (…, dim)."""
        return self.to_query(self.norm(x))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, (…, heads * head_dim) each, of `context` (…, dim)."""
        context = (self.norm_context or self.norm)(context)
        return self.to_key(context), self.to_value(context)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, query_angle: Angle, key_angle: Angle
    ) -> Tensor:
        """Attend with `query` (b, q, heads * head_dim) to keys and values (b, n, heads * head_dim):
        (b, q, dim).

        All three are overwritten. Angles are (b, …), or (1, …) where all windows have the same.
        """
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
        """Attend with the same `query` (1, q, heads * head_dim) in each of b windows: (b, q, dim).

        Keys and values (n, heads * head_dim) are packed: window k has rows
        `offsets[k]:offsets[k + 1]`, at most `longest`.
        """
        query, key, value = self._turned(query, key, value, query_angle, key_angle)
        query = query.expand(len(offsets) - 1, -1, -1, -1)
        return self._output(attend_packed(query, key, value, offsets, longest), query_angle)

    def _turned(
        self, query: Tensor, key: Tensor, value: Tensor, query_angle: Angle, key_angle: Angle
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, rotated by their times, (…, heads, head_dim) each."""
        query = rotate(query, query_angle, self.heads, inplace=True)
        key = rotate(key, key_angle, self.heads, inplace=True)
        if self.rotate_values:
            value = rotate(value, key_angle, self.heads, inplace=True)
        query, key, value = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, value))
        return query, key, value

    def _output(self, read: Tensor, query_angle: Angle) -> Tensor:
        """The output (b, q, dim), from what each head reads, (b, q, heads, head_dim)."""
        read = read.flatten(-2)
        if self.rotate_values:
            read = rotate(read, query_angle, self.heads, back=True)
        return self.to_output(read)


def attend_packed(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int
) -> Tensor:
    """Attend with `query` (b, q, heads, head_dim) to packed keys and values (n, heads, head_dim):
    (b, q, heads, head_dim).

    Window k has rows `offsets[k]:offsets[k + 1]` of the keys and values, at most `longest`. Rows
    after the last window are not read.
    """
    if len(offsets) == 2 and longest == key.shape[0]:  # one window, and no padding
        return attend_all(query, key, value)
    if not key.is_cuda:
        return attend_each(query, key, value, offsets)
    if has_varlen(key):
        return attend_varlen(query, key, value, offsets, longest)
    return attend_padded(query, key, value, offsets, longest)


def has_varlen(key: Tensor) -> bool:
    """Whether the kernel over ragged sequences takes these keys. It is flash attention: Ampere GPUs
    and later, half precisions, and head sizes that are multiples of 8 up to 256."""
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
    # The kernel leaves rows after the last window, and their gradients, as they are: set them to 0.
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
    """`attend_packed` for one window, which has all keys and values (n, heads, head_dim)."""
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
    """`attend_packed` by padding every window to `longest`, with a mask."""
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
