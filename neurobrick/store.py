"""One session, one store, in Zarr.

A store is written beside its place and renamed into it once its manifest is there, so a store that
exists is whole. Every chunk carries a crc32c; the manifest lists every file, because Zarr reads a
missing chunk as silence. Format version 1 is laid out in docs/architecture.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.clock import Clock, find_clock, runs, sampling_clock, ticks_of_runs
from neurobrick.errors import StoreError
from neurobrick.intervals import Intervals
from neurobrick.schema import FORMAT_VERSION, Series, SessionData, SessionMetadata
from neurobrick.tables import ColumnArrays, from_arrays, to_arrays
from neurobrick.zarr3 import FolderWriter, read_array

MANIFEST = "manifest.json"
STAGING = ".staging-"
SPIKE_CHUNK = 2**18  # spikes; see benchmarks and docs/architecture.md for why so few and large
BEHAVIOR_CHUNK = 2**16  # samples
INT32 = np.iinfo(np.int32)

Array = NDArray[Any]


def write_store(session: SessionData, path: Path) -> int:
    """Write `session` to `path`, replacing what is there, and return the bytes on disk.

    Readers see the old store or the new one, whole. Raises StoreError when the disk does not
    take it; nothing is left behind then.
    """
    staging = path.with_name(f"{STAGING}{os.getpid()}-{path.stem}")  # no *.zarr, so no store
    try:
        staging.mkdir(parents=True)
        writer = FolderWriter(staging)
        _write(session, writer)
        size = _write_manifest(staging, writer.files)
        _replace(staging, path)
        return size
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another"
            " --root, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Remove what killed runs left staged under `root`; the caller holds the root's lock."""
    stale = sorted(root.glob(f"*/{STAGING}*"))
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return stale


def _replace(staging: Path, path: Path) -> None:
    # A folder cannot be renamed over a full one, so the old store steps aside first.
    if path.exists():
        aside = staging.with_name(f"{staging.name}.old")
        path.rename(aside)
        staging.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        staging.rename(path)


def _write(session: SessionData, to: FolderWriter) -> None:
    to.group("", {"neurobrick": session.metadata.model_dump(mode="json")})
    ticks = session.spike_ticks or find_clock(session.spike_times)
    _write_times(to, "spikes/time", session.spike_times, ticks, SPIKE_CHUNK)
    narrow = np.uint16 if session.units.num_rows <= 2**16 else np.uint32
    to.array("spikes/unit", session.spike_units.astype(narrow), SPIKE_CHUNK)
    _write_table(to, "units", session.units)
    for name, series in session.behavior.items():
        _write_series(to, f"behavior/{_key(name)}", series)
    for name, table in session.intervals.items():
        _write_table(to, f"intervals/{_key(name)}", table)
    _write_intervals(to, "domain", session.domain)
    _write_intervals(to, "evaluation", session.evaluation)
    for name, split in session.splits.items():
        _write_intervals(to, f"splits/{name}", split)


def _write_times(
    to: FolderWriter,
    key: str,
    times: NDArray[np.float64],
    found: tuple[Clock, NDArray[np.int64]] | None,
    rows: int,
) -> None:
    """`times`, sorted, as the ticks that were `found` for them, where these are of 32 bits."""
    if found and len(times) and INT32.min <= found[1][0] and found[1][-1] <= INT32.max:
        clock, ticks = found
        attributes = {"rate": clock.rate, "offset": clock.offset}
        to.array(key, ticks.astype(np.int32), rows, attributes)
    else:
        to.array(key, times, rows)


def _write_series(to: FolderWriter, key: str, series: Series) -> None:
    to.group(
        key,
        {
            "unit": series.unit,
            "source": series.source,
            "source_unit": series.source_unit,
            "description": series.description,
            "columns": list(series.columns),
        },
    )
    to.array(f"{key}/values", series.values, BEHAVIOR_CHUNK)
    hints = [clock for clock in (series.clock, sampling_clock(series.timestamps)) if clock]
    for clock in hints:
        ticks = clock.ticks(series.timestamps)
        if ticks is None:
            continue
        segments = runs(ticks)
        if 4 * len(segments) <= len(ticks):  # otherwise the segments outweigh the timestamps
            attributes = {"rate": clock.rate, "offset": clock.offset}
            to.array(f"{key}/segments", segments, BEHAVIOR_CHUNK, attributes)
            return
    found = find_clock(series.timestamps)
    _write_times(to, f"{key}/timestamps", series.timestamps, found, BEHAVIOR_CHUNK)


