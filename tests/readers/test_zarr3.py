"""Zarr v3 arrays by themselves: codecs, layouts, texts, and chunks that are not written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from neurobrick.errors import CorruptFile
from neurobrick.readers.formats import open_recording
from neurobrick.readers.tree import Array
from neurobrick.readers.zarr.tree import open_zarr
from tests.support.zarr_files import MemoryFiles, array3, group3

pytestmark = pytest.mark.filterwarnings("ignore:.*(specification|Numcodecs).*")

NUMBERS = np.random.default_rng(0).integers(0, 99, (7, 5))


def of_numcodecs(name: str, **settings: Any) -> dict[str, Any]:
    """A codec of numcodecs, as a `zarr.json` names it."""
    return {"name": f"numcodecs.{name}", "configuration": settings}


def opened(files: dict[str, bytes], name: str = "a") -> Array:
    """The array `name` of a store of `files`."""
    with open_zarr(MemoryFiles(files), "store") as tree:
        array = tree.root.array(name)
        assert array is not None
        return array


def metadata(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """`files` with other entries in the metadata of the array a."""
    changed = json.loads(files["a/zarr.json"]) | changes
    return files | {"a/zarr.json": json.dumps(changed).encode()}


CODECS: dict[str, dict[str, Any]] = {
    "nothing": {"compressors": None},
    "blosc with shuffle": {"compressors": BloscCodec(cname="lz4", shuffle="shuffle")},
    "blosc with bitshuffle": {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle")},
    "gzip": {"compressors": GzipCodec(level=1)},
    "zstd with a checksum": {"compressors": ZstdCodec(checksum=True)},
    "crc32c": {"compressors": Crc32cCodec()},
    "zstd and crc32c": {"compressors": [ZstdCodec(), Crc32cCodec()]},
    "transpose": {"filters": TransposeCodec(order=(1, 0))},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "zlib of numcodecs": {"compressors": of_numcodecs("zlib", level=1)},
    "lzma of numcodecs": {"compressors": of_numcodecs("lzma")},
    "bz2 of numcodecs": {"compressors": of_numcodecs("bz2")},
    "lz4 of numcodecs": {"compressors": of_numcodecs("lz4")},
    "zstd of numcodecs": {"compressors": of_numcodecs("zstd")},
    "blosc of numcodecs": {"compressors": of_numcodecs("blosc")},
    "shuffle and zlib": {"compressors": [of_numcodecs("shuffle", elementsize=2)]},
    "twice compressed": {"compressors": [GzipCodec(), ZstdCodec()]},
    "dotted keys": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "keys of Zarr 2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "shards": {"shards": (4, 6)},
    "shards with blosc": {"shards": (8, 6), "compressors": BloscCodec()},
    "shards of transposed chunks": {"shards": (4, 6), "filters": TransposeCodec(order=(1, 0))},
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", ["<i8", "<u2", "<f4", "<f8", "bool"])
def test_what_zarr_writes_is_what_is_read(name: str, dtype: str) -> None:
    values = NUMBERS.astype(dtype)
    array = opened(group3() | array3("a", values, (2, 3), with_zarr=CODECS[name]))
    assert array.kind == "number"
    assert array.shape == values.shape
    assert array.read().dtype == array.dtype == values.dtype
    np.testing.assert_array_equal(array.read(), values)


def test_filters_of_numbers() -> None:
    for codec in (
        of_numcodecs("delta", dtype="<i8"),
        of_numcodecs("fixedscaleoffset", offset=1, scale=8, dtype="<i8", astype="<i4"),
    ):
        files = group3() | array3("a", NUMBERS, (2, 3), with_zarr={"filters": codec})
        np.testing.assert_array_equal(opened(files).read(), NUMBERS)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 1, 1)])
@pytest.mark.parametrize("dtype", ["f8", "i2"])
def test_edges_of_shape(shape: tuple[int, ...], dtype: str) -> None:
    values = np.full(shape, 3, dtype)
    array = opened(group3() | array3("a", values))
    assert array.shape == shape
    np.testing.assert_array_equal(array.read(), values)


@pytest.mark.parametrize(
    "values",
    [
        np.array(["Läufer", "", "∆"], dtype=np.dtypes.StringDType()),
        np.array([["a", "b"], ["c", "dd"]], dtype=np.dtypes.StringDType()),
        np.array("alone", dtype=np.dtypes.StringDType()),
        np.array(["Läufer", "∆"]),
        np.array([b"left", b""]),
    ],
    ids=["any length", "two axes", "scalar", "fixed length", "bytes"],
)
@pytest.mark.parametrize("sharded", [False, True])
def test_texts(values: np.ndarray, sharded: bool) -> None:
    shards = tuple(max(n, 1) for n in values.shape)
    settings = {"shards": shards} if sharded and values.ndim else {}
    files = group3() | array3("a", values, (1,) * values.ndim, with_zarr=settings)
    array = opened(files)
    assert array.kind == "text"
    texts = [v.decode() if isinstance(v, bytes) else v for v in values.reshape(-1).tolist()]
    assert array.texts() == texts


@pytest.mark.parametrize("fill", [0, 7, -1.5, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shards", [None, (4,)])
def test_a_chunk_that_is_not_written_is_the_fill_value(fill: float, shards: Any) -> None:
    values = np.r_[np.full(4, fill), np.arange(4.0), np.full(3, fill)]
    settings = {"fill_value": fill, "shards": shards}
    array = opened(group3() | array3("a", values, (2,), with_zarr=settings))
    np.testing.assert_array_equal(array.read(), values)
    assert array.unwritten() == (2 if shards else 4)


@pytest.mark.parametrize(("dtype", "fill"), [("u1", 200), ("i8", -(2**60)), ("bool", True)])
def test_an_array_without_a_chunk_is_its_fill_value(dtype: str, fill: Any) -> None:
    values = np.full(5, fill, dtype)
    files = group3() | array3("a", values, (2,), with_zarr={"fill_value": fill})
    assert [key for key in files if "/c" in key] == []
    np.testing.assert_array_equal(opened(files).read(), values)


def test_a_fill_value_in_hexadecimal() -> None:
    files = group3() | array3("a", np.zeros(5, "f4"))
    assert opened(metadata(files, fill_value="0x3fc00000")).read().tolist() == [1.5] * 5


@pytest.mark.parametrize("lost", ["units/spike_times", "units/spike_times_index"])
def test_a_lost_chunk_of_spikes_is_no_silence(lost: str) -> None:
    files = group3(nwb_version="2.11.0") | group3("units", colnames=["spike_times"])
    files |= array3("units/id", np.arange(4), (4,))
    files |= array3("units/spike_times", np.arange(1.0, 9.0), (3,))
    files |= array3("units/spike_times_index", np.arange(2, 10, 2), (2,))
    with open_recording(MemoryFiles(files), "whole") as recording:
        assert recording.units is not None
        assert recording.units.spike_times().tolist() == list(range(1, 9))
    del files[f"{lost}/c/0"]
    with pytest.raises(CorruptFile, match="lacks"), open_recording(MemoryFiles(files), "lossy"):
        pass


def test_timestamps_with_a_lost_chunk_are_left() -> None:
    files = group3(nwb_version="2.11.0") | group3("acquisition") | group3("acquisition/wheel")
    files |= array3("acquisition/wheel/data", np.arange(1.0, 7.0))
    files |= array3("acquisition/wheel/timestamps", np.arange(1.0, 7.0), (2,))
    del files["acquisition/wheel/timestamps/c/1"]
    with open_recording(MemoryFiles(files), "lossy") as recording:
        assert [(one.path, one.reason) for one in recording.left] == [
            ("acquisition/wheel", "its timestamps lack 1 chunks")
        ]


def test_references_are_known_and_not_read() -> None:
    texts = np.array(["/units", "/general"], dtype=np.dtypes.StringDType())
    array = opened(group3() | array3("a", texts, _DTYPE="object_reference"))
    assert array.kind == "reference"
