"""NWB-Zarr stores: what hdmf-zarr wrote is what h5py reads of the same recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dandi.support.digests import get_zarr_checksum
from pynwb import NWBFile, TimeSeries

from neurobrick import Dataset
from neurobrick.errors import UnsupportedFile
from neurobrick.readers.tree import Array, Group, find
from neurobrick.readers.zarr.tree import open_zarr
from neurobrick.sources.digests import zarr_checksum_of as checksum
from neurobrick.storage.zarr_files import LocalFiles
from tests.conftest import prepare_files
from tests.support.layouts import spike_trains, write
from tests.support.zarr_files import MemoryFiles, array, array3, convert, group, write_files

ZSTD = {"id": "zstd", "level": 3}
GZIP = {"id": "gzip", "level": 1}
# The Zarr format, and options of the program that converts to it.
OPTIONS: dict[str, tuple[int, tuple[str, ...]]] = {
    "2": (2, ()),
    "2 in many chunks": (2, ("--chunk-rows", "100")),
    "2 nested": (2, ("--chunk-rows", "100", "--nested")),
    "2 with zstd": (2, ("--chunk-rows", "700", "--compressor", json.dumps(ZSTD))),
    "2 with gzip": (2, ("--chunk-rows", "700", "--compressor", json.dumps(GZIP))),
    "3": (3, ()),
    "3 in many chunks": (3, ("--chunk-rows", "100")),
    "3 in shards": (3, ("--chunk-rows", "100", "--shard-rows", "400")),
    "3 in one shard": (3, ("--chunk-rows", "10", "--shard-rows", "5000")),
    "3 with blosc": (3, ("--chunk-rows", "700", "--codec", "blosc")),
    "3 with gzip": (3, ("--chunk-rows", "700", "--codec", "gzip")),
    "3 without a codec": (3, ("--chunk-rows", "100", "--codec", "none")),
}
FORMATS = {"2": ".zmetadata", "3": "zarr.json"}  # with the file of the gathered metadata


def everything(file: NWBFile, rng: np.random.Generator) -> None:
    """Ragged and plain columns, references, links, silence, texts and scalars of every kind."""
    device = file.create_device("Sonde ∆")
    electrodes = file.create_electrode_group("shank", "array", "M1", device)
    for _ in range(3):
        file.add_electrode(group=electrodes, location="M1")
    file.add_unit_column("quality", "in words")
    file.add_unit_column("kept", "yes or no")
    for k, times in enumerate(spike_trains(rng, 3)):
        file.add_unit(
            spike_times=times, electrodes=[k], electrode_group=electrodes, quality="gút"[k:],
            kept=k != 1,
        )  # fmt: skip
    silence = rng.integers(-9, 9, (1000, 2)).astype(np.int16)
    silence[200:500] = 0
    stamps = np.cumsum(rng.uniform(0.01, 0.02, 1000))
    hand = TimeSeries(name="hand", data=silence, unit="cm", timestamps=stamps, conversion=0.01)
    eye = TimeSeries(
        name="eye", data=rng.normal(size=1000).astype(np.float32), unit="V", timestamps=hand
    )
    module = file.create_processing_module("behavior", "kinematics")
    module.add([hand, eye])
    file.add_acquisition(TimeSeries(name="wheel", data=[1.5, np.nan], unit="rad", rate=30.0))
    file.add_trial_column("result", "R, A or F")
    for k in range(4):
        file.add_trial(
            start_time=float(k),
            stop_time=k + 0.5,
            result="RAF"[k % 3],
            tags=["a"],
            timeseries=[hand],
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("hdf5") / "everything.nwb", everything)


Convert = Callable[[str], Path]


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """The store that hdmf-zarr makes of `source` with an entry of OPTIONS."""
    folder = tmp_path_factory.mktemp("zarr")

    @cache
    def make(name: str) -> Path:
        zarr_format, options = OPTIONS[name]
        target = folder / f"{name}.nwb.zarr"
        return convert(source, target, *options, zarr_format=zarr_format)

    return make


@pytest.fixture(params=FORMATS)
def store(converted: Convert, request: pytest.FixtureRequest) -> Path:
    return converted(request.param)


def node(root: Group, path: str) -> tuple[Group, Array | None]:
    """The group that holds the node at `path`, and that node if it is an array."""
    parent, _, name = path.rpartition("/")
    holder = find(root, parent) if parent else root
    assert holder is not None, path
    return holder, holder.array(name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its key."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every dataset of the file, by path, but for the specifications that both formats cache."""
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda path, item: found.update({path: item}))
    return {
        path: item
        for path, item in found.items()
        if isinstance(item, h5py.Dataset) and not path.startswith("specifications")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_every_array_is_what_h5py_reads(name: str, source: Path, converted: Convert) -> None:
    kinds = set()
    with h5py.File(source) as file, open_zarr(LocalFiles(converted(name)), name) as tree:
        for path, item in datasets(file).items():
            found = node(tree.root, path)[1]
            assert found is not None, path
            assert (found.path, found.shape) == (path, item.shape)
            if item.dtype.kind in "iufb":
                values = found.read()
                assert found.kind == "number"
                assert values.dtype == found.dtype == item.dtype
                np.testing.assert_array_equal(values, item[()])
            elif h5py.check_string_dtype(item.dtype):
                assert found.kind == "text"
                wanted = np.asarray(item[()]).reshape(-1)
                assert found.texts() == [value.decode() for value in wanted]
            else:
                reference = h5py.check_ref_dtype(item.dtype) is not None
                assert found.kind == ("reference" if reference else "other")
            kinds.add(found.kind)
    assert kinds == {"number", "text", "reference", "other"}


def test_attributes_are_what_h5py_reads(source: Path, store: Path) -> None:
    seen = set()
    with h5py.File(source) as file, open_zarr(LocalFiles(store), "store") as tree:
        assert tree.root.attribute("nwb_version", "") == file.attrs["nwb_version"]
        for path, item in datasets(file).items():
            found = node(tree.root, path)[1]
            assert found is not None
            for key, value in item.attrs.items():
                wanted = "absent" if isinstance(value, h5py.Reference) else value
                assert found.attribute(key, "absent") == wanted, (path, key)
                seen.add(key)
        units = tree.root.group("units")
        assert units is not None
        assert units.attributes("colnames") == list(file["units"].attrs["colnames"])
        assert units.attribute("neurodata_type", "") == "Units"
        assert units.attributes("absent") == []
    assert {"conversion", "unit", "rate", "table", "target"} <= seen


def test_an_array_says_what_its_dimensions_are(store: Path) -> None:
    with open_zarr(LocalFiles(store), "store") as tree:
        times = node(tree.root, "units/spike_times")[1]
    assert times is not None
    assert times.attribute("_ARRAY_DIMENSIONS", "") == "dim0"


def test_groups_have_the_entries_that_h5py_lists(source: Path, store: Path) -> None:
    with h5py.File(source) as file, open_zarr(LocalFiles(store), "store") as tree:
        for path in ("/", "units", "processing/behavior", "processing/behavior/eye", "general"):
            found = find(tree.root, path)
            assert found is not None
            entries = [name for name in file[path] if name != ".specloc"]
            assert found.names() == entries
            assert all(name in found for name in entries)
            assert "absent" not in found


def test_links_inside_the_store_are_followed_and_named(source: Path, store: Path) -> None:
    with h5py.File(source) as file, open_zarr(LocalFiles(store), "store") as tree:
        shank, _ = node(tree.root, "general/extracellular_ephys/shank/device")
        device = shank.group("device")
        assert device is not None
        assert shank.link("device") == "a link to /general/devices/Sonde ∆"
        straight = find(tree.root, "general/devices/Sonde ∆")
        assert straight is not None
        assert device.identity == straight.identity != shank.identity
        eye, stamps = node(tree.root, "processing/behavior/eye/timestamps")
        assert stamps is not None
        np.testing.assert_array_equal(stamps.read(), file["processing/behavior/eye/timestamps"])
        assert eye.link("timestamps") == "a link to /processing/behavior/hand/timestamps"
        assert eye.link("data") is None


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_the_tree_is_the_same_without_gathered_metadata(
    zarr_format: str, converted: Convert
) -> None:
    gathered = MemoryFiles(contents(converted(zarr_format)))
    files, key = dict(gathered.files), FORMATS[zarr_format]
    if zarr_format == "2":
        del files[key]
    else:
        root = json.loads(files[key])
        del root["consolidated_metadata"]
        files[key] = json.dumps(root).encode()
    with open_zarr(gathered, "a") as one, open_zarr(MemoryFiles(files), "b") as other:
        assert gathered.reads == [[key]]
        for path in ("", "units", "processing/behavior/hand"):
            a, b = find(one.root, path), find(other.root, path)
            assert a is not None
            assert b is not None
            assert a.names() == b.names()
            assert a.attribute("object_id", 0) == b.attribute("object_id", 1)


@pytest.mark.parametrize(("zarr_format", "make"), [("2", array), ("3", array3)])
def test_what_was_added_after_the_metadata_were_gathered_is_there(
    zarr_format: str, make: Callable[..., dict[str, bytes]], converted: Convert
) -> None:
    files = contents(converted(zarr_format)) | make("units/late", np.arange(3))
    with open_zarr(MemoryFiles(files), "store") as tree:
        late = node(tree.root, "units/late")[1]
        assert late is not None
        assert late.read().tolist() == [0, 1, 2]


def test_prefetch_asks_once_and_reading_asks_no_more() -> None:
    files = MemoryFiles(
        group() | array("a", np.arange(10), (4,)) | array("b", np.ones((3, 2)), (2, 2))
    )
    with open_zarr(files, "store") as tree:
        a, b = tree.root.array("a"), tree.root.array("b")
        assert a is not None
        assert b is not None
        files.reads.clear()
        tree.prefetch([a, b])
        tree.prefetch([a])
        assert [sorted(keys) for keys in files.reads] == [["a/0", "a/1", "a/2", "b/0.0", "b/1.0"]]
        np.testing.assert_array_equal(a.read(), np.arange(10))
        np.testing.assert_array_equal(b.read(), np.ones((3, 2)))
        assert len(files.reads) == 1
        np.testing.assert_array_equal(a.read(), np.arange(10))  # what was held is let go
        assert len(files.reads) == 2


DELTA = {"id": "delta", "dtype": "<i4", "astype": "<i2"}
SCALE = {"id": "fixedscaleoffset", "scale": 8, "offset": 1, "dtype": "<f8", "astype": "<i2"}


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (np.arange(24.0).reshape(6, 4), {"compressor": {"id": "blosc", "cname": "zstd"}}),
        (np.arange(24.0).reshape(6, 4), {"compressor": {"id": "lz4"}, "order": "F"}),
        (np.arange(24, dtype=">i8").reshape(6, 4), {"compressor": {"id": "zlib", "level": 1}}),
        (np.arange(24, dtype="<i4").reshape(6, 4), {"filters": [DELTA], "compressor": ZSTD}),
        (np.arange(24.0).reshape(6, 4) / 8, {"filters": [SCALE], "compressor": {"id": "bz2"}}),
        (np.arange(24.0).reshape(6, 4), {"filters": [{"id": "shuffle", "elementsize": 8}]}),
        (np.arange(24.0).reshape(6, 4), {"compressor": {"id": "lzma"}, "separator": "/"}),
        (np.arange(24).reshape(6, 4) % 3 == 0, {"compressor": {"id": "gzip"}}),
        (np.float32(3.5).reshape(()), {}),
        (np.empty((0, 3)), {"chunks": (1, 3)}),
    ],
    ids=lambda item: str(list(item.values())[:2]) if isinstance(item, dict) else item.dtype.str,
)  # fmt: skip
def test_codecs_layouts_and_edges(values: np.ndarray, settings: dict[str, Any]) -> None:
    settings = {"chunks": (4, 3) if values.size > 1 else None} | settings
    with open_zarr(MemoryFiles(group() | array("a", values, **settings)), "store") as tree:
        found = tree.root.array("a")
        assert found is not None
        np.testing.assert_array_equal(found.read(), values)
        assert found.read().dtype == values.dtype