def _write_table(to: FolderWriter, key: str, table: pa.Table) -> None:
    to.group(key, {"columns": table.column_names})
    for name, column in zip(table.column_names, table.columns, strict=True):
        held = to_arrays(column)
        for role, data in held.arrays.items():
            part = _key(name) if role == "values" else f"{_key(name)}.{role}"
            attributes = dict(held.attributes) if role == "values" else None
            to.array(f"{key}/{part}", data, SPIKE_CHUNK, attributes)


def _write_intervals(to: FolderWriter, key: str, intervals: Intervals) -> None:
    to.array(f"{key}/start", intervals.start, SPIKE_CHUNK)
    to.array(f"{key}/stop", intervals.stop, SPIKE_CHUNK)


def _write_manifest(path: Path, files: Mapping[str, tuple[int, int]]) -> int:
    """List every file with its size and crc32c; written last, and forced to disk."""
    manifest = path / MANIFEST
    with manifest.open("w") as stream:
        listed = dict(sorted(files.items()))
        json.dump({"format_version": FORMAT_VERSION, "files": listed}, stream, indent=0)
        stream.flush()
        os.fsync(stream.fileno())
    return sum(size for size, _ in files.values()) + manifest.stat().st_size


def damage(path: Path) -> list[str]:
    """What is wrong with the store's files, one line a fault; empty if it is as it was written.

    Raises StoreError when there is no store at `path`.
    """
    import google_crc32c

    faults = []
    with _boundary(path):
        listed = json.loads((path / MANIFEST).read_text())["files"]
    for name, (size, crc) in listed.items():
        file = path / name
        if not file.is_file():
            faults.append(f"{name} is missing")
        elif file.stat().st_size != size:
            faults.append(f"{name} has {file.stat().st_size} bytes, not {size}")
        elif google_crc32c.value(file.read_bytes()) != crc:
            faults.append(f"{name} does not match its checksum")
    there = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    faults += [f"{name} is not part of the store" for name in sorted(there - {*listed, MANIFEST})]
    return faults


