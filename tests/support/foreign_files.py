"""Files that are broken, or written to do harm. Each writer makes one, and states the outcome.

`SECRET` is in a file beside them. None of them may bring it into a store.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from tests.support.layouts import regular, write

SECRET = np.arange(1_000_000, 1_000_500, dtype=np.float64) / 7
SERIES = "processing/behavior/Position/cursor_pos"
TB = 2**40


@dataclass(frozen=True)
class Foreign:
    """A broken or hostile file, and the outcome of preparing it."""

    write: Callable[[Path], None]
    status: str  # of the outcome
    said: str  # part of the reason
    left: str | None = None  # path of the object that must be left, if the file is prepared


FOREIGN: dict[str, Foreign] = {}
Writer = Callable[[Path], None]


def failed(said: str) -> Callable[[Writer], Writer]:
    return _registered("failed", said)


def skipped(said: str) -> Callable[[Writer], Writer]:
    return _registered("skipped", said)


def prepared(left: str, said: str) -> Callable[[Writer], Writer]:
    return _registered("prepared", said, left)


def _registered(status: str, said: str, left: str | None = None) -> Callable[[Writer], Writer]:
    def register(writer: Writer) -> Writer:
        FOREIGN[writer.__name__] = Foreign(writer, status, said, left)
        return writer

    return register


def good(path: Path) -> h5py.File:
    """A file that could be prepared, open for writing. The secret lies beside it."""
    secret = path.parent / "secret.h5"
    if not secret.exists():
        with h5py.File(secret, "w") as file:
            file["secret"] = SECRET
            file["group/data"], file["group/timestamps"] = SECRET, SECRET
        SECRET.tofile(path.parent / "secret.raw")
    return h5py.File(write(path, regular), "r+")


def replaced(group: h5py.Group, name: str, make: Callable[[], object]) -> None:
    """Let `make` put something else in place of `name`, which keeps its attributes."""
    attributes = dict(group[name].attrs)
    del group[name]
    make()
    group[name].attrs.update(attributes)


@failed("breaks off")
def cut_near_the_end(path: Path) -> None:
    good(path).close()
    os.truncate(path, path.stat().st_size - 100)


@failed("breaks off")
def cut_in_half(path: Path) -> None:
    good(path).close()
    os.truncate(path, path.stat().st_size // 2)


@skipped("not an NWB file")
def cut_within_its_head(path: Path) -> None:
    good(path).close()
    os.truncate(path, 40)


@skipped("not an NWB file")
def nothing_in_it(path: Path) -> None:
    path.touch()


@skipped("not an NWB file")
def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(100_000))


@skipped("declares no nwb_version")
def some_other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = SECRET


@failed("not in this file")
def spikes_by_an_external_link(path: Path) -> None:
    with good(path) as file:
        del file["units/spike_times"]
        file["units/spike_times"] = h5py.ExternalLink("secret.h5", "secret")


@prepared("acquisition/elsewhere", "not followed")
def a_group_by_an_external_link(path: Path) -> None:
    with good(path) as file:
        file["acquisition/elsewhere"] = h5py.ExternalLink("secret.h5", "group")


@prepared("acquisition/x", "not followed")
def data_by_a_soft_link_through_an_external_one(path: Path) -> None:
    with good(path) as file:
        file["general/out"] = h5py.ExternalLink("secret.h5", "/")
        file.copy(SERIES, "acquisition/x")
        del file["acquisition/x/data"]
        file["acquisition/x/data"] = h5py.SoftLink("/general/out/secret")


@prepared(SERIES, "not followed")
def data_in_a_raw_file(path: Path) -> None:
    with good(path) as file:
        where = [(str(path.parent / "secret.raw"), 0, h5py.h5f.UNLIMITED)]
        group = file[SERIES]
        replaced(group, "data", lambda: group.create_dataset("data", (500,), "f8", external=where))


@failed("not in this file")
def spikes_in_a_virtual_dataset(path: Path) -> None:
    with good(path) as file:
        layout = h5py.VirtualLayout((500,), "f8")
        layout[:] = h5py.VirtualSource("secret.h5", "secret", (500,))
        units = file["units"]
        replaced(units, "spike_times", lambda: units.create_virtual_dataset("spike_times", layout))


@failed("claims")
def a_terabyte_of_spikes_never_written(path: Path) -> None:
    with good(path) as file:
        units = file["units"]
        replaced(
            units, "spike_times", lambda: units.create_dataset("spike_times", (TB // 8,), "f8")
        )


@failed("claims")
def a_terabyte_of_spikes_in_one_chunk(path: Path) -> None:
    with good(path) as file:
        units = file["units"]

        def make() -> None:
            data = units.create_dataset("spike_times", (TB // 8,), "f8", chunks=(1000,))
            data[:1000] = 1.0

        replaced(units, "spike_times", make)


@prepared(SERIES, "as raw signals are")
def a_terabyte_of_behavior(path: Path) -> None:
    with good(path) as file:
        group = file[SERIES]
        replaced(group, "data", lambda: group.create_dataset("data", (TB // 8,), "f8"))


@prepared(SERIES, "claims")
def behavior_that_was_never_written(path: Path) -> None:
    with good(path) as file:
        group = file[SERIES]
        replaced(group, "data", lambda: group.create_dataset("data", (10**6, 2), "f4"))


@failed("claims")
def a_bomb_of_spikes(path: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with good(path) as file:
        units = file["units"]
        replaced(units, "spike_times", lambda: _bomb(units, "spike_times"))


@prepared(SERIES, "claims")
def a_bomb_of_behavior(path: Path) -> None:
    with good(path) as file:
        group = file[SERIES]
        replaced(group, "data", lambda: _bomb(group, "data"))


def _bomb(group: h5py.Group, name: str) -> None:
    rows, n_chunks = 2**20, 128
    data = group.create_dataset(
        name, (rows * n_chunks,), "f8", chunks=(rows,), compression="gzip", compression_opts=9
    )
    data[:rows] = 0.0
    _, chunk = data.id.read_direct_chunk((0,))
    for k in range(1, n_chunks):
        data.id.write_direct_chunk((k * rows,), chunk)


@prepared("acquisition/loop", "a link to")
def circles_of_links(path: Path) -> None:
    with good(path) as file:
        file["acquisition/loop"] = h5py.SoftLink("/acquisition")
        file["processing/a"] = h5py.SoftLink("/processing/b")
        file["processing/b"] = h5py.SoftLink("/processing/a")
        file["acquisition/self"] = file["acquisition"]
        file["processing/behavior/up"] = file["processing"]


@failed("not in this file")
def spikes_behind_a_thousand_links(path: Path) -> None:
    with good(path) as file:
        file.move("units/spike_times", "general/s0")
        for k in range(1000):
            file[f"general/s{k + 1}"] = h5py.SoftLink(f"/general/s{k}")
        file["units/spike_times"] = h5py.SoftLink("/general/s1000")


@prepared("acquisition/a/a/a/a/a/a/a/a/a/a/a/a/a", "nested deeper")
def groups_two_thousand_deep(path: Path) -> None:
    with good(path) as file:
        group = file["acquisition"]
        for _ in range(2000):
            group = group.create_group("a")


@prepared("acquisition/many/table", "without start and stop")
def twenty_thousand_groups(path: Path) -> None:
    with good(path) as file:
        many = file.create_group("acquisition/many")
        for k in range(20_000):
            many.create_group(str(k))
        many.create_group("table").attrs["colnames"] = ["x"]


def _with_index(path: Path, change: Callable[[np.ndarray], object]) -> None:
    with good(path) as file:
        units = file["units"]
        index = units["spike_times_index"][:]

        def make() -> None:
            units["spike_times_index"] = change(index)

        replaced(units, "spike_times_index", make)


@failed("contradicts itself")
def an_index_below_zero(path: Path) -> None:
    _with_index(path, lambda index: index.astype(np.int64) - 10**6)


@failed("contradicts itself")
def an_index_that_falls(path: Path) -> None:
    _with_index(path, lambda index: index[::-1])


@failed("contradicts itself")
def an_index_beyond_its_values(path: Path) -> None:
    _with_index(path, lambda index: np.append(index[:-1], np.uint64(2**63 + 5)))


@failed("is no index")
def an_index_of_fractions(path: Path) -> None:
    _with_index(path, lambda index: index + 0.5)


@failed("is no index")
def an_index_with_nan(path: Path) -> None:
    _with_index(path, lambda index: np.append(index[:-1], np.nan))


@failed("is no index")
def an_index_beyond_what_floats_hold(path: Path) -> None:
    _with_index(path, lambda index: np.append(index[:-1].astype(np.float64), 2.0**63))


@failed("is no index")
def an_index_of_text(path: Path) -> None:
    _with_index(path, lambda index: index.astype("S8"))


@failed("contradicts itself")
def an_index_longer_than_its_table(path: Path) -> None:
    _with_index(path, lambda index: np.append(index, [index[-1]] * 3))


@failed("claims")
def an_index_of_a_billion_units(path: Path) -> None:
    with good(path) as file:
        units = file["units"]
        replaced(
            units,
            "spike_times_index",
            lambda: units.create_dataset("spike_times_index", (10**11,), "u4"),
        )


@failed("holds no times")
def spikes_of_text(path: Path) -> None:
    with good(path) as file:
        units = file["units"]
        texts = [str(time) for time in units["spike_times"][:]]
        replaced(units, "spike_times", lambda: units.create_dataset("spike_times", data=texts))


@failed("holds no times")
def spikes_of_references(path: Path) -> None:
    with good(path) as file:
        units = file["units"]
        references = np.array([units.ref] * len(units["spike_times"]), dtype=h5py.ref_dtype)
        replaced(units, "spike_times", lambda: units.create_dataset("spike_times", data=references))


@failed("holds no times")
def one_spike_for_all(path: Path) -> None:
    with good(path) as file:
        units = file["units"]
        replaced(units, "spike_times", lambda: units.create_dataset("spike_times", data=1.0))


@prepared("units/absent", "no such array")
def columns_that_are_not_there(path: Path) -> None:
    with good(path) as file:
        file["units"].attrs["colnames"] = ["spike_times", "absent", *(f"c{k}" for k in range(3000))]


@prepared("acquisition/x", "its rate is nan")
def attributes_of_odd_kinds(path: Path) -> None:
    with good(path) as file:
        file.copy(SERIES, "acquisition/x")
        group = file["acquisition/x"]
        group["starting_time"].attrs["rate"] = "fast"
        group["data"].attrs["unit"] = np.arange(3)
        group["data"].attrs["conversion"] = "none"
        group["data"].attrs["offset"] = np.array([], "f8")
        group.attrs["description"] = h5py.Empty("f8")


@prepared("intervals/evil", "not readable")
def texts_that_are_no_utf8(path: Path) -> None:
    with good(path) as file:
        trials = file["intervals/trials"]
        bad = np.array([b"\xff\xfe\x80"] * len(trials["id"]), dtype="S3")
        replaced(trials, "result", lambda: trials.create_dataset("result", data=bad))
        evil = file.create_group("intervals/evil")
        evil.attrs["colnames"] = ["start_time", "stop_time"]
        evil["start_time"], evil["stop_time"] = h5py.SoftLink("/nowhere"), [1.0, 2.0]


@prepared(f"acquisition/{'n' * 40}…", "its name has 5,000 letters")
def a_name_of_five_thousand_letters(path: Path) -> None:
    with good(path) as file:
        file.copy(SERIES, "acquisition/" + "n" * 5000)


@prepared("acquisition/voltage", "voltage")
def names_that_would_lead_out(path: Path) -> None:
    with good(path) as file:
        for name in ("..%2F..%2Fetc", "a\\..\\b", "...", "%2e%2e", " ", "CON", "x\ny"):
            file.copy(SERIES, f"acquisition/{name}")
        file["general/subject/subject_id"][()] = "../../../root"
        file.create_group("acquisition/voltage").attrs["neurodata_type"] = "ElectricalSeries"
        file["acquisition/voltage/data"] = [0.0]


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("payload-ran",)


@prepared("acquisition/pickled", "not numeric")
def pickles(path: Path) -> None:
    with good(path) as file:
        payload = pickle.dumps(_Payload())
        file.attrs["payload"] = np.void(payload)
        file.copy(SERIES, "acquisition/pickled")
        group = file["acquisition/pickled"]
        replaced(group, "data", lambda: group.create_dataset("data", data=[np.void(payload)] * 9))


def _through_filter_32099(group: h5py.Group, name: str, data: np.ndarray) -> None:
    """Write `data` through a filter that HDF5 may leave out, and will ask for when reading."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(data.shape)
    plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple(data.shape)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, plist)
    group[name][...] = data


