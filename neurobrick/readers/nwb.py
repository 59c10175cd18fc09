"""An NWB file → Recording: what it holds, by kind; nothing renamed, nothing scaled.

Objects are recognized by what they hold, not by their declared type alone: a group with `data` and
`timestamps` or `starting_time` is a series, one with `spike_times` a units table, one with
`start_time` and `stop_time` an interval table. So files whose extensions are not installed read
like any other. Links are listed, not walked: the object that a link leads to is read at its own
path. Every object that is not read is left with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from neurobrick.errors import CorruptFile, HarmonizeError, listed
from neurobrick.readers.dynamic_table import (
    column_arrays,
    column_names,
    read_table,
    row_ends,
    stack,
)
from neurobrick.readers.nwb_series import read_series, reason_to_leave
from neurobrick.readers.raw import RawSeries, RawTable, RawUnits, Recording
from neurobrick.readers.tree import Array, Group, Tree, find, too_long
from neurobrick.schema import Left

# Arrays that decide what the group that holds them is.
MARKS = {"spike_times", "start_time", "stop_time", "data", "timestamps", "external_file"}
WAVEFORMS = ("waveforms", "waveform_mean", "waveform_sd")
# Groups of the root that are searched first, in this order; then all others.
SEARCHED = ("acquisition", "processing", "analysis", "intervals", "stimulus", "scratch")
# Entries of the root that describe the file. `units` is read on its own.
ABOUT_THE_FILE = frozenset(
    {
        "general", "specifications", ".specloc", "units", "nwb_version", "neurodata_version",
        "identifier", "session_description", "session_start_time", "timestamps_reference_time",
        "file_create_date",
    }
)  # fmt: skip
MAX_DEPTH = 12  # nesting of groups; NWB's own layouts reach 5
MAX_GROUPS = 50_000  # some six seconds of looking
MAX_NAMED = 5  # arrays of a group that a reason names


def is_nwb(root: Group) -> bool:
    """Whether the file says that it is NWB; NWB 1 kept its version in an array of the root."""
    marks = ("session_description", "nwb_version", "neurodata_version")
    return bool(root.attribute("nwb_version", "")) or any(name in root for name in marks)


def read_nwb(tree: Tree, units: Sequence[str] = (), keep: Collection[str] = ()) -> Recording:
    """Take stock of an open NWB file, and read its units and its tables.

    `units` are the paths of the units tables, instead of those that discovery chooses. `keep` names
    columns of the units table that are otherwise left: waveforms, one value a spike.

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
        self.spikes_elsewhere: list[str] = []
        self.left: list[Left] = []

    def read(self, wanted_units: Sequence[str]) -> Recording:
        root = self.tree.root
        self._search(root)
        doubt, chosen = None, []
        try:
            chosen = _chosen(list(self.unit_tables), wanted_units)
        except HarmonizeError as error:
            doubt = str(error)  # the other objects of the file can be shown all the same
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
            spikes_elsewhere=tuple(self.spikes_elsewhere),
            prefetch=self._prefetch,
        )

    def _prefetch(self, series: Iterable[RawSeries]) -> None:
        self.tree.prefetch([array for one in series for array in one.arrays])

    def _search(self, root: Group) -> None:
        """Sort every group of the file into series, tables, units tables and what is left."""
        units = root.group("units")
        if units is not None and "spike_times" in units:
            self.unit_tables["units"] = units
        elif units is not None:
            self._leave("units", "a units table without spike_times")
        more = [name for name in root.names() if name not in {*SEARCHED, *ABOUT_THE_FILE}]
        for name in SEARCHED:
            if (group := root.group(name)) is not None:
                self._leave_arrays(group, name, "")
                self._walk(group, name, 0)
        self._walk_names(root, more, "", 0)
        if arrays := [name for name in more if root.array(name) is not None]:
            self._leave(arrays[0][:40], _arrays_of(arrays, ""))

    def _walk(self, group: Group, path: str, depth: int) -> None:
        self._walk_names(group, group.names(), f"{path}/", depth)

    def _walk_names(self, group: Group, names: Iterable[str], prefix: str, depth: int) -> None:
        """Sort the groups `names` of `group`, whose path is `prefix`."""
        for name in names:
            child_path = f"{prefix}{name}"
            if too_long(name):
                self._leave(f"{prefix}{name[:40]}…", f"its name has {len(name):,} letters")
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
        elif {"start_time", "stop_time"} <= names and group.attributes("colnames"):
            self.tables.append((group, path))
        elif {"start_time", "stop_time"} <= names:
            self._leave(path, f"a start and a stop time, and no table of them ({kind})")
        elif group.attributes("colnames"):
            self._leave(path, f"a table without start and stop times ({kind})")
        elif "data" in names or "external_file" in names:
            self._add_series(group, path, names, kind)
        elif "timestamps" in names:
            self._leave(path, "times of events, without values")
        elif _is_unit_times(group, path, kind):
            self.spikes_elsewhere.append(f"{path} (NWB 1: a group a unit)")
            self._leave(path, "spike times as NWB 1 kept them, a group a unit")
        else:
            self._leave_arrays(group, path, kind)
            self._walk(group, path, depth + 1)

    def _add_series(self, group: Group, path: str, names: set[str], kind: str) -> None:
        if kind == "SpikeEventSeries":
            self.spikes_elsewhere.append(f"{path} (SpikeEventSeries: snippets and their times)")
        reason = reason_to_leave(group, path, names)
        if reason is not None:
            self._leave(path, reason)
        else:
            self.series += read_series(group, path, names, self._leave)

    def _leave_arrays(self, group: Group, path: str, kind: str) -> None:
        """Leave the arrays of a group that is no series and no table, such as types of NWB 1."""
        arrays = [name for name in group.names() if group.array(name) is not None]
        if not arrays:
            return
        if kind == "Clustering" or {"times", "num"} <= set(arrays):
            self.spikes_elsewhere.append(f"{path} (Clustering: times, and a cluster for each)")
        self._leave(path, _arrays_of(arrays, kind))

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
        # MATLAB has no vectors: (1, n) and (n, 1) are times, several rows of times are not.
        n_spikes = max(times.shape, default=0)
        if times.kind != "number" or not times.shape or prod(times.shape) != n_spikes:
            raise CorruptFile(f"{path}/spike_times holds no times: {times.kind}, {times.shape}")
        if n_lost := times.unwritten():
            raise CorruptFile(
                f"{path}/spike_times lacks {n_lost} chunks, which would be read as zeros: no spikes"
            )
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
        """Columns of a units table that are not read, because they are larger than the spikes."""
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


