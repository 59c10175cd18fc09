"""Slices as the objects of other libraries: pandas, pynapple and xarray.

Each function gives its objects by name. A behavior or an interval table keeps its own name unless
that is taken: by an entry that is always there, such as `units`, or by a behavior or table that
came before it, as in `behavior_info` and then in `intervals`. Then its kind is put before it:
`behavior.units`, `intervals.trials`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.errors import NeurobrickError


class Window(Protocol):
    """What is exported: the fields of a Slice that this module reads."""

    t0: float
    t1: float

    @property
    def session_id(self) -> str: ...

    @property
    def units(self) -> pa.Table: ...

    @property
    def spikes(self) -> Any: ...

    @property
    def behavior(self) -> Mapping[str, Any]: ...

    @property
    def behavior_info(self) -> Mapping[str, BehaviorInfo]: ...

    @property
    def intervals(self) -> Mapping[str, pa.Table]: ...

    def bin(self, width: float) -> NDArray[np.int32]: ...


def to_pandas(window: Window) -> dict[str, Any]:
    """The window as DataFrames, copies of its arrays:

    - `spikes`: a row a spike, columns `time`, in seconds, and `unit`, its row in `units`;
    - `units`: the units table, a row a unit;
    - each behavior: a row a sample, indexed by `time`, in seconds, a column for each label; what
      its values are in is `frame.attrs["unit"]`;
    - each interval table: the rows that overlap the window, `start` and `stop` in seconds.

    Ragged columns hold an array a row, which may be read-only. Times stay on the session's clock;
    names are this module's.

    Raises NeurobrickError when pandas is not installed.
    """
    pd = _library("pandas")
    spikes = window.spikes
    found = {
        "spikes": pd.DataFrame({"time": spikes.times, "unit": spikes.units}, copy=True),
        "units": window.units.to_pandas(),
    }
    for name, info in window.behavior_info.items():
        series = window.behavior[name]
        frame = pd.DataFrame(
            series.values,
            index=pd.Index(series.timestamps, name="time", copy=True),
            columns=list(info.labels),
            copy=True,
        )
        frame.attrs["unit"] = info.unit
        found[_key(name, "behavior", found)] = frame
    for name, table in window.intervals.items():
        found[_key(name, "intervals", found)] = table.to_pandas()
    return found


def to_pynapple(window: Window) -> dict[str, Any]:
    """The window for pynapple: `units`, a TsGroup keyed by rows of the units table; a TsdFrame for
    each behavior; an IntervalSet for each interval table whose rows overlap no other row's.

    Times stay seconds on the session's clock; names are this module's. An interval that ends
    where the next begins pynapple shortens by 1 µs, and warns.

    Raises NeurobrickError when pynapple is not installed.
    """
    nap = _library("pynapple")
    # An IntervalSet without duration is an empty one as well, and a warning.
    bounds = (window.t0, window.t1) if window.t0 < window.t1 else (np.empty(0), np.empty(0))
    support = nap.IntervalSet(*bounds)
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
        found[_key(name, "behavior", found)] = nap.TsdFrame(
            series.timestamps, series.values, columns=list(info.labels), time_support=support
        )
    for name, table in window.intervals.items():
        start, stop = table["start"].to_numpy(), table["stop"].to_numpy()
        if (start[1:] >= stop[:-1]).all() and (start < stop).all():
            found[_key(name, "intervals", found)] = nap.IntervalSet(start, stop)
    return found


def to_xarray(window: Window, bin_width: float) -> Any:
    """The window for xarray: a Dataset of `counts` (time, unit) in bins of `bin_width` seconds, at
    the bins' centers, and each behavior (its own time, its own columns) with its unit.

    The dimensions of a behavior called `pos` are `pos_time` and `pos_column`; names are this
    module's, and a behavior is renamed too where one of its dimensions is taken.

    Raises NeurobrickError when xarray is not installed, ValueError when `bin_width` is not
    positive.
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
    taken = {"counts", "time", "unit"}
    for name, info in window.behavior_info.items():
        series = window.behavior[name]
        key = _key(name, "behavior", taken, endings=("", "_time", "_column"))
        time, column = f"{key}_time", f"{key}_column"
        taken |= {key, time, column}
        variables[key] = xr.DataArray(
            series.values,
            dims=(time, column),
            coords={time: series.timestamps, column: list(info.labels)},
            attrs={"units": info.unit},
        )
    return xr.Dataset(variables, attrs={"session": window.session_id})


def _key(name: str, kind: str, taken: Iterable[str], endings: tuple[str, ...] = ("",)) -> str:
    """`name`, with `kind` before it until no name made of it and one of `endings` is taken."""
    while not {name + ending for ending in endings}.isdisjoint(taken):
        name = f"{kind}.{name}"
    return name


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise NeurobrickError(f"this needs {name}: pip install 'neurobrick[interop]'") from error
