"""Checkpoints: all that a run needs to go on, in one safetensors file each.

The tensors of a nested state are the file's tensors; what remains of it, numbers and names, is JSON
in the file's header. Nothing in it is ever run. A checksum of all of it tells a damaged file,
which safetensors alone would read as weights that happen to be others.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from neurobrick import StoreError
from neurobrick_model.files import save_weights

TENSOR = "$tensor"  # stands for a tensor in the JSON, with its name
PAIRS = "$pairs"  # a mapping whose keys are not all strings
NAME = re.compile(r"^step-(\d+)\.safetensors$")


class Checkpoints:
    """The last `keep` checkpoints of a run, in its folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """Of all that there are, the newest last."""
        if not self._folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self._folder.iterdir()
                 if (match := NAME.match(path.name))]  # fmt: skip
        return [path for _, path in sorted(found)]

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep the state after `step` steps, and the ones before it that are to be kept.

        Raises StoreError when it cannot be written; those before it stay.
        """
        self._folder.mkdir(exist_ok=True)
        save_state(self._folder / f"step-{step:09d}.safetensors", state)
        for path in self.paths()[: -self._keep]:
            path.unlink()

    def load(self, device: torch.device, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest state that can be read, None if there is none at all; `say` is told of damaged
        ones that it passes over.

        Raises StoreError when there are some and all of them are damaged.
        """
        paths = self.paths()[::-1]
        for path in paths:
            try:
                return load_state(path, device)
            except StoreError as error:
                say(f"{error}; going back to the one before")
        if paths:
            raise StoreError(
                f"every checkpoint in {self._folder} is damaged; train anew, without --resume"
            )
        return None

    def clear(self) -> None:
        """Remove them all."""
        for path in self.paths():
            path.unlink()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a nest of mappings, lists, numbers, strings and tensors."""
    tensors: dict[str, Tensor] = {}
    rest = _take_apart(state, "", tensors)
    told = json.dumps(rest)
    metadata = {"state": told, "crc32": str(_checksum(told, tensors))}
    save_weights(path, tensors, metadata)


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises StoreError when it is absent or damaged.
    """
    try:
        with safetensors.safe_open(path, "pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        whole = _checksum(metadata["state"], tensors) == int(metadata["crc32"])
        state: dict[str, Any] = _put_together(
            json.loads(metadata["state"]), {k: v.to(device) for k, v in tensors.items()}
        )
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"cannot read the checkpoint {path}: {first}") from error
    if not whole:
        raise StoreError(f"the checkpoint {path} is damaged: its checksum is another")
    return state


def _checksum(told: str, tensors: Mapping[str, Tensor]) -> int:
    total = zlib.crc32(told.encode())
    for name in sorted(tensors):
        raw = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(raw.numpy().data, zlib.crc32(name.encode(), total))
    return total


def _take_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON knows it; tensors, by the path to them, go to `tensors`."""
    if isinstance(value, Tensor):
        # A copy: what is saved must neither share memory nor change while it is written.
        tensors[name] = value.detach().clone()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        parts = [
            (key, _take_apart(inner, f"{name}/{key}", tensors)) for key, inner in value.items()
        ]
        return dict(parts) if all(isinstance(key, str) for key in value) else {PAIRS: parts}
    if isinstance(value, list | tuple):
        return [_take_apart(inner, f"{name}/{k}", tensors) for k, inner in enumerate(value)]
    return value


def _put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if PAIRS in value:
        return {key: _put_together(inner, tensors) for key, inner in value[PAIRS]}
    return {key: _put_together(inner, tensors) for key, inner in value.items()}
