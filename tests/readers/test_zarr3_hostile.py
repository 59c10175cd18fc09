"""Zarr v3 stores that lie, lead elsewhere or fell apart are refused: soon, in little memory."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick.errors import CorruptFile, NeurobrickError, UnsupportedFile
from neurobrick.readers.tree import Array
from neurobrick.readers.zarr.tree import open_zarr
from neurobrick.storage.zarr_files import LocalFiles
from tests.support.zarr_files import MemoryFiles, array3, group3, write_files

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
TEXT = {"name": "vlen-utf8"}
KEYS = {"name": "default", "configuration": {"separator": "/"}}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of this file may compute for long."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 10


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


def grid(*shape: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def shard(inner: Any, codecs: Any = (BYTES,), index: Any = (BYTES,), **more: Any) -> dict[str, Any]:
    settings = {"chunk_shape": inner, "codecs": list(codecs), "index_codecs": list(index)}
    return {"name": "sharding_indexed", "configuration": settings | more}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A sound store of one array a, of three chunks."""
    return group3() | array3("a", np.arange(1.0, 11.0), (4,))


@pytest.mark.parametrize("place", ["array to array", "array to bytes", "bytes to bytes", "shard"])
@pytest.mark.parametrize(
    "codec", ["pickle", "numcodecs.pickle", "numcodecs.json2", "pcodec", "../x"]
)
def test_codecs_that_are_not_on_the_list(files: dict[str, bytes], codec: str, place: str) -> None:
    codecs: Any = {
        "array to array": [codec, BYTES],
        "array to bytes": [codec],
        "bytes to bytes": [BYTES, {"name": codec, "configuration": {"id": "pickle"}}],
        "shard": [shard([2], [BYTES, codec])],
    }[place]
    with pytest.raises(UnsupportedFile, match=f"a is encoded as {codec}"):
        opened(metadata(files, codecs=codecs)).read()


@pytest.mark.parametrize(
    "changes",
    [
        {"data_type": "complex128"},
        {"data_type": {"name": "structured", "configuration": {"fields": [["a", "int32"]]}}},
        {"data_type": {"name": "object", "configuration": {}}},
        {"data_type": "r64"},
        {"chunk_grid": {"name": "rectilinear", "configuration": {}}},
        {"chunk_key_encoding": {"name": "suffix", "configuration": {}}},
        {"storage_transformers": [{"name": "elsewhere"}]},
        {"extension": {"must_understand": True}},
        {"extension": "of any kind"},
    ],
    ids=str,
)
def test_extensions_that_are_not_on_the_list(
    files: dict[str, bytes], changes: dict[str, Any]
) -> None:
    array = opened(metadata(files, **changes))
    for method in (array.check, array.read, array.texts):
        with pytest.raises(UnsupportedFile, match="a is encoded as"):
            method()


def test_an_extension_that_need_not_be_understood(files: dict[str, bytes]) -> None:
    changed = metadata(files, extension={"must_understand": False}, dimension_names=["time"])
    assert len(opened(changed).read()) == 10


@pytest.mark.parametrize(
    "claim",
    [
        {"shape": [10**12], "chunk_grid": grid(10**12)},
        {"shape": [10**12]},
        {"chunk_grid": grid(10**12)},
        {"shape": [10**6, 10**6, 10**6], "chunk_grid": grid(1, 1, 1)},
        {"shape": [10**18], "chunk_grid": grid(10**18)},
        {"shape": [10**4000], "chunk_grid": grid(1)},
        {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4 * 10**9}}},
        {
            "data_type": {
                "name": "null_terminated_bytes",
                "configuration": {"length_bytes": 2**20},
            },
            "shape": [10**9],
        },
        {"data_type": "string", "codecs": [TEXT], "shape": [10**11], "chunk_grid": grid(10**11)},
        {"shape": [10**11], "chunk_grid": grid(10**11), "codecs": [shard([1])]},
    ],
    ids=lambda claim: str(claim)[:40],
)
@pytest.mark.parametrize("written", [True, False])
def test_claims_beyond_what_is_there(
    files: dict[str, bytes], claim: dict[str, Any], written: bool
) -> None:
    if not written:
        files = {key: data for key, data in files.items() if "/c/" not in key}
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match=r"claims .* bytes|cannot be read"):
            opened(metadata(files, **claim)).read()
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "blosc"])
@pytest.mark.parametrize("kind", ["numbers", "texts", "shard"])
def test_a_chunk_that_makes_more_than_it_may(codec: str, kind: str) -> None:
    settings: dict[str, Any] = {"blosc": {"cname": "zstd"}, "zlib": {"level": 9}}
    settings["gzip"] = settings["zlib"]
    config = {"id": codec, **settings.get(codec, {})}
    bomb = bytes(numcodecs.get_codec(config).encode(struct.pack("<I", 4) + bytes(80 * 2**20)))
    name = codec if codec in ("gzip", "zstd", "blosc") else f"numcodecs.{codec}"
    files = group3() | array3("a", np.arange(1.0, 5.0))
    changes: dict[str, Any] = {"codecs": [BYTES, name]}
    if kind == "texts":
        changes = {"data_type": "string", "fill_value": "", "codecs": [TEXT, name]}
    if kind == "shard":
        changes = {"codecs": [shard([4], [BYTES, name])]}
        bomb += struct.pack("<QQ", 0, len(bomb))
    array = opened(metadata(files, **changes) | {"a/c/0": bomb})
    allowed = (200 if kind == "texts" else 16) * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match="a cannot be read"):
            array.read()
        assert tracemalloc.get_traced_memory()[1] < allowed
    finally:
        tracemalloc.stop()