@skipped("hdf5plugin")
def spikes_behind_a_filter_that_nobody_has(path: Path) -> None:
    with good(path) as file:
        units, times = file["units"], file["units/spike_times"][:]
        replaced(units, "spike_times", lambda: _through_filter_32099(units, "spike_times", times))


@prepared(SERIES, "hdf5plugin")
def behavior_behind_a_filter_that_nobody_has(path: Path) -> None:
    with good(path) as file:
        group, data = file[SERIES], file[SERIES]["data"][:].astype(np.float64)
        replaced(group, "data", lambda: _through_filter_32099(group, "data", data))


@prepared("units/ext/secret", "no such array")
def a_column_by_a_path_through_an_external_link(path: Path) -> None:
    """HDF5 follows every part of a path but the last, whatever the last one is."""
    with good(path) as file:
        with h5py.File(path.parent / "short.h5", "w") as other:
            other["secret"] = SECRET[: len(file["units/id"])]
        file["units/ext"] = h5py.ExternalLink("short.h5", "/")
        file["units"].attrs["colnames"] = ["spike_times", "ext/secret", "/", "//", ".", ".."]


@failed("not in this file")
def units_by_an_external_link(path: Path) -> None:
    with good(path) as file:
        del file["units"]
        file["units"] = h5py.ExternalLink("secret.h5", "group")


