"""Slices and batches of slices as torch tensors, for models of your own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Slice, SliceBatch

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class SampleTensors:
    """The n samples of one behavior; window k has rows `offsets[k]:offsets[k + 1]`."""

    timestamps: Tensor  # (n,) float64, s on the session's clock
    values: Tensor  # (n, d) SI, of the store's float type
    offsets: Tensor  # (windows + 1,) int64


@dataclass(frozen=True, eq=False)
class Tensors:
    """The n spikes of some windows; window k has rows `spike_offsets[k]:spike_offsets[k + 1]`.

    Times are float64: an hour into a session, float32 resolves only a quarter of a millisecond.
    Subtract the window's start before you cast them.
    """

    spike_times: Tensor  # (n,) float64, s on the session's clock, sorted within a window
    spike_units: Tensor  # (n,) int32, rows of the session's units table
    spike_offsets: Tensor  # (windows + 1,) int64
    behavior: Mapping[str, SampleTensors]  # by name


def tensors(
    windows: Slice | SliceBatch,
    behavior: Iterable[str] = (),
    *,
    device: torch.device | str | None = None,
) -> Tensors:
    """The spikes and the behaviors called `behavior` of a slice, or of a batch of slices.

    They are on `device`, the CPU if None. A slice is a batch of one window. The arrays of a slice
    are shared with other slices, so they are copied. Those of a batch are its own: on the CPU, its
    tensors share their memory.

    Raises KeyError when a session lacks one of the behaviors.
    """
    spikes: tuple[Array, ...]
    series: dict[str, tuple[Array, ...]]
    if isinstance(windows, SliceBatch):
        spikes = (windows.spike_times, windows.spike_units, windows.spike_offsets)
        series = {name: windows.behavior(name) for name in behavior}
    else:
        times, units = windows.spikes.times, windows.spikes.units
        spikes = (times, units, np.array([0, len(times)]))
        series = {}
        for name in behavior:
            samples = windows.behavior[name]
            series[name] = (samples.timestamps, samples.values, np.array([0, len(samples)]))

    def tensor(array: Array) -> Tensor:
        # A read-only array is shared, and torch has no read-only tensors.
        writeable = array if array.flags.writeable else array.copy()
        return torch.from_numpy(writeable).to(device)

    spike_times, spike_units, spike_offsets = (tensor(array) for array in spikes)
    return Tensors(
        spike_times=spike_times,
        spike_units=spike_units,
        spike_offsets=spike_offsets,
        behavior={
            name: SampleTensors(*(tensor(array) for array in arrays))
            for name, arrays in series.items()
        },
    )
