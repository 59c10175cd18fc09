"""Random numbers that are a function of what they are for.

Each is a hash of the run's seed, the step, the number of the window in its batch, and its purpose,
after the counter-based generators of Salmon et al. 2011 (*Parallel random numbers: as easy as 1, 2,
3*). So a window is the same window, with the same dropout, on a CPU and on a GPU, alone or in a
batch, on whatever rank it falls, before and after a resume; and there is no generator state to
save.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed integer: Weyl sequence increment


class Purpose(IntEnum):
    """What a number is for; each purpose has numbers of its own."""

    WINDOW_PLACE = 1
    UNIT_COUNT = 2
    UNIT_CHOICE = 3
    QUERY_JITTER = 4
    DROPOUT = 5


def step_key(seed: int, step: int) -> int:
    """The key of one step of a run: 64 bits, signed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64).view(np.int64)[0])


def keys(step: int, purpose: Purpose, windows: Tensor) -> Tensor:
    """A key for each of `windows` (b,) int64, their numbers in the global batch of the step whose
    key is `step`: (b,) int64."""
    return mix(mix(windows * GOLDEN ^ step) + int(purpose))


def uniform(key: Tensor, n: int = 1) -> Tensor:
    """`n` uniform numbers in [0, 1) of each of `key` (b,): (b, n) float64, of 53 bits each."""
    counter = torch.arange(1, n + 1, device=key.device) * GOLDEN
    return _right(mix(key[:, None] + counter), 11).double() * 2.0**-53


def mix(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele et al. 2014) on int64: every bit depends on every bit."""
    x = (x ^ _right(x, 30)) * -4658895280553007687
    x = (x ^ _right(x, 27)) * -7723592293110705685
    return x ^ _right(x, 31)


def _right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's fills with the sign of its signed integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def dropout(x: Tensor, rate: float, key: Tensor | None) -> Tensor:
    """`x` (b, …) with a share `rate` of its elements zeroed and the rest scaled up; which, `key`
    (b,) int32 decides for each of the b. `x` itself where there is no key, as in evaluation."""
    return x if key is None or not rate else x * kept(x.shape, rate, key).to(x.dtype)


def kept(shape: torch.Size, rate: float, key: Tensor) -> Tensor:
    """The factors (b, …) float32 of dropout: 0, or 1 / (1 - rate).

    A short hash in 32 bits: a model draws a hundred times as many of these as of all others. It is
    written in place where it runs op by op, and is one with its neighbors where it is compiled.
    """
    inner = shape[1:]
    index = torch.arange(inner.numel(), device=key.device, dtype=torch.int32).view(inner)
    bits = key.view(-1, *(1 for _ in inner)) ^ (index * -1640531527)
    bits.mul_(-2048144789)
    bits.bitwise_xor_(bits >> 15)
    bits.mul_(-1028477379)
    # Kept is what stays below zero; its sign, spread over all bits, is the mask of the factor's own
    # bits. That takes half the time of a comparison and a conversion.
    bits.bitwise_or_(-(2**31)).add_(round(rate * 2**31)).bitwise_right_shift_(31)
    (factor,) = struct.unpack("i", struct.pack("f", 1 / (1 - rate)))
    return bits.bitwise_and_(factor).view(torch.float32)