@failed("holds no times")
def spikes_side_by_side(path: Path) -> None:
    with good(path) as file:
        units, times = file["units"], file["units/spike_times"][:]
        pairs = np.stack([times, times + 0.5], axis=1)
        replaced(units, "spike_times", lambda: units.create_dataset("spike_times", data=pairs))


@failed("holds no times")
def spikes_of_records(path: Path) -> None:
    with good(path) as file:
        units, times = file["units"], file["units/spike_times"][:]
        records = np.array([(time, 1) for time in times], dtype=[("time", "f8"), ("channel", "i4")])
        replaced(units, "spike_times", lambda: units.create_dataset("spike_times", data=records))


@failed("claims 1,000,000 columns")
def a_million_columns(path: Path) -> None:
    good(path).close()
    with h5py.File(path, "r+", libver="latest") as file:  # earlier formats hold 64 KB of names
        old = file["units"]
        new = file.create_group("again")
        for name in old:
            file.copy(old[name], new, name)
        new.attrs.update({name: old.attrs[name] for name in set(old.attrs) - {"colnames"}})
        new.attrs["colnames"] = np.array([f"c{k}" for k in range(10**6)], dtype="S8")
        del file["units"]
        file.move("again", "units")


@failed("claims")
def a_chunk_far_larger_than_its_spikes(path: Path) -> None:
    """The claim is small, and decoding it fills the memory all the same."""
    with good(path) as file:
        units, times = file["units"], file["units/spike_times"][:]
        zeros = zlib.compress(bytes(2**28), 9)

        def make() -> None:
            data = units.create_dataset(
                "spike_times", times.shape, "f8", maxshape=(None,), chunks=(2**25,),
                compression="gzip",
            )  # fmt: skip
            data.id.write_direct_chunk((0,), zeros)

        replaced(units, "spike_times", make)


