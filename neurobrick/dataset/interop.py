"""Slices as the objects of other libraries: pandas, pynapple and xarray.

Each function returns its objects by name. A behavior or an interval table keeps its own name unless
that name is taken: by an entry that is always there, such as `units`, or by an earlier behavior or
table, in the order of `behavior_info` and then of `intervals`. If it is taken, the kind is put in
front: `behavior.units`, `intervals.trials`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.dataset.behavior_info import BehaviorInfo
from neurobrick.errors import NeurobrickError


class Window(Protocol):
    """The fields of a Slice that are exported."""

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

    - `spikes`: a row a spike; columns `time`, in seconds, and `unit`, its row in `units`;
    - `units`: the units table, a row a unit;
    - each behavior: a row a sample, indexed by `time`, in seconds; a column for each label. The
      unit of the values is `frame.attrs["unit"]`;
    - each interval table: the rows that overlap the window, `start` and `stop` in seconds.

    Ragged columns hold an array in each row, which may be read-only. Times stay on the session's
    clock. The names are described in `neurobrick.dataset.interop`.

    Raises NeurobrickError when pandas is not installed.
    """
    pd = _library("pandas")
    spikes = window.spikes
    frames = {
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
        frames[_key(name, "behavior", frames)] = frame
    for name, table in window.intervals.items():
        frames[_key(name, "intervals", frames)] = table.to_pandas()
    return frames


def to_pynapple(window: Window) -> dict[str, Any]:
    """The window as pynapple objects:

    - `units`: a TsGroup keyed by rows of the units table, with the table's columns as metadata; a
      column `rate` is called `rate_in_file`, as `rate` is pynapple's own;
    - each behavior: a TsdFrame, with the metadata `unit` for each of its columns;
    - each interval table: an IntervalSet sorted by start, with the table's other columns as
      metadata.

    Times stay seconds on the session's clock. The names are
    described in `neurobrick.dataset.interop`.

    An IntervalSet cannot hold intervals that overlap each other, or that have no duration. A table
    whose rows overlap is left out, and rows without duration are left out, each with a warning;
    `to_pandas` holds them. pynapple shortens an interval that ends where the next begins by 1 µs,
    with a warning of its own.

    Raises NeurobrickError when pynapple is not installed.
    """
    nap = _library("pynapple")
    # An IntervalSet without duration is an empty one as well, and a warning.
    bounds = (window.t0, window.t1) if window.t0 < window.t1 else (np.empty(0), np.empty(0))
    support = nap.IntervalSet(*bounds)
    spikes = window.spikes
    trains = {
        unit: nap.Ts(spikes.times[spikes.units == unit], time_support=support)
        for unit in range(window.units.num_rows)
    }
    objects: dict[str, Any] = {"units": nap.TsGroup(trains, time_support=support)}
    units = window.units.to_pandas().rename(columns={"rate": "rate_in_file"})
    _set_metadata(objects["units"], units)
    for name, info in window.behavior_info.items():
        series, labels = window.behavior[name], list(info.labels)
        frame = nap.TsdFrame(series.timestamps, series.values, columns=labels, time_support=support)
        _set_metadata(frame, {_key("unit", "behavior", labels): [info.unit] * len(labels)})
        objects[_key(name, "behavior", objects)] = frame
    for name, table in window.intervals.items():
        intervals = _interval_set(nap, name, table)
        if intervals is not None:
            objects[_key(name, "intervals", objects)] = intervals
    return objects


def to_xarray(window: Window, bin_width: float) -> Any:
    """The window as one xarray Dataset:

    - `counts` (time, unit): spikes in bins of `bin_width` seconds, at the bins' centers;
    - each behavior: a variable with its own time and columns, and its unit in `attrs["units"]`. A
      behavior `pos` has the dimensions `pos_time` and `pos_column`;
    - coordinates for the columns of the units table, along `unit`;
    - coordinates for the columns of each interval table: `trials.start` along `trials_row`.

    Columns of lists are left out, as xarray has no ragged arrays; `to_pandas` holds them. Times
    stay seconds on the session's clock. The names are described in `neurobrick.dataset.interop`; a
    behavior is also renamed where one of its dimensions is taken.

    Raises NeurobrickError when xarray is not installed, ValueError when `bin_width` is not positive
    and finite.
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
    coordinates = _coordinates(window, taken)
    return xr.Dataset(variables, coordinates, attrs={"session": window.session_id})


def _coordinates(window: Window, taken: set[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """The columns of the units and of the interval tables for xarray: dimension and values."""
    coordinates: dict[str, tuple[str, NDArray[Any]]] = {}
    for name, values in _flat_columns(window.units):
        key = _key(name, "units", taken)
        taken.add(key)
        coordinates[key] = ("unit", values)
    for name, table in window.intervals.items():
        columns = dict(_flat_columns(table))
        endings = ("_row", *(f".{column}" for column in columns))
        key = _key(name, "intervals", taken, endings)
        taken |= {key + ending for ending in endings}
        coordinates |= {f"{key}.{column}": (f"{key}_row", v) for column, v in columns.items()}
    return coordinates


def _interval_set(nap: Any, name: str, table: pa.Table) -> Any | None:
    """An interval table as an IntervalSet; None, with a warning, if its rows overlap."""
    frame = table.to_pandas().sort_values(["start", "stop"], kind="stable")
    lasting = frame[frame["start"] < frame["stop"]].reset_index(drop=True)
    start, stop = lasting["start"].to_numpy(), lasting["stop"].to_numpy()
    if (start[1:] < stop[:-1]).any():
        _warn(f"{name} is left out: its rows overlap, which an IntervalSet cannot hold")
        return None
    if len(lasting) < len(frame):
        count = len(frame) - len(lasting)
        _warn(f"{count} rows of {name} are left out: an IntervalSet holds no row without duration")
    intervals = nap.IntervalSet(start, stop)
    if len(intervals) == len(lasting):  # pynapple drops what is shorter than its nanosecond
        _set_metadata(intervals, lasting.drop(columns=["start", "stop"]))
    else:
        _warn(f"the columns of {name} are left out: some of its rows are too short for pynapple")
    return intervals


def _set_metadata(target: Any, columns: Any) -> None:
    """Give a pynapple object its metadata: `columns` by name."""
    with warnings.catch_warnings():
        # A column such as `SNR max` or `start` is held, though it is no attribute.
        warnings.filterwarnings("ignore", "Metadata name", UserWarning)
        target.set_info({name: columns[name] for name in columns})


def _flat_columns(table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
    """The columns of a table (rows,) by name, without those of lists."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_nested(column.type):
            yield name, column.to_pandas().to_numpy()


def _key(name: str, kind: str, taken: Iterable[str], endings: tuple[str, ...] = ("",)) -> str:
    """`name`, with `kind` in front until no `name + ending` is taken."""
    while not {name + ending for ending in endings}.isdisjoint(taken):
        name = f"{kind}.{name}"
    return name


def _warn(message: str) -> None:
    # The caller of to_pynapple, whether of the method of a Slice or of the function here.
    warnings.warn(f"to_pynapple: {message}; to_pandas holds it", UserWarning, stacklevel=5)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise NeurobrickError(f"this needs {name}: pip install 'neurobrick[interop]'") from error
