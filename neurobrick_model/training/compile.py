"""torch.compile: when the model is compiled, and which of its parts."""

from __future__ import annotations

import torch

from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import TrainingSettings

SHAPES = 64  # that a part is compiled for before it runs uncompiled; lengths take a few


def compiles(settings: TrainingSettings, device: torch.device) -> bool:
    """Whether the model is compiled: as the recipe says, and by default on a card."""
    return device.type == "cuda" if settings.compile is None else settings.compile


def compile_parts(model: Perceiver) -> None:
    """Compile the decoder, part by part: the layers are all alike, so that what is compiled for one
    serves all, whatever the depth. On a CPU, packed keys are read window by window, which is left
    as it is."""
    torch._dynamo.config.recompile_limit = SHAPES
    for layer in model.layers:
        layer.compile(dynamic=False)
    if model.latent_time.is_cuda:
        model.encode = torch.compile(model.encode, dynamic=False)  # type: ignore[method-assign]
    model.decode = torch.compile(model.decode, dynamic=False)  # type: ignore[method-assign]
