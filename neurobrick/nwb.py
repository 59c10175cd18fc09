"""An NWB file → raw arrays, nothing renamed, nothing scaled.

Objects are recognized by what they hold, not by their declared type alone: a group with `data` and
`timestamps` or `starting_time` is a series, one with `colnames` a table. So files whose extensions
are not installed read like any other. Links are listed, not walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile
from neurobrick.hdf5 import (
    attribute,
    boundary,
    decoded,
    find_dataset,
    find_group,
    opened,
    text,
    texts,
)
from neurobrick.schema import Left

Array = NDArray[Any]

# Series that are signals of the nervous system or pictures: recognized, and left.
LEFT_TYPES = {
    "ElectricalSeries": "voltage traces",
    "SpikeEventSeries": "spike snippets",
    "DecompositionSeries": "spectral power",
    "ImageSeries": "images",
    "ImageMaskSeries": "images",
    "OpticalSeries": "images",
    "IndexSeries": "indexes of images",
    "OnePhotonSeries": "imaging",
    "TwoPhotonSeries": "imaging",
    "RoiResponseSeries": "fluorescence",
    "AnnotationSeries": "text annotations",
    "IntervalSeries": "markers of intervals",
    "CurrentClampSeries": "patch clamp",
    "CurrentClampStimulusSeries": "patch clamp",
    "VoltageClampSeries": "patch clamp",
    "VoltageClampStimulusSeries": "patch clamp",
    "IZeroClampSeries": "patch clamp",
}
WAVEFORM_COLUMNS = {"waveforms", "waveform_mean", "waveform_sd"}
SEARCHED = ("acquisition", "processing", "analysis", "intervals", "stimulus", "scratch")
MAX_DEPTH = 12  # nesting of groups; NWB's own layouts reach 5


@dataclass(frozen=True)
class RawColumn:
    """One column: `values`, and for ragged ones `ends`, the row boundaries in `values`."""

    values: Array | list[str]
    ends: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RawTable:
    """A dynamic table: columns of equal length, by their names in the file."""

    path: str
    n_rows: int
    columns: dict[str, RawColumn]


@dataclass(frozen=True)
class RawUnits:
    """The units table; unit k fired at `spike_times[ends[k - 1]:ends[k]]`, unsorted as found."""

    table: RawTable
    spike_times: NDArray[np.float64]
    ends: NDArray[np.int64]
    resolution: float | None


@dataclass(frozen=True)
class RawSeries:
    """A time series as declared; `read` gives its data (n,) or (n, d) unscaled."""

    path: str
    type: str
    shape: tuple[int, ...]
    unit: str
    conversion: float
    offset: float
    description: str
    comments: str
    rate: float | None
    starting_time: float | None
    _data: h5py.Dataset = field(repr=False)
    _timestamps: h5py.Dataset | None = field(repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def data(self) -> Array:
        """The values, unscaled."""
        with boundary(self.path):
            return np.asarray(self._data[()])

    def timestamps(self) -> NDArray[np.float64] | None:
        """The timestamps as they are in the file; None where it gives a rate."""
        with boundary(self.path):
            if self._timestamps is None:
                return None
            return np.asarray(self._timestamps[()], dtype=np.float64)


@dataclass(frozen=True)
class NWBFile:
    """What a file holds, by kind. Valid while the file is open."""

    attributes: dict[str, str]
    subject: dict[str, str]
    devices: tuple[str, ...]
    units: RawUnits | None
    electrodes: RawTable | None
    series: tuple[RawSeries, ...]
    tables: tuple[RawTable, ...]
    left: tuple[Left, ...]


@contextmanager
def open_nwb(path: Path) -> Iterator[NWBFile]:
    """Open an NWB file (HDF5) and take stock of it.

    Raises UnsupportedFile when it is not NWB, CorruptFile when it breaks off or contradicts
    itself.
    """
    with opened(path) as file:
        with boundary(str(path)):
            found = _Reader(file).read()
        yield found


class _Reader:
    """One walk over an open file."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.seen: set[tuple[int, int]] = set()
        self.series: list[RawSeries] = []
        self.tables: list[RawTable] = []
        self.unit_tables: list[h5py.Group] = []
        self.left: list[Left] = []

    def read(self) -> NWBFile:
        general = find_group(self.file, "general")
        for name in SEARCHED:
            if (group := find_group(self.file, name)) is not None:
                self._walk(group, name, 0)
        if (group := find_group(self.file, "units")) is not None:
            self.unit_tables.insert(0, group)
        units = self._units()
        electrodes = find_group(self.file, "general/extracellular_ephys/electrodes")
        return NWBFile(
            attributes={
                name: text(self.file[name])
                for name in ("identifier", "session_description", "session_start_time")
                if name in self.file
            }
            | texts(general, ("session_id", "lab", "institution")),
            subject=texts(
                find_group(self.file, "general/subject"),
                ("subject_id", "species", "sex", "age", "description"),
            ),
            devices=tuple(find_group(self.file, "general/devices") or ()),
            units=units,
            electrodes=self._table(electrodes, "electrodes") if electrodes is not None else None,
            series=tuple(self.series),
            tables=tuple(self.tables),
            left=tuple(self.left),
        )

    def _walk(self, group: h5py.Group, path: str, depth: int) -> None:
        for name in group:
            child_path = f"{path}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                self._leave(child_path, "a link to another file, not followed")
                continue
            if isinstance(link, h5py.SoftLink):
                # What it leads to is found where it is; a link may also lead round in a circle.
                self._leave(child_path, f"a link to {link.path}")
                continue
            child = group[name]
            if isinstance(child, h5py.Group) and self._first_visit(child):
                if depth >= MAX_DEPTH:
                    self._leave(child_path, f"nested deeper than {MAX_DEPTH} groups")
                else:
                    self._sort_in(child, child_path, depth)

    def _first_visit(self, group: h5py.Group) -> bool:
        info = h5py.h5o.get_info(group.id)
        key = (info.fileno, info.addr)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def _sort_in(self, group: h5py.Group, path: str, depth: int) -> None:
        """Decide what `group` is."""
        kind = attribute(group, "neurodata_type", "")
        if "colnames" in group.attrs:
            if "spike_times" in group:
                self.unit_tables.append(group)
            elif {"start_time", "stop_time"} <= set(group):
                self.tables.append(self._table(group, path))
            else:
                self._leave(path, f"a table without start and stop times ({kind})")
        elif "data" in group and ("timestamps" in group or "starting_time" in group):
            self._add_series(group, path, kind)
        else:
            self._walk(group, path, depth + 1)

    def _add_series(self, group: h5py.Group, path: str, kind: str) -> None:
        data, stamps = find_dataset(group, "data"), find_dataset(group, "timestamps")
        if kind in LEFT_TYPES:
            self._leave(path, LEFT_TYPES[kind])
        elif path.startswith("stimulus/"):
            self._leave(path, "a stimulus")
        elif data is None or (stamps is None and "starting_time" not in group):
            self._leave(path, "its data or timestamps are in another file, not followed")
        elif data.dtype.kind not in "iufb":
            self._leave(path, "not numeric")
        elif data.ndim not in (1, 2):
            self._leave(path, f"{data.ndim}-dimensional")
        elif 0 in data.shape:
            self._leave(path, "empty")
        else:
            self.series.append(_series(group, path, kind, data, stamps))

    def _units(self) -> RawUnits | None:
        for extra in self.unit_tables[1:]:
            self._leave(extra.name.strip("/"), "a second units table")
        if not self.unit_tables:
            return None
        group = self.unit_tables[0]
        path = group.name.strip("/")
        times = find_dataset(group, "spike_times")
        if times is None:
            return None
        ends = _ends(group, "spike_times", len(times))
        if ends is None:
            raise CorruptFile(f"{path} has spike_times without spike_times_index")
        resolution = attribute(times, "resolution", None)
        per_spike = {
            name
            for name in group
            if name != "spike_times"
            and (column_ends := _ends(group, name, None)) is not None
            and ends[-1:].any()
            and np.array_equal(column_ends, ends)
        }
        for name in sorted(per_spike):
            self._leave(f"{path}/{name}", "one value a spike")
        return RawUnits(
            table=self._table(group, path, {"spike_times", *per_spike}),
            spike_times=np.asarray(times[()], dtype=np.float64),
            ends=ends,
            resolution=float(resolution) if resolution is not None else None,
        )

    def _table(
        self, group: h5py.Group, path: str, without: set[str] | frozenset[str] = frozenset()
    ) -> RawTable:
        ids = find_dataset(group, "id")
        names = [str(name) for name in np.asarray(group.attrs["colnames"]).tolist()]
        columns: dict[str, RawColumn] = {}
        if ids is not None:
            columns["id"] = RawColumn(np.asarray(ids[()]))
        for name in names:
            if name in without:
                continue
            column = self._column(group, f"{path}/{name}", name)
            if column is not None:
                columns[name] = column
        n_rows = len(ids) if ids is not None else _rows(next(iter(columns.values()), None))
        for name, column in list(columns.items()):
            if _rows(column) != n_rows:
                self._leave(f"{path}/{name}", f"{_rows(column)} rows, the table has {n_rows}")
                del columns[name]
        return RawTable(path=path, n_rows=n_rows, columns=columns)

    def _column(self, group: h5py.Group, path: str, name: str) -> RawColumn | None:
        data = find_dataset(group, name)
        if data is None:
            self._leave(path, "no such dataset in this file")
        elif name in WAVEFORM_COLUMNS:
            self._leave(path, "waveforms")
        elif h5py.check_ref_dtype(data.dtype) or data.dtype.kind == "V":
            self._leave(path, "references to other objects")
        elif f"{name}_index_index" in group:
            self._leave(path, "doubly ragged")
        else:
            ends = _ends(group, name, len(data)) if data.ndim else None
            if h5py.check_string_dtype(data.dtype):
                return RawColumn([decoded(value) for value in data[()].reshape(-1)], ends)
            return RawColumn(np.asarray(data[()]), ends)
        return None

    def _leave(self, path: str, reason: str) -> None:
        self.left.append(Left(path=path, reason=reason))


