"""Slices as the objects of other libraries: pynapple and xarray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobrick.errors import NeurobrickError

if TYPE_CHECKING:
    from neurobrick.dataset import Slice


def to_pynapple(window: Slice) -> dict[str, Any]:
    """The window for pynapple: `units`, a TsGroup keyed by rows of the units table; a TsdFrame for
    each behavior; an IntervalSet for each interval table whose rows overlap no other row's.

    Times stay seconds on the session's clock.

    Raises NeurobrickError when pynapple is not installed.
    """
    nap = _library("pynapple")
    support = nap.IntervalSet(window.t0, window.t1)
    spikes = window.spikes
    found: dict[str, Any] = {
        "units": nap.TsGroup(
            {
                unit: nap.Ts(spikes.times[spikes.units == unit], time_support=support)
                for unit in range(window.units.num_rows)
            },
            time_support=support,
        )
    }
    for name, info in window.behavior_info.items():
        series = window.behavior[name]
        found[name] = nap.TsdFrame(
            series.timestamps, series.values, columns=list(info.labels), time_support=support
        )
    for name, table in window.intervals.items():
        start, stop = table["start"].to_numpy(), table["stop"].to_numpy()
        if (start[1:] >= stop[:-1]).all() and (start < stop).all():
            found[name] = nap.IntervalSet(start, stop)
    return found


def to_xarray(window: Slice, bin_width: float) -> Any:
    """The window for xarray: a Dataset of `counts` (time, unit) in bins of `bin_width` seconds, at
    the bins' centers, and each behavior (its own time, its own columns) with its unit.

    Raises NeurobrickError when xarray is not installed.
    """
    xr = _library("xarray")
    counts = window.bin(bin_width)
    centers = window.t0 + bin_width * (0.5 + np.arange(len(counts)))
    variables: dict[str, Any] = {
        "counts": xr.DataArray(
            counts,
            dims=("time", "unit"),
            coords={"time": centers, "unit": np.arange(counts.shape[1])},
        )
    }
    for name, info in window.behavior_info.items():
        series = window.behavior[name]
        variables[name] = xr.DataArray(
            series.values,
            dims=(f"{name}_time", f"{name}_column"),
            coords={f"{name}_time": series.timestamps, f"{name}_column": list(info.labels)},
            attrs={"units": info.unit},
        )
    return xr.Dataset(variables, attrs={"session": window.session_id})


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise NeurobrickError(f"this needs {name}: pip install 'neurobrick[interop]'") from error
