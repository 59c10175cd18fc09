"""An NWB file → Recording: what it holds, by kind; nothing renamed, nothing scaled.

Objects are recognized by what they hold, not by their declared type alone: a group with `data` and
`timestamps` or `starting_time` is a series, one with `spike_times` a units table, one with
`start_time` and `stop_time` an interval table. So files whose extensions are not installed read
like any other. Links are listed, not walked: what they lead to is found where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, HarmonizeError
from neurobrick.readers.dynamic_table import (
    column_arrays,
    column_names,
    read_table,
    row_ends,
    stack,
)
from neurobrick.readers.raw import RawSeries, RawTable, RawUnits, Recording
from neurobrick.readers.tree import Array, Group, Tree, find, too_long
from neurobrick.schema import Left

# Series that are signals of the nervous system or pictures: recognized, and left. Extensions
# derive types of their own, which are known by what every series of that kind has.
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
LEFT_MARKS = {
    "electrodes": "voltage traces",
    "rois": "fluorescence",
    "imaging_plane": "imaging",
    "external_file": "images",
    "bands": "spectral power",
    "electrode": "patch clamp",
}
# Arrays that tell what the group is in which they are.
MARKS = {"spike_times", "start_time", "stop_time", "data", "timestamps", "external_file"}
WAVEFORMS = ("waveforms", "waveform_mean", "waveform_sd")
SEARCHED = ("acquisition", "processing", "analysis", "intervals", "stimulus", "scratch")
MAX_DEPTH = 12  # nesting of groups; NWB's own layouts reach 5
MAX_GROUPS = 50_000  # some six seconds of looking
MAX_COLUMNS = 4096  # of one series


def is_nwb(root: Group) -> bool:
    """Whether the file says that it is NWB."""
    return bool(root.attribute("nwb_version", "")) or "session_description" in root


def read_nwb(tree: Tree, units: Sequence[str] = (), keep: Collection[str] = ()) -> Recording:
    """Take stock of an open NWB file, and read its units and its tables.

    `units` are the paths of the units tables, where discovery is not to choose; `keep` names
    columns of them that are left otherwise: waveforms, one value a spike.

    Raises CorruptFile when the file contradicts itself.
    """
    return _Reader(tree, keep).read(units)


class _Reader:
    """One walk over an open file."""

    def __init__(self, tree: Tree, keep: Collection[str]) -> None:
        self.tree = tree
        self.keep = keep
        self.seen: set[Hashable] = set()
        self.series: list[RawSeries] = []
        self.tables: list[tuple[Group, str]] = []
        self.unit_tables: dict[str, Group] = {}
        self.left: list[Left] = []

    def read(self, wanted_units: Sequence[str]) -> Recording:
        root = self.tree.root
        if (group := root.group("units")) is not None and "spike_times" in group:
            self.unit_tables["units"] = group
        for name in SEARCHED:
            if (group := root.group(name)) is not None:
                self._walk(group, name, 0)
        doubt, chosen = None, []
        try:
            chosen = _chosen(list(self.unit_tables), wanted_units)
        except HarmonizeError as error:
            doubt = str(error)  # the rest of the file can be told all the same
        if not self.unit_tables and (target := root.link("units")) is not None:
            raise CorruptFile(f"units is {target}: its spikes are not in this file")
        for path in self.unit_tables:
            if path not in chosen:
                self._leave(path, "another units table; name it in the spec to have it instead")
        general = root.group("general")
        electrodes = find(root, "general/extracellular_ephys/electrodes")
        small = [array for group, _ in self.tables for array in _all_columns(group)]
        if electrodes is not None:
            small += _all_columns(electrodes)
        self.tree.prefetch(small)
        about = ("session_id", "lab", "institution")
        return Recording(
            attributes=_texts(root, ("identifier", "session_description", "session_start_time"))
            | (_texts(general, about) if general is not None else {}),
            subject=_subject(general),
            devices=_devices(general),
            units=self._units(chosen),
            electrodes=self._table(electrodes, "electrodes") if electrodes is not None else None,
            series=tuple(self.series),
            tables=tuple(self._table(group, path) for group, path in self.tables),
            left=tuple(self.left),
            doubt=doubt,
            prefetch=self._prefetch,
        )

    def _prefetch(self, series: Iterable[RawSeries]) -> None:
        self.tree.prefetch([array for one in series for array in one.arrays])

    def _walk(self, group: Group, path: str, depth: int) -> None:
        for name in group.names():
            child_path = f"{path}/{name}"
            if too_long(name):
                self._leave(f"{path}/{name[:40]}…", f"its name has {len(name):,} letters")
                continue
            if (target := group.link(name)) is not None:
                self._leave(child_path, target)
                continue
            child = group.group(name)
            if child is None or child.identity in self.seen:
                continue
            self.seen.add(child.identity)
            if len(self.seen) > MAX_GROUPS:
                raise CorruptFile(f"it has more than {MAX_GROUPS:,} groups: not searched further")
            if depth >= MAX_DEPTH:
                self._leave(child_path, f"nested deeper than {MAX_DEPTH} groups")
            else:
                self._sort_in(child, child_path, depth)

    def _sort_in(self, group: Group, path: str, depth: int) -> None:
        """Decide what `group` is."""
        # A module may hold a group that is called timestamps, or data.
        names = {name for name in group.names() if name not in MARKS or group.group(name) is None}
        kind = str(group.attribute("neurodata_type", ""))
        if "spike_times" in names:
            self.unit_tables[path] = group
        elif {"start_time", "stop_time"} <= names:
            self.tables.append((group, path))
        elif group.attributes("colnames"):
            self._leave(path, f"a table without start and stop times ({kind})")
        elif "data" in names or "external_file" in names:
            self._add_series(group, path, kind, names)
        elif "timestamps" in names:
            self._leave(path, "times of events, without values")
        else:
            self._walk(group, path, depth + 1)

    def _add_series(self, group: Group, path: str, kind: str, names: set[str]) -> None:
        mark = next((why for name, why in LEFT_MARKS.items() if name in names), None)
        data, stamps = group.array("data"), group.array("timestamps")
        reason = LEFT_TYPES.get(kind) or mark
        if reason is not None:
            self._leave(path, reason)
        elif path.startswith("stimulus/"):
            self._leave(path, "a stimulus")
        elif data is None or ("timestamps" in names and stamps is None):
            self._leave(path, "its data or timestamps are in another file, not followed")
        elif not names & {"timestamps", "starting_time"}:
            self._leave(path, "data without times")
        elif stamps is not None and stamps.kind != "number":
            self._leave(path, "its timestamps are not numeric")
        elif (fault := _fault(data)) is not None:
            self._leave(path, fault)
        else:
            self.series.append(_series(group, path, kind, data, stamps))

    def _units(self, paths: Sequence[str]) -> RawUnits | None:
        """The units tables at `paths`, one below the other."""
        tables = [self._units_table(self.unit_tables[path], path) for path in paths]
        return stack(tables) if tables else None

    def _units_table(self, group: Group, path: str) -> RawUnits:
        times = group.array("spike_times")
        if times is None:
            raise CorruptFile(
                f"{path}/spike_times is {group.link('spike_times') or 'no array'}: its spikes are"
                " not in this file"
            )
        # MATLAB has no vectors, but times side by side belong to nobody in particular.
        n_spikes = max(times.shape, default=0)
        if times.kind != "number" or not times.shape or int(np.prod(times.shape)) != n_spikes:
            raise CorruptFile(f"{path}/spike_times holds no times: {times.kind}, {times.shape}")
        ends = row_ends(group, "spike_times", n_spikes)
        if ends is None:
            raise CorruptFile(f"{path} has spike_times without spike_times_index")
        resolution = times.attribute("resolution", None)
        skipped = self._left_columns(group, path, ends)
        kept = [name for name in column_names(group) if name not in skipped]
        self.tree.prefetch(column_arrays(group, kept))
        table = read_table(group, path, self._leave, skipped)
        if table.columns and table.n_rows != len(ends):
            raise CorruptFile(
                f"{path} has {table.n_rows} units and spike times of {len(ends)}: the file"
                " contradicts itself"
            )
        return RawUnits(
            table=RawTable(path, len(ends), table.columns),
            ends=ends,
            spike_times=lambda: self._spike_times(times),
            resolution=float(resolution) if isinstance(resolution, int | float) else None,
            time_unit=str(times.attribute("unit", "")),
        )

    def _spike_times(self, times: Array) -> NDArray[np.float64]:
        self.tree.prefetch([times])
        return np.asarray(times.read().reshape(-1), dtype=np.float64)

    def _left_columns(self, group: Group, path: str, ends: np.ndarray) -> set[str]:
        """Columns of a units table that are not read: they outweigh the spikes."""
        left = {"spike_times"}
        for name in column_names(group):
            index = group.array(f"{name}_index")
            if name in left or name in self.keep:
                continue
            if name in WAVEFORMS:
                self._leave(f"{path}/{name}", "waveforms")
            elif (
                index is not None
                and index.kind == "number"
                and index.shape == ends.shape
                and "_index_index" not in name
                and ends[-1:].any()
                and np.array_equal(index.read(), ends)
            ):
                self._leave(f"{path}/{name}", "one value a spike")
            else:
                continue
            left.add(name)
        return left

    def _table(self, group: Group, path: str) -> RawTable:
        return read_table(group, path, self._leave)

    def _leave(self, path: str, reason: str) -> None:
        self.left.append(Left(path=path, reason=reason))


def _chosen(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Paths of the units tables that are read: those that are wanted, else `units`, else the only
    one there is, else the only one that is called units.

    Raises HarmonizeError when nothing of that decides it.
    """
    missing = [path for path in wanted if path not in found]
    if missing:
        there = ", ".join(found) or "none"
        raise HarmonizeError(f"the spec names the units table {missing[0]}; the file has: {there}")
    if wanted or "units" in found or len(found) <= 1:
        return list(wanted) or (["units"] if "units" in found else list(found))
    named = [path for path in found if path.endswith("/units")]
    if len(named) == 1:
        return named
    raise HarmonizeError(
        f"it has several units tables ({', '.join(found)}): name one, or those that are of"
        " different probes, as units.tables in the spec"
    )