def test_a_chunk_that_claims_a_billion_texts(files: dict[str, bytes]) -> None:
    changed = metadata(files, data_type="string", fill_value="", codecs=[TEXT])
    changed["a/c/0"] = struct.pack("<I", 2**31 - 1) + bytes(12)
    with pytest.raises(CorruptFile, match="a chunk of 2147483647 texts, not 4"):
        opened(changed).read()


@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip", "crc32c", "numcodecs.lz4", None])
def test_chunks_that_break_off_or_are_damaged(files: dict[str, bytes], codec: str | None) -> None:
    settings = {"compressors": {"name": codec, "configuration": {}} if codec else None}
    files = group3() | array3("a", np.random.default_rng(0).normal(size=64), with_zarr=settings)
    whole = files["a/c/0"]
    for data in (whole[:-9], whole[:3], b"\xff" * 300, whole[:2] + b"\xff\x00" + whole[4:8]):
        with pytest.raises(CorruptFile, match="a cannot be read"):
            opened(files | {"a/c/0": data}).read()


def one_shard(*index: int, size: int = 0) -> dict[str, bytes]:
    """A store of one shard of two chunks with one number each, and an index."""
    files = group3() | array3("a", np.arange(1.0, 3.0))
    data = np.arange(1.0, 3.0).tobytes() + struct.pack(f"<{len(index)}Q", *index) + bytes(size)
    return metadata(files, codecs=[shard([1])]) | {"a/c/0": data}


def test_a_sound_shard() -> None:
    assert opened(one_shard(8, 8, 0, 8)).read().tolist() == [2, 1]
    assert opened(one_shard(8, 8, 2**64 - 1, 2**64 - 1)).read().tolist() == [2, 0]


@pytest.mark.parametrize(
    "index",
    [
        (0, 8, 2**63, 8), (0, 8, 48, 8), (0, 8, 41, 8), (0, 8, 0, 2**64 - 1), (0, 8, 2**64 - 1, 8),
        (0, 8, 0, 0), (0, 8, 0, 7), (0, 8, 0, 9), (0, 8, 0), (),
    ],
    ids=str,
)  # fmt: skip
def test_the_index_of_a_shard_that_lies(index: tuple[int, ...]) -> None:
    with pytest.raises(CorruptFile, match="a cannot be read"):
        opened(one_shard(*index)).read()


@pytest.mark.parametrize(
    "codec",
    [
        shard([3]), shard([0]), shard([-1]), shard([1, 1]), shard([]), shard("1"), shard(None),
        shard([1], []), shard([1], [BYTES, BYTES]), shard([1], [7]), shard([1], [TEXT]),
        shard([1], index=[]), shard([1], index=[TEXT]), shard([1], index=[BYTES, "zstd"]),
        shard([1], index=[BYTES, "crc32c"]), shard([1.5]), shard([True]), "sharding_indexed",
    ],
    ids=lambda codec: str(codec)[40:100],
)  # fmt: skip
def test_shards_with_settings_that_are_none(codec: Any) -> None:
    with pytest.raises(CorruptFile, match="a cannot be read"):
        opened(metadata(one_shard(0, 8, 8, 8), codecs=[codec])).read()