@failed("more text than the file")
def a_thousand_rows_that_share_one_text(path: Path) -> None:
    """Two gigabytes of text out of two megabytes."""
    with good(path) as file:
        text = h5py.string_dtype()
        one = file.create_dataset("general/one", (1,), text, chunks=(1,))
        one[0] = "y" * 2_000_000
        file.flush()
        _, where = one.id.read_direct_chunk((0,))
        units = file["units"]
        shared = units.create_dataset("shared", (1000,), text, chunks=(1000,))
        shared.id.write_direct_chunk((0,), where * 1000)
        units["shared_index"] = np.linspace(0, 1000, len(units["id"])).astype(np.uint32)
        units.attrs["colnames"] = ["spike_times", "shared"]


@prepared("units/hollow", "empty rows")
def rows_of_nothing(path: Path) -> None:
    with good(path) as file:
        file["units/hollow"] = np.zeros((len(file["units/id"]), 0))
        file["units"].attrs["colnames"] = ["spike_times", "hollow"]


@prepared(f"acquisition/{'.' * 40}…", "its name has 150 letters")
def a_name_of_dots(path: Path) -> None:
    """Each takes three letters in a store."""
    with good(path) as file:
        file.copy(SERIES, "acquisition/" + "." * 150)


@failed("no text")
def a_name_that_is_no_utf8(path: Path) -> None:
    with good(path) as file:
        h5py.h5g.create(file["acquisition"].id, b"\xff\xfe")