class SessionStore:
    """A store opened for reading. Nothing is read until asked; every call decodes anew.

    Raises StoreError, from the constructor and from every method, when what it needs is absent,
    damaged, or of a format version that this neurobrick does not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _boundary(path):
            if not (path / MANIFEST).is_file():
                raise StoreError(f"there is no whole store at {path}: prepare the session again")
            attributes = json.loads((path / "zarr.json").read_text())["attributes"]["neurobrick"]
        version = attributes.get("format_version")
        if version != FORMAT_VERSION:
            advice = "upgrade neurobrick" if version > FORMAT_VERSION else "prepare it again"
            raise StoreError(
                f"{path} has format version {version}, this neurobrick reads {FORMAT_VERSION}:"
                f" {advice}"
            )
        with _boundary(path):
            self.metadata = SessionMetadata.model_validate(attributes)

    def __reduce__(self) -> tuple[type[SessionStore], tuple[Path]]:
        return (SessionStore, (self.path,))

    def spikes(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Times in seconds, sorted, and rows of the units table; both (n,), read-only."""
        times = self._times("spikes/time")
        units = self._array("spikes/unit").astype(np.int32)
        return _frozen(times), _frozen(units)

    def behavior_names(self) -> list[str]:
        """The series in the store."""
        return self._children("behavior")

    def behavior_info(self, name: str) -> tuple[dict[str, Any], tuple[int, ...], Clock | None]:
        """A series' attributes, the shape (n, d) of its values, and its clock if it is regular."""
        path = f"behavior/{_key(name)}"
        shape = tuple(self._meta(f"{path}/values")["shape"])
        clock = None
        if self._has(f"{path}/segments"):
            attributes = self._meta(f"{path}/segments")["attributes"]
            clock = Clock(attributes["rate"], attributes["offset"])
        return self._meta(path)["attributes"], shape, clock

    def segments(self, name: str) -> NDArray[np.int64]:
        """First tick and length of each gap-free stretch of a regular series, (k, 2)."""
        return self._array(f"behavior/{_key(name)}/segments")

    def behavior(self, name: str) -> tuple[NDArray[np.float64], Array]:
        """A series' timestamps (n,) in seconds and values (n, d) in SI; read-only."""
        path = f"behavior/{_key(name)}"
        _, _, clock = self.behavior_info(name)
        if clock:
            stamps = clock.times(ticks_of_runs(self.segments(name)))
        else:
            stamps = self._times(f"{path}/timestamps")
        return _frozen(stamps), _frozen(self._array(f"{path}/values"))

    def units(self) -> pa.Table:
        """The units table, one row a unit."""
        return self._table("units")

    def interval_names(self) -> list[str]:
        """The interval tables in the store."""
        return self._children("intervals")

    def interval_table(self, name: str) -> pa.Table:
        """An interval table, with `start` and `stop` in seconds."""
        return self._table(f"intervals/{_key(name)}")

    def domain(self) -> Intervals:
        """When the session was recorded."""
        return self._intervals("domain")

    def evaluation(self) -> Intervals:
        """When decoding is scored."""
        return self._intervals("evaluation")

    def splits(self) -> dict[str, Intervals]:
        """Train, valid and test."""
        return {name: self._intervals(f"splits/{name}") for name in self._children("splits")}

    def _has(self, key: str) -> bool:
        return (self.path / key / "zarr.json").is_file()

    def _children(self, key: str) -> list[str]:
        folder = self.path / key
        names = [unquote(p.name) for p in folder.iterdir() if p.is_dir()] if self._has(key) else []
        return sorted(names)

    def _meta(self, key: str) -> dict[str, Any]:
        with _boundary(self.path):
            meta: dict[str, Any] = json.loads((self.path / key / "zarr.json").read_text())
            return meta

    def _array(self, key: str) -> Array:
        with _boundary(self.path):
            return read_array(self.path / key)

    def _times(self, key: str) -> NDArray[np.float64]:
        data, attributes = self._array(key), self._meta(key)["attributes"]
        if "rate" in attributes:
            return Clock(attributes["rate"], attributes["offset"]).times(data)
        return data

    def _intervals(self, key: str) -> Intervals:
        return Intervals(self._array(f"{key}/start"), self._array(f"{key}/stop"))

    def _table(self, key: str) -> pa.Table:
        columns = self._meta(key)["attributes"]["columns"]
        return pa.table({name: self._column(f"{key}/{_key(name)}") for name in columns})

    def _column(self, key: str) -> pa.Array:
        arrays = {"values": self._array(key)}
        for role in ("offsets", "inner_offsets"):
            if self._has(f"{key}.{role}"):
                arrays[role] = self._array(f"{key}.{role}")
        return from_arrays(ColumnArrays(arrays, self._meta(key)["attributes"]))


@contextmanager
def _boundary(path: Path) -> Iterator[None]:
    """Exceptions of Zarr, its codecs and the file system, as StoreError."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} lacks {error.filename or error}: run neurobrick verify, then prepare the"
            " session again"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}): run neurobrick verify,"
            " then prepare the session again"
        ) from error


def _key(name: str) -> str:
    """A name as one path segment: slashes, dots and letters beyond ASCII are percent-encoded."""
    return quote(name, safe=" ").replace(".", "%2E")


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def read_attributes(path: Path) -> Mapping[str, Any] | None:
    """A store's raw metadata without validation, or None when there is no whole store there."""
    try:
        if not (path / MANIFEST).is_file():
            return None
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]["neurobrick"]
    except (OSError, ValueError, KeyError):
        return None
    return attributes if isinstance(attributes, dict) else None