@pytest.mark.parametrize(
    "values", [np.array([b"left", b""]), np.array(["Läufer", "∆"])], ids=["bytes", "unicode"]
)
def test_texts_of_a_fixed_length(values: np.ndarray) -> None:
    with open_zarr(MemoryFiles(group() | array("a", values)), "store") as tree:
        found = tree.root.array("a")
        assert found is not None
        assert found.kind == "text"
        assert found.texts() == [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]


def test_a_checksum_is_the_one_that_dandi_gives(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "a.zarr", group() | array("g/a", np.arange(9), (2,)))
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("not of the store")
    before = checksum(folder)
    assert before == get_zarr_checksum(folder)
    assert before.endswith(f"-7--{sum(LocalFiles(folder).listing().values())}")
    (folder / "g" / "a" / "0").write_bytes(b"\1" * 16)
    assert checksum(folder) != before


def test_what_is_no_such_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in {
        "empty": "no .zgroup and no zarr.json",
        "absent": "there is no folder absent",
    }.items():
        with pytest.raises(UnsupportedFile, match=message), ExitStack() as stack:
            stack.enter_context(open_zarr(LocalFiles(tmp_path / name), name))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_store_makes_the_session_that_its_hdf5_file_makes(
    name: str, source: Path, converted: Convert, tmp_path: Path
) -> None:
    for folder, path in (("hdf5", source), ("zarr", converted(name))):
        (outcome,) = prepare_files(tmp_path / folder, path)
        assert outcome.status == "prepared", outcome.reason
    datasets = (Dataset(tmp_path / folder) for folder in ("hdf5", "zarr"))
    one, other = (ds[ds.sessions[0]] for ds in datasets)
    for a, b in zip(one.spike_arrays(), other.spike_arrays(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.units.equals(other.units)
    assert one.metadata.left == other.metadata.left
    assert set(one.behavior) == set(other.behavior) == {"hand", "eye", "wheel"}
    for series in one.behavior:
        for a, b in zip(one.behavior_arrays(series), other.behavior_arrays(series), strict=True):
            np.testing.assert_array_equal(a, b)