def test_shards_in_shards_are_not_read() -> None:
    nested: Any = shard([1])
    with pytest.raises(UnsupportedFile, match="a shard in a shard"):
        opened(metadata(one_shard(0, 8, 8, 8), codecs=[shard([1], [nested])])).read()
    for _ in range(200):
        nested = shard([1], [nested])
    with pytest.raises(CorruptFile, match="a cannot be read"):
        opened(metadata(one_shard(0, 8, 8, 8), codecs=[nested])).read()


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1]}, {"shape": "10"}, {"shape": [True]}, {"shape": [1.5]}, {"shape": None},
        {"shape": [1] * 40, "chunk_grid": grid(*[1] * 40)}, {"shape": [2, 2]},
        {"chunk_grid": grid(0)}, {"chunk_grid": grid(-4)}, {"chunk_grid": grid(4, 4)},
        {"chunk_grid": grid(True)}, {"chunk_grid": {"name": "regular"}}, {"chunk_grid": 7},
        {"data_type": 7}, {"data_type": "float32"}, {"data_type": None}, {"data_type": {}},
        {"data_type": "string"}, {"data_type": {"name": "fixed_length_utf32"}},
        {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 3}}},
        {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": "x"}}},
        {"codecs": []}, {"codecs": None}, {"codecs": [7]}, {"codecs": [BYTES, BYTES]},
        {"codecs": ["zstd"]}, {"codecs": [TEXT]}, {"codecs": [BYTES] + ["zstd"] * 40},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": [1]}}, BYTES]},
        {"codecs": [{"name": "transpose", "configuration": {"order": "F"}}, BYTES]},
        {"codecs": [{"name": "transpose"}, BYTES]},
        {"codecs": [{"name": "numcodecs.delta", "configuration": {"dtype": "O"}}, BYTES]},
        {"codecs": [{"name": "numcodecs.delta", "configuration": {"dtype": "<i2"}}, BYTES]},
        {"codecs": [{"name": "numcodecs.fixedscaleoffset", "configuration": {"scale": 0}}, BYTES]},
        {"codecs": [BYTES, {"name": "numcodecs.shuffle", "configuration": {"elementsize": 0}}]},
        {"codecs": [BYTES, {"name": "numcodecs.shuffle", "configuration": {"elementsize": "x"}}]},
        {"codecs": [BYTES, {"name": "zstd", "configuration": []}]},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "\\"}}},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": {}}}},
        {"chunk_key_encoding": 7},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_contradict_themselves(
    files: dict[str, bytes], changes: dict[str, Any]
) -> None:
    with pytest.raises(CorruptFile, match=r"^a (cannot be read|claims)"):
        opened(metadata(files, **changes)).read()


@pytest.mark.parametrize("fill", [None, {}, [], "x", "0xzz", "0x00", b"".hex(), True, 10**400])
@pytest.mark.parametrize("data_type", ["float64", "int8", "bool"])
def test_fill_values_that_are_none(files: dict[str, bytes], fill: Any, data_type: str) -> None:
    empty = {key: data for key, data in files.items() if "/c/" not in key}
    if (fill, data_type) == (True, "bool"):
        pytest.skip("it is one")
    with pytest.raises(CorruptFile, match="a cannot be read"):
        opened(metadata(empty, fill_value=fill, data_type=data_type)).read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values),
    max_leaves=6,
)
FIELDS = (
    "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "zarr_format",
    "node_type", "storage_transformers", "attributes",
)  # fmt: skip


@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_json_in_any_field_is_refused_or_read(
    files: dict[str, bytes], field: str, value: Any
) -> None:
    try:
        opened(metadata(files, **{field: value})).read()
    except NeurobrickError:
        pass
    except AssertionError:  # no array any more
        assert field == "node_type"


@pytest.mark.parametrize("key", ["zarr.json", "a/zarr.json"])
@pytest.mark.parametrize(
    "garbage",
    [b"{", b"[]", b"\xff\xfe", b"7", b"", b"[" * 10**6, b'{"a":' * 10**6, b'{"a": 1' + b"0" * 9999],
    ids=lambda data: repr(data[:8]),
)
def test_metadata_that_are_no_json(files: dict[str, bytes], key: str, garbage: bytes) -> None:
    with pytest.raises(CorruptFile, match=f"store/{key} "):
        opened(files | {key: garbage})


@pytest.mark.parametrize(
    "node", [{}, {"zarr_format": 2, "node_type": "group"}, {"zarr_format": 3, "node_type": "link"}]
)
def test_nodes_of_no_known_kind(files: dict[str, bytes], node: dict[str, Any]) -> None:
    with pytest.raises(CorruptFile, match="neither a group nor an array"):
        opened(files | {"a/zarr.json": json.dumps(node).encode()})


