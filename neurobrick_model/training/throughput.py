"""Throughput: how fast training goes, how well it uses the device, how much memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from neurobrick_model.model.flops import peak_flops, training_flops
from neurobrick_model.recipe.settings import ModelSettings
from neurobrick_model.training.batches import Batch


@dataclass(frozen=True)
class Reading:
    """Throughput since the last reading, of all ranks together."""

    windows_per_second: float
    tokens_per_second: float
    # Arithmetic done, as a share of the device's measured peak, 0 to 1. None when the peak cannot
    # be measured, because other processes use the device.
    utilization: float | None
    memory: int  # bytes at the peak: of this process, or on a GPU of its tensors

    @classmethod
    def names(cls) -> list[str]:
        """The names of its fields."""
        return [field.name for field in fields(cls)]

    def __str__(self) -> str:
        """`1,234 windows/s  56% of peak`."""
        speed = f"{self.windows_per_second:,.0f} windows/s"
        return speed if self.utilization is None else f"{speed}  {self.utilization:.0%} of peak"


class Meter:
    """Counts the windows that this rank trains on.

    Args:
        model: sizes of the decoder.
        queries: decoded samples of a window.
        outputs: decoded columns.
        device, precision: where and in what dtype matrices are multiplied.
        ranks: number of ranks; each does as much as this one.
        measure: measures the device's peak, in operations per second.
    """

    def __init__(
        self,
        model: ModelSettings,
        queries: int,
        outputs: int,
        device: torch.device,
        precision: torch.dtype,
        ranks: int,
        measure: Callable[[torch.device, torch.dtype], float] = peak_flops,
    ) -> None:
        self._shape = (model, queries, outputs)
        self._device, self._precision, self._ranks = device, precision, ranks
        self._measure = measure
        self._peak = measure(device, precision)
        self.restart()

    def restart(self) -> None:
        """Forget what was counted, as after a pause."""
        self._windows = self._tokens = 0
        self._began = time.perf_counter()

    def count(self, batches: Sequence[Batch]) -> None:
        """Count the windows of a step."""
        self._windows += sum(len(batch.queries.session) for batch in batches)
        self._tokens += sum(batch.keys.count for batch in batches)

    def read(self) -> Reading:
        """Throughput since the last reading. On a GPU, the counted steps must be finished."""
        seconds = time.perf_counter() - self._began
        model, queries, outputs = self._shape
        each = training_flops(model, self._tokens / max(self._windows, 1), queries, outputs)
        reading = Reading(
            windows_per_second=self._ranks * self._windows / seconds,
            tokens_per_second=self._ranks * self._tokens / seconds,
            utilization=self._utilization(each * self._windows / seconds),
            memory=peak_memory(self._device),
        )
        self.restart()
        return reading

    def _utilization(self, flops: float) -> float | None:
        """`flops` per second as a share of the peak. Training cannot be faster than the peak: then
        the peak was measured while other processes used the device, and is measured again."""
        if flops > self._peak:
            self._peak = max(self._peak, self._measure(self._device, self._precision))
        return flops / self._peak if flops <= self._peak else None


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held at once; on a GPU, the most that its tensors
    have."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
