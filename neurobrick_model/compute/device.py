"""Which device a run uses, and in what precision it multiplies matrices."""

from __future__ import annotations

import torch

from neurobrick import RecipeError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device called `name`: `cpu`, `cuda`, or `auto` for CUDA where there is a GPU.

    On a machine with several GPUs, each rank of the machine has the GPU of its number. Raises
    RecipeError for `cuda` without a GPU, and for more ranks than GPUs.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("training.device is cuda, but torch sees no CUDA device here")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise RecipeError(
            f"LOCAL_RANK is {local_rank}, but this machine has {torch.cuda.device_count()} GPUs: "
            "start torchrun with as many processes as there are GPUs"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The precision called `name`: `float32`, `bfloat16`, or `auto` for bfloat16 on GPUs that
    compute in it, and float32 elsewhere."""
    if name != "auto":
        return PRECISIONS[name]
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if half else torch.float32