@pytest.mark.parametrize(
    "entries",
    [
        {"a": 7},
        {"a": {}},
        {"../a": {"zarr_format": 3, "node_type": "group"}},
        {"a//": {"zarr_format": 3, "node_type": "group"}},
        {"b/c": {"zarr_format": 3, "node_type": "group"}},
        {"a/b": {"zarr_format": 3, "node_type": "group"}},
        {"": {"zarr_format": 3, "node_type": "array"}},
    ],
    ids=str,
)
def test_gathered_metadata_that_are_no_tree(files: dict[str, bytes], entries: Any) -> None:
    root = json.loads(files["zarr.json"])
    gathered = {"a": json.loads(files["a/zarr.json"])} | entries
    root["consolidated_metadata"] = {"metadata": gathered}
    with pytest.raises((CorruptFile, AssertionError)):
        opened(files | {"zarr.json": json.dumps(root).encode()}, "b")


@pytest.mark.parametrize("gathered", [7, [], {}, {"metadata": []}, {"metadata": None}])
def test_gathered_metadata_that_are_none(files: dict[str, bytes], gathered: Any) -> None:
    root = json.loads(files["zarr.json"]) | {"consolidated_metadata": gathered}
    with pytest.raises(CorruptFile, match="holds no metadata"):
        opened(files | {"zarr.json": json.dumps(root).encode()})


def test_metadata_without_end(files: dict[str, bytes]) -> None:
    class Endless(MemoryFiles):
        def listing(self) -> dict[str, int]:
            return dict(super().listing()) | {"a/zarr.json": 10**12}

    with pytest.raises(CorruptFile, match="bytes of metadata"), open_zarr(Endless(files), "store"):
        pass


def test_a_group_that_lost_its_file_is_not_left_out() -> None:
    files = group3() | group3("units") | array3("units/spike_times", np.arange(3.0))
    del files["units/zarr.json"]
    with pytest.raises(CorruptFile, match=r"store/units/spike_times/zarr\.json is in no group"):
        opened(files)


@pytest.mark.parametrize(
    "source", ["../other.nwb.zarr", "/etc", "https://example.org/x.zarr", "./x", None, 7]
)
def test_links_out_of_the_store_are_named_and_not_followed(source: Any) -> None:
    files = group3(_LINKS=[{"name": "away", "path": "/a", "source": source}])
    with open_zarr(MemoryFiles(files | array3("a", np.arange(3))), "store") as tree:
        assert tree.root.names() == ["a", "away"]
        assert tree.root.link("away") == "a link to another file, not followed"
        assert tree.root.array("away") is None
        assert tree.root.group("away") is None


def test_links_to_nowhere_out_of_the_root_and_in_circles_lead_nowhere(tmp_path: Path) -> None:
    write_files(tmp_path / "other", group3() | array3("secret", np.arange(3)))
    paths = ["/absent", "/../other/secret", "../other/secret", "/a/b", "/6/x", "/7/x", "/5/x"]
    links = [{"name": str(k), "path": path, "source": "."} for k, path in enumerate(paths)]
    folder = write_files(tmp_path / "s", group3(_LINKS=links) | array3("a", np.arange(3)))
    with open_zarr(LocalFiles(folder), "store") as tree:
        for k in range(len(paths)):
            assert tree.root.array(str(k)) is None
            assert tree.root.group(str(k)) is None


@pytest.mark.parametrize("links", [7, ["x"], [{"name": "x"}], [{"name": 1, "path": "/"}]])
def test_malformed_links(links: Any) -> None:
    with (
        open_zarr(MemoryFiles(group3(_LINKS=links)), "store") as tree,
        pytest.raises(CorruptFile, match="a link that leads nowhere"),
    ):
        tree.root.names()


@pytest.mark.parametrize("stranger", ["c/3", "c/01", "c/-1", "c/1/0", "c", "0", "c/x", "x/0"])
def test_files_that_are_no_chunks_are_not_read(files: dict[str, bytes], stranger: str) -> None:
    store = MemoryFiles(files | {f"a/{stranger}": b"x"})
    with open_zarr(store, "store") as tree:
        array = tree.root.array("a")
        assert array is not None
        assert array.read().tolist() == list(range(1, 11))
        assert array.unwritten() == 0
    assert all(f"a/{stranger}" not in keys for keys in store.reads)


def test_references_in_attributes_are_not_taken_for_values() -> None:
    files = group3(table={"_REFERENCE": {"source": ".", "path": "/etc/passwd"}})
    with open_zarr(MemoryFiles(files), "store") as tree:
        assert tree.root.attribute("table", "absent") == "absent"
        assert tree.root.attributes("table") == []
