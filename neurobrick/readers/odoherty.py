"""The files of Zenodo record 3854034 → Recording: self-paced reaching, O'Doherty & Sabes 2017.

Each is a MATLAB 7.3 file, which is HDF5 with every array transposed: `t` (1, k) in s, `cursor_pos`
and `target_pos` (2, k) in mm, `finger_pos` (3 or 6, k), and two cell arrays, which hold references
to arrays: `chan_names` (1, n) and `spikes` (u, n). The first row of `spikes` has the threshold
crossings that were not sorted into a unit. An empty cell leads to an array that holds its
dimensions and is marked `MATLAB_empty`. The record's description says what the variables mean, and
in which units they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from math import prod
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, UnsupportedFile
from neurobrick.readers.hdf5 import HDF5Array, HDF5Group
from neurobrick.readers.raw import RawColumn, RawSeries, RawTable, RawUnits, Recording
from neurobrick.readers.tree import MAX_BYTES, Array, Group
from neurobrick.schema import Left

MARKS = frozenset({"spikes", "t", "cursor_pos", "chan_names"})
WAVEFORMS = "wf"
MAX_CELLS = 100_000  # the record's files have at most 192 channels and 5 units on each
STEM = re.compile(r"(?P<subject>[a-z]+)_(?P<day>\d{8})_\d+")


@dataclass(frozen=True)
class _Variable:
    """Some rows of an array, as a series of their own."""

    array: str  # name of the array in the file
    name: str  # of the series
    columns: tuple[str, ...]  # a name for each row
    unit: str
    description: str
    first: int = 0  # row

    @property
    def last(self) -> int:
        """The row after its last one."""
        return self.first + len(self.columns)


SERIES = (
    _Variable("cursor_pos", "cursor_pos", ("x", "y"), "mm", "position of the cursor"),
    _Variable(
        "finger_pos",
        "finger_pos",
        ("z", "-x", "-y"),
        "cm",
        "position of the reaching hand's fingertip, from the hand tracker; but for an offset,"
        " cursor_pos in mm is -10 times the columns -x and -y in cm",
    ),
    _Variable(
        "finger_pos",
        "finger_orientation",
        ("azimuth", "elevation", "roll"),
        "",
        "orientation of the hand tracker's sensor, columns 4 to 6 of finger_pos; its unit is not"
        " known",
        first=3,
    ),
    _Variable("target_pos", "target_pos", ("x", "y"), "mm", "position of the target"),
)
KNOWN = MARKS | {one.array for one in SERIES}


def is_odoherty(root: Group) -> TypeGuard[HDF5Group]:
    """Whether the file has the variables that the record's files have."""
    return isinstance(root, HDF5Group) and all(name in root for name in MARKS)


def read_odoherty(
    root: HDF5Group, name: str, prefetch: Callable[[Iterable[Array]], None] = lambda arrays: None
) -> Recording:
    """List what an open file called `name`, such as indy_20160407_02.mat, holds.

    `prefetch` fetches the bytes of arrays in few requests, for a file that is elsewhere.

    The units table has a row for each cell that holds spikes: `channel` as the file names it, its
    `area`, `unit` (0 for the crossings that were not sorted) and `sorted`. Waveforms are not read.

    Raises UnsupportedFile when a variable is absent, CorruptFile when a variable has another shape
    than the record gives it, or a cell leads to no array.
    """
    arrays = {variable: _array(root, variable) for variable in sorted(KNOWN)}
    clock = arrays["t"]
    n = _length(clock, "t")
    series = [_series(one, arrays[one.array], clock, n) for one in SERIES]
    left = [
        Left(path=variable, reason="waveforms" if variable == WAVEFORMS else "not in the record")
        for variable in root.names()
        if variable not in KNOWN and not variable.startswith("#")
    ]
    attributes, subject = _from_name(name)
    return Recording(
        units=_units(arrays["spikes"], _names(arrays["chan_names"]), prefetch),
        series=tuple(one for one in series if one is not None),
        attributes=attributes,
        subject=subject,
        left=tuple(left),
        prefetch=lambda series: prefetch([array for one in series for array in one.arrays]),
    )


def _array(root: HDF5Group, name: str) -> HDF5Array:
    array = root.array(name)
    if array is None:
        raise UnsupportedFile(
            f"it has no array {name}, as every file of Zenodo record 3854034 has: is it one?"
        )
    return array


def _wrong(array: HDF5Array, expected: str, name: str = "") -> CorruptFile:
    actual = f"{array.kind}, {' × '.join(map(str, array.shape)) or 'a scalar'}"
    return CorruptFile(
        f"{name or array.path} should be {expected}, and is {actual}: fetch the file again"
    )


