"""The device: which one, in what precision, and what is compiled for it."""

from __future__ import annotations

import torch

from neurobrick import RecipeError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """The device of that name, on a machine of several cards the one of this rank; `auto` is CUDA
    if there is one. Raises RecipeError for CUDA on a machine without it."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("training.device is cuda, but torch sees no CUDA device here")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise RecipeError(
            f"there are {torch.cuda.device_count()} cards here, and more processes than that: "
            "start torchrun with as many processes as there are cards"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The precision of matrix products; `auto` is bfloat16 on cards that have it."""
    if wanted != "auto":
        return PRECISIONS[wanted]
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if half else torch.float32
