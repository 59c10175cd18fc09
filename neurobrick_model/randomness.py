"""Counter-based random numbers, after Salmon et al. 2011 (*Parallel random numbers: as easy as 1,
2, 3*).

Each number is a hash of the run's seed, the step, the window's number in its batch, and a purpose.
So a window is the same, with the same dropout, on a CPU and on a GPU, alone and in a batch, on any
rank, before and after a resume. There is no generator state to save.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed integer: Weyl sequence increment


class Purpose(IntEnum):
    """The purpose of a random number. Each purpose has its own numbers."""

    WINDOW_PLACE = 1  # where a window lies in the training time
    UNIT_COUNT = 2  # how many units it keeps
    UNIT_CHOICE = 3  # which ones
    QUERY_JITTER = 4  # which samples it decodes
    DROPOUT = 5


def step_key(seed: int, step: int) -> int:
    """The key of one step of a run: a signed integer of 64 bits."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64).view(np.int64)[0])


def keys(step: int, purpose: Purpose, windows: Tensor) -> Tensor:
    """A key for each window, (b,) int64.

    `step` is the step's key. `windows` (b,) int64 are the windows' numbers in the batch of all
    ranks.
    """
    return mix(mix(windows * GOLDEN ^ step) + int(purpose))


def uniform(key: Tensor, n: int = 1) -> Tensor:
    """`n` uniform numbers in [0, 1) for each key, (b, n) float64, of 53 random bits each. `key` is
    (b,) int64."""
    counter = torch.arange(1, n + 1, device=key.device) * GOLDEN
    return _right(mix(key[:, None] + counter), 11).double() * 2.0**-53


def mix(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele et al. 2014) on int64. Every bit of the result depends on
    every bit of `x`."""
    x = (x ^ _right(x, 30)) * -4658895280553007687
    x = (x ^ _right(x, 27)) * -7723592293110705685
    return x ^ _right(x, 31)


def _right(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right. torch's own shift of signed integers copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def dropout(x: Tensor, rate: float, key: Tensor | None) -> Tensor:
    """Dropout: `x` (b, …) with a share `rate` of its elements set to 0 and the others scaled up.

    `key` (b,) int32 decides which. Without a key, as in evaluation, `x` is returned.
    """
    return x if key is None or not rate else x * kept(x.shape, rate, key).to(x.dtype)


def kept(shape: torch.Size, rate: float, key: Tensor) -> Tensor:
    """The factors of dropout, `shape` (b, …) float32: 0, or 1 / (1 - rate).

    They come from a short hash of 32 bits, since a model needs a hundred times as many of them as
    of all other random numbers. Operations are in place for speed in eager mode; torch.compile
    fuses them anyway.
    """
    inner = shape[1:]
    index = torch.arange(inner.numel(), device=key.device, dtype=torch.int32).view(inner)
    bits = key.view(-1, *(1 for _ in inner)) ^ (index * -1640531527)
    bits.mul_(-2048144789)
    bits.bitwise_xor_(bits >> 15)
    bits.mul_(-1028477379)
    # An element is kept if its number is negative. Its sign, copied to all bits, masks the bits of
    # the factor. This takes half the time of a comparison and a conversion.
    bits.bitwise_or_(-(2**31)).add_(round(rate * 2**31)).bitwise_right_shift_(31)
    (factor,) = struct.unpack("i", struct.pack("f", 1 / (1 - rate)))
    return bits.bitwise_and_(factor).view(torch.float32)