def _series(
    group: h5py.Group, path: str, kind: str, data: h5py.Dataset, stamps: h5py.Dataset | None
) -> RawSeries:
    rate = starting_time = None
    if stamps is None:
        start = group["starting_time"]
        starting_time = float(np.asarray(start[()]).reshape(-1)[0])
        rate = float(start.attrs["rate"])
    return RawSeries(
        path=path,
        type=kind,
        shape=data.shape,
        unit=attribute(data, "unit", ""),
        conversion=float(attribute(data, "conversion", 1.0)),
        offset=float(attribute(data, "offset", 0.0)),
        description=attribute(group, "description", ""),
        comments=attribute(group, "comments", ""),
        rate=rate,
        starting_time=starting_time,
        _data=data,
        _timestamps=stamps,
    )


def _ends(group: h5py.Group, name: str, length: int | None) -> NDArray[np.int64] | None:
    """Row boundaries of a ragged column (n_rows,), checked; None if it has none."""
    index = find_dataset(group, f"{name}_index")
    if index is None or name.endswith("_index"):
        return None
    ends = np.asarray(index[()]).astype(np.int64)
    steps = np.diff(ends, prepend=0)
    if np.any(steps < 0) or (length is not None and len(ends) and ends[-1] > length):
        raise CorruptFile(
            f"{group.name}/{name}_index does not fit its {length} values: the file contradicts"
            " itself"
        )
    return ends


def _rows(column: RawColumn | None) -> int:
    if column is None:
        return 0
    return len(column.ends if column.ends is not None else column.values)
