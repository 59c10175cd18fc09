"""Files of a run, each written beside its place and then moved there: what exists is whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from neurobrick import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, moved to `path` when the block ends well and removed when it does not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def to_json(value: Any) -> str:
    """`value` as JSON; NaN and infinities become null, as JSON knows none."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    with replacing(path) as aside:
        aside.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in weights.items()}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from safetensors. Raises StoreError when the file is absent or damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"cannot read the weights {path}: {error}") from error


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a run needs to go on: tensors, numbers and containers of them."""
    with replacing(path) as aside:
        torch.save(dict(state), aside)


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote; nothing in the file is run.

    Raises StoreError when it is absent or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"cannot read the checkpoint {path}: {first}") from error
    return state
