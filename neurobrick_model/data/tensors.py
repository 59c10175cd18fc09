"""Slices and batches of slices as torch tensors, for models other than this package's own."""

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
    """One behavior: `timestamps` float64 (n,) in seconds on the session's clock; `values` (n, d)
    in SI, of the float type of the store. Window k's samples are rows
    `offsets[k]:offsets[k + 1]`, int64 (windows + 1,).
    """

    timestamps: Tensor
    values: Tensor
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class Tensors:
    """`spike_times` float64 (n,) in seconds on the session's clock, sorted within a window;
    `spike_units` int32 (n,), rows of the session's units table. Window k's spikes are rows
    `spike_offsets[k]:spike_offsets[k + 1]`, int64 (windows + 1,).

    Times are float64 because float32, an hour into a session, resolves a quarter of a millisecond:
    subtract the window's start before they are cast.
    """

    spike_times: Tensor
    spike_units: Tensor
    spike_offsets: Tensor
    behavior: Mapping[str, SampleTensors]


def tensors(
    windows: Slice | SliceBatch,
    behavior: Iterable[str] = (),
    *,
    device: torch.device | str | None = None,
) -> Tensors:
    """The spikes of a slice, which is a batch of one window, or of a batch of slices, and the
    behaviors called `behavior`, on `device` (the CPU if None).

    A slice is copied, for it is a view of what later slices read too. The spikes of a batch are
    its own: on the CPU, the tensors are its arrays, and what is written to one is in the other.

    Raises KeyError when a session lacks one of the behaviors.
    """
    spikes: tuple[Array, ...]
    series: dict[str, tuple[Array, ...]]
    if isinstance(windows, SliceBatch):
        spikes = (windows.spike_times, windows.spike_units, windows.spike_offsets)
        series = {name: windows.behavior(name) for name in behavior}
    else:
        found = windows.spikes
        spikes = (found.times, found.units, np.array([0, len(found)]))
        series = {}
        for name in behavior:
            samples = windows.behavior[name]
            series[name] = (samples.timestamps, samples.values, np.array([0, len(samples)]))

    def tensor(array: Array) -> Tensor:
        # What is read-only is shared, and torch has no read-only tensors.
        owned = array if array.flags.writeable else array.copy()
        return torch.from_numpy(owned).to(device)

    times, units, offsets = (tensor(array) for array in spikes)
    return Tensors(
        spike_times=times,
        spike_units=units,
        spike_offsets=offsets,
        behavior={
            name: SampleTensors(*(tensor(array) for array in arrays))
            for name, arrays in series.items()
        },
    )
