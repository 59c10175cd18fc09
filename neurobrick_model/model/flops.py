"""Operations that the decoder needs, and operations a second that a device can do.

Their ratio is the utilization of the device. The counts follow perceiver.py by hand.
"""

from __future__ import annotations

import statistics
import time

import torch

from neurobrick_model.recipe.settings import ModelSettings

TRAINING = 3  # forward passes that a training step costs: each product has two gradients
PEAK_SIZES = {"cpu": 1024, "cuda": 8192}  # rows and columns of the matrices that are multiplied
PEAK_TRIES = 5


def forward_flops(model: ModelSettings, tokens: float, queries: float, outputs: int) -> float:
    """Floating-point operations to decode one window of so many `tokens` and `queries`, with so
    many `outputs` a query.

    As is the custom, only matrix products count, and a multiplication and an addition are two
    operations. Counted is the paper's layout, in which every token is projected, although this one
    projects less: so figures of different programs can be compared.
    """
    dim, latents = model.dim, model.latents
    cross, within = model.cross_heads * model.head_dim, model.self_heads * model.head_dim
    feedforward = 3 * model.feedforward * dim * dim
    encoder = (
        tokens * 2 * dim * cross  # keys and values
        + latents * 2 * dim * cross  # queries, output
        + 2 * latents * tokens * cross
        + latents * feedforward
    )
    layer = latents * (4 * dim * within + feedforward) + 2 * latents**2 * within
    decoder = (
        latents * 2 * dim * cross
        + queries * 2 * dim * cross
        + 2 * queries * latents * cross
        + queries * (feedforward + dim * outputs)
    )
    return 2 * (encoder + model.depth * layer + decoder)


def training_flops(model: ModelSettings, tokens: float, queries: float, outputs: int) -> float:
    """Floating-point operations to train on one window, forward and backward."""
    return TRAINING * forward_flops(model, tokens, queries, outputs)


def peak_flops(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations a second of large matrix products on `device`, measured now: the
    median of some tries."""
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
