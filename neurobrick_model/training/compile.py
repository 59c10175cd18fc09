"""torch.compile: when the model is compiled, and which parts of it."""

from __future__ import annotations

import torch

from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import TrainingSettings

SHAPES = 64  # input shapes that a part is compiled for; for further ones it runs uncompiled


def compiles(settings: TrainingSettings, device: torch.device) -> bool:
    """Whether the model is compiled: as the recipe says, and by default on a GPU."""
    return device.type == "cuda" if settings.compile is None else settings.compile


def compile_parts(model: Perceiver) -> None:
    """Compile the model's parts in place.

    All layers are alike, so one compiled layer serves for all of them, however many there are. On a
    CPU the encoder stays uncompiled: it reads packed tokens window by window.
    """
    torch._dynamo.config.recompile_limit = SHAPES
    for layer in model.layers:
        layer.compile(dynamic=False)
    if model.latent_time.is_cuda:
        model.encode = torch.compile(model.encode, dynamic=False)  # type: ignore[method-assign]
    model.decode = torch.compile(model.decode, dynamic=False)  # type: ignore[method-assign]