def _chosen(paths: Sequence[str], named: Sequence[str]) -> list[str]:
    """Paths of the units tables that are read: those that the spec has `named`, else `units`, else
    the only one, else the only one that is called units.

    Raises HarmonizeError when none of these rules decides it.
    """
    missing = [path for path in named if path not in paths]
    if missing:
        raise HarmonizeError(
            f"the spec names the units table {missing[0]}; the file has: {listed(paths)}"
        )
    if named or "units" in paths or len(paths) <= 1:
        return list(named) or (["units"] if "units" in paths else list(paths))
    called_units = [path for path in paths if path.endswith("/units")]
    if len(called_units) == 1:
        return called_units
    raise HarmonizeError(
        f"it has several units tables ({listed(paths)}): name one as units.tables in the spec, or"
        " several, if they are of different probes"
    )


def _is_unit_times(group: Group, path: str, kind: str) -> bool:
    """Whether a group holds NWB 1's UnitTimes: a group a unit, each with an array `times`."""
    if kind == "UnitTimes" or path.endswith("/UnitTimes"):
        return True
    first = next((unit for name in group.names() if (unit := group.group(name))), None)
    return first is not None and "times" in first and "unit_description" in first


def _arrays_of(names: Sequence[str], kind: str) -> str:
    """The reason for leaving arrays that stand outside of series and tables."""
    return f"no series and no table ({kind or 'no type'}), with {listed(names, MAX_NAMED)}"


def _all_columns(group: Group) -> list[Array]:
    return column_arrays(group, ["id", *column_names(group)])


def _texts(group: Group, names: Iterable[str]) -> dict[str, str]:
    """The arrays `names` of a group that hold text or numbers: the first value of each, as text."""
    arrays = {name: group.array(name) for name in names}
    return {
        name: texts[0]
        for name, array in arrays.items()
        if array is not None and array.kind in ("text", "number") and (texts := array.texts())
    }


def _subject(general: Group | None) -> dict[str, str]:
    group = general.group("subject") if general is not None else None
    names = ("subject_id", "species", "sex", "age", "description")
    return _texts(group, names) if group is not None else {}


def _devices(general: Group | None) -> tuple[str, ...]:
    group = general.group("devices") if general is not None else None
    return tuple(group.names()) if group is not None else ()