def _fault(data: Array) -> str | None:
    """Why `data` cannot be a behavior."""
    if data.kind != "number":
        return "not numeric"
    if len(data.shape) not in (1, 2, 3):
        return f"{len(data.shape)}-dimensional"
    if 0 in data.shape:
        return "empty"
    if prod(data.shape[1:]) > MAX_COLUMNS:
        return f"{prod(data.shape[1:]):,} values a sample"
    return None


def _series(group: Group, path: str, kind: str, data: Array, stamps: Array | None) -> RawSeries:
    rate = starting_time = None
    start = group.array("starting_time") if stamps is None else None
    clock = start if stamps is None else stamps
    if stamps is None:
        value = start.read().reshape(-1) if start is not None else np.zeros(0)
        rate = _number(start.attribute("rate", np.nan), np.nan) if start is not None else np.nan
        starting_time = _number(value[0].item(), np.nan) if len(value) else 0.0
    return RawSeries(
        path=path,
        type=kind,
        shape=data.shape,
        unit=str(data.attribute("unit", "")),
        conversion=_number(data.attribute("conversion", 1.0), np.nan),
        offset=_number(data.attribute("offset", 0.0), np.nan),
        description=str(group.attribute("description", "")),
        comments=str(group.attribute("comments", "")),
        rate=rate,
        starting_time=starting_time,
        time_unit="" if clock is None else str(clock.attribute("unit", "")),
        data=data.read,
        timestamps=None if stamps is None else lambda: np.asarray(stamps.read(), dtype=np.float64),
        arrays=(data,) if stamps is None else (data, stamps),
    )


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise


def _all_columns(group: Group) -> list[Array]:
    return column_arrays(group, ["id", *column_names(group)])


def _texts(group: Group, names: Iterable[str]) -> dict[str, str]:
    found = {name: group.array(name) for name in names}
    return {
        name: text[0]
        for name, array in found.items()
        if array is not None and (text := array.texts())
    }


def _subject(general: Group | None) -> dict[str, str]:
    group = general.group("subject") if general is not None else None
    names = ("subject_id", "species", "sex", "age", "description")
    return _texts(group, names) if group is not None else {}


def _devices(general: Group | None) -> tuple[str, ...]:
    group = general.group("devices") if general is not None else None
    return tuple(group.names()) if group is not None else ()