def _length(array: HDF5Array, name: str) -> int:
    """How many numbers a MATLAB vector holds. It has two axes; it is checked and not read."""
    if array.kind != "number" or len(array.shape) != 2 or min(array.shape) != 1:
        raise _wrong(array, "numbers, 1 × k", name)
    array.check()
    return prod(array.shape)


def _vector(array: HDF5Array) -> NDArray[np.float64]:
    return array.read().reshape(-1).astype(np.float64)


def _series(variable: _Variable, array: HDF5Array, clock: HDF5Array, n: int) -> RawSeries | None:
    """The series at some rows of `array`; None where the file does not have those rows."""
    heights = {3, 6} if variable.array == "finger_pos" else {2}
    if array.kind != "number" or array.shape not in {(height, n) for height in heights}:
        shapes = " or ".join(f"{height} × {n}" for height in sorted(heights))
        raise _wrong(array, f"numbers, {shapes} (t has {n} samples)")
    if variable.last > array.shape[0]:
        return None

    def data() -> NDArray[Any]:
        return array.read()[variable.first : variable.last].T

    return RawSeries(
        path=variable.name,
        type=str(array.attribute("MATLAB_class", "")),
        shape=(n, len(variable.columns)),
        unit=variable.unit,
        data=data,
        timestamps=lambda: _vector(clock),
        description=variable.description,
        comments=f"columns=[{','.join(variable.columns)}]",
        arrays=(array, clock),
    )


def _cells(array: HDF5Array) -> list[HDF5Array]:
    """The arrays that the cells of a MATLAB cell array lead to, in C order."""
    if array.kind != "reference" or len(array.shape) != 2 or prod(array.shape) > MAX_CELLS:
        raise _wrong(array, f"a cell array of at most {MAX_CELLS:,} cells")
    return array.cells()


def _is_empty(cell: HDF5Array) -> bool:
    return bool(cell.attribute("MATLAB_empty", 0)) or 0 in cell.shape


def _names(array: HDF5Array) -> list[str]:
    """The names of the channels, such as M1 001."""
    return ["" if _is_empty(cell) else _text(cell) for cell in _cells(array)]


def _text(cell: HDF5Array) -> str:
    """A MATLAB char array, which holds UTF-16."""
    if cell.kind != "number" or cell.dtype != np.uint16:
        raise _wrong(cell, "text in 16 bits a character")
    return cell.read().reshape(-1).astype("<u2").tobytes().decode("utf-16-le", errors="replace")


def _units(
    array: HDF5Array, names: list[str], prefetch: Callable[[Iterable[Array]], None]
) -> RawUnits:
    cells = _cells(array)
    if array.shape[1] != len(names):
        raise _wrong(array, f"u × {len(names)}, as chan_names is")
    rows = [
        (channel, unit, cell)
        for channel in range(len(names))
        for unit in range(array.shape[0])
        if not _is_empty(cell := cells[unit * len(names) + channel])
    ]
    counts = [_length(cell, f"spikes of {names[k]}, unit {unit}") for k, unit, cell in rows]
    claimed = 8 * sum(counts)
    if claimed > MAX_BYTES:  # many cells can lead to one array
        raise CorruptFile(
            f"the cells of spikes claim {claimed:,} bytes: not read, so that they cannot fill the"
            " memory"
        )
    numbers = np.array([unit for _, unit, _ in rows], dtype=np.int64)
    channels = [names[k] for k, _, _ in rows]
    columns = {
        "channel": RawColumn(channels),
        "area": RawColumn([channel.partition(" ")[0] for channel in channels]),
        "unit": RawColumn(numbers),
        "sorted": RawColumn(numbers > 0),
    }

    def spike_times() -> NDArray[np.float64]:
        prefetch([cell for _, _, cell in rows])
        return np.concatenate([np.zeros(0), *(_vector(cell) for _, _, cell in rows)])

    return RawUnits(
        table=RawTable("spikes", len(rows), columns),
        ends=np.cumsum(counts, dtype=np.int64),
        spike_times=spike_times,
    )


def _from_name(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Attributes and subject from the name of a file: the files do not hold them."""
    subject = {"species": "Macaca mulatta"}
    stem = name.rpartition("/")[2].removesuffix(".mat")
    match = STEM.fullmatch(stem)
    if match is None:
        return {}, subject
    attributes = {"session_id": stem}
    with suppress(ValueError):  # eight digits that are no day
        attributes["session_start_time"] = date.fromisoformat(match["day"]).isoformat()
    return attributes, subject | {"subject_id": match["subject"]}
