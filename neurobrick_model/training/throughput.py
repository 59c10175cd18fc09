"""The meter: how fast training goes, how much of the device it uses, how much memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from neurobrick_model.model.flops import peak_flops, training_flops
from neurobrick_model.recipe.settings import ModelSettings
from neurobrick_model.training.batches import Batch


@dataclass(frozen=True)
class Reading:
    """Over the steps since the last one: of all ranks, windows and tokens a second; `utilization`,
    the share of the devices' measured rate of matrix products; `memory`, bytes at the peak, of this
    process and on a card of its tensors."""

    windows_per_second: float
    tokens_per_second: float
    utilization: float
    memory: int

    @classmethod
    def names(cls) -> list[str]:
        """What it tells."""
        return [field.name for field in fields(cls)]


class Meter:
    """Counts what is trained on, on each of `ranks` devices alike."""

    def __init__(
        self,
        model: ModelSettings,
        queries: int,
        outputs: int,
        device: torch.device,
        precision: torch.dtype,
        ranks: int,
    ) -> None:
        self._shape = (model, queries, outputs)
        self._device, self._ranks = device, ranks
        self._peak = peak_flops(device, precision)
        self.restart()

    def restart(self) -> None:
        """Start over, as after a pause."""
        self._windows = self._tokens = 0
        self._began = time.perf_counter()

    def count(self, batches: Sequence[Batch]) -> None:
        """Take note of a step."""
        self._windows += sum(len(batch.queries.session) for batch in batches)
        self._tokens += sum(batch.keys.count for batch in batches)

    def read(self) -> Reading:
        """How it went since the last reading; the device must have finished."""
        seconds = time.perf_counter() - self._began
        model, queries, outputs = self._shape
        each = training_flops(model, self._tokens / max(self._windows, 1), queries, outputs)
        reading = Reading(
            windows_per_second=self._ranks * self._windows / seconds,
            tokens_per_second=self._ranks * self._tokens / seconds,
            utilization=each * self._windows / seconds / self._peak,
            memory=peak_memory(self._device),
        )
        self.restart()
        return reading


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held at once; on a card, that its tensors have."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
