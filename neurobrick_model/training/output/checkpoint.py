"""Checkpoints: the whole state of a run, one safetensors file each.

The state is nested. Its tensors are the tensors of the file. Everything else in it, numbers and
names, is JSON in the file's header. Nothing in the file is ever executed.

The header also holds a checksum of everything: safetensors has none, so it would load damaged
weights without an error.
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
from neurobrick_model.files import reading_tensors, save_weights, writing

TENSOR = "$tensor"  # key of a JSON object that stands for a tensor; its value is the tensor's name
PAIRS = "$pairs"  # key of a JSON object that stands for a mapping with keys that are not strings
NAME = re.compile(r"^step-(\d+)\.safetensors$")


class Checkpoints:
    """The last `keep` checkpoints of a run, in a folder of their own."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """The files of all checkpoints, by step. Raises StoreError when the folder cannot be
        read."""
        try:
            if not self._folder.is_dir():
                return []
            numbered = [
                (int(match[1]), path)
                for path in self._folder.iterdir()
                if (match := NAME.match(path.name))
            ]
        except OSError as error:
            raise StoreError(f"cannot read {self._folder}: {error.strerror or error}") from error
        return [path for _, path in sorted(numbered)]

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after `step` steps, then delete the oldest files beyond `keep`.

        Raises StoreError when it cannot be written; no earlier checkpoint is deleted then.
        """
        path = self._folder / f"step-{step:09d}.safetensors"
        with writing(path):
            self._folder.mkdir(exist_ok=True)
            save_state(path, state)
            for old in self.paths()[: -self._keep]:
                old.unlink()

    def load(self, device: torch.device, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest state that can be read, its tensors on `device`; None when there is no
        checkpoint. `say` gets a line for each damaged one that is skipped.

        Raises StoreError when there are checkpoints and all of them are damaged.
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
        """Delete all checkpoints. Raises StoreError when one cannot be deleted."""
        for path in self.paths():
            with writing(path):
                path.unlink()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested mappings, lists, numbers, strings and tensors. Raises StoreError when the file
    cannot be written."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(state, "", tensors))
    metadata = {"state": text, "crc32": str(_checksum(text, tensors))}
    save_weights(path, tensors, metadata)


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the state that `save_state` wrote, its tensors to `device`.

    Raises StoreError when the file is absent or damaged.
    """
    with reading_tensors(path, "the checkpoint"):
        with safetensors.safe_open(path, "pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["state"]
        intact = _checksum(text, tensors) == int(metadata["crc32"])
        if intact:
            moved = {name: tensor.to(device) for name, tensor in tensors.items()}
            state: dict[str, Any] = _with_tensors(json.loads(text), moved)
    if not intact:
        raise StoreError(f"the checkpoint {path} is damaged: its checksum is another")
    return state


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> int:
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        raw = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(raw.numpy().data, zlib.crc32(name.encode(), total))
    return total


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it. Its tensors are put into `tensors`, named by their path."""
    if isinstance(value, Tensor):
        # A copy: saved tensors must not share memory, nor change while they are written.
        tensors[name] = value.detach().clone()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        pairs = [
            (key, _without_tensors(inner, f"{name}/{key}", tensors)) for key, inner in value.items()
        ]
        return dict(pairs) if all(isinstance(key, str) for key in value) else {PAIRS: pairs}
    if isinstance(value, list | tuple):
        return [_without_tensors(inner, f"{name}/{k}", tensors) for k, inner in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_without_tensors`."""
    if isinstance(value, list):
        return [_with_tensors(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if PAIRS in value:
        return {key: _with_tensors(inner, tensors) for key, inner in value[PAIRS]}
    return {key: _with_tensors(inner, tensors) for key, inner in value.items()}
