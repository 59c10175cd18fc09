"""Arithmetic that the decoder needs, and that a device can do: how well the one is used."""

from __future__ import annotations

import statistics
import time

import torch

from neurobrick_model.recipe.settings import ModelSettings

TRAINING = 3  # forward and backward, in forwards: each product has two gradients
PEAK_SIZES = {"cpu": 1024, "cuda": 8192}  # sides of the matrices that the peak is measured on
PEAK_TRIES = 5


def forward_flops(model: ModelSettings, tokens: float, queries: float, outputs: int) -> float:
    """Floating-point operations of decoding one window of so many `tokens` and `queries`, those of
    matrix products alone, as is the custom (a multiplication and an addition count two).

    What the paper's layout needs is counted, in which every token is projected, not what this one
    saves, so that figures of different programs can be compared.
    """
    dim, latents = model.dim, model.latents
    cross, own = model.cross_heads * model.head_dim, model.self_heads * model.head_dim
    feedforward = 3 * model.feedforward * dim * dim
    encoder = (
        tokens * 2 * dim * cross  # keys and values
        + latents * 2 * dim * cross  # queries, output
        + 2 * latents * tokens * cross
        + latents * feedforward
    )
    layer = latents * (4 * dim * own + feedforward) + 2 * latents**2 * own
    decoder = (
        latents * 2 * dim * cross
        + queries * 2 * dim * cross
        + 2 * queries * latents * cross
        + queries * (feedforward + dim * outputs)
    )
    return 2 * (encoder + model.depth * layer + decoder)


def training_flops(model: ModelSettings, tokens: float, queries: float, outputs: int) -> float:
    """The same for a training step's share of one window."""
    return TRAINING * forward_flops(model, tokens, queries, outputs)


def peak_flops(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of large matrix products on `device`, measured: the rate that
    utilization is a share of."""
    n = PEAK_SIZES[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(n, n, device=device, generator=generator).to(precision) for _ in range(2))
    seconds = []
    for _ in range(PEAK_TRIES + 1):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
