"""NWB-Zarr stores that lie, lead elsewhere or fell apart are refused: soon, in little memory."""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

from neurobrick.errors import CorruptFile, UnsupportedFile
from neurobrick.readers.tree import Array
from neurobrick.readers.zarr.tree import open_zarr
from neurobrick.sources.digests import zarr_checksum_of as checksum
from neurobrick.storage.zarr_files import LocalFiles
from tests.support.zarr_files import MemoryFiles, array, group, write_files

BLOSC = {"id": "blosc", "cname": "lz4"}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of this file may compute for long."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 10


def opened(files: dict[str, bytes], name: str = "a") -> Array:
    """The array `name` of a store of `files`."""
    with open_zarr(MemoryFiles(files), "store") as tree:
        found = tree.root.array(name)
        assert found is not None
        return found


def metadata(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """`files` with other entries in the metadata of the array a."""
    changed = json.loads(files["a/.zarray"]) | changes
    return files | {"a/.zarray": json.dumps(changed).encode()}


@pytest.fixture
def files() -> dict[str, bytes]:
    """A sound store of one array a, of three chunks."""
    return group() | array("a", np.arange(10.0), (4,), BLOSC)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(("zarr_dtype", "kind"), [("object", "reference"), ("scalar", "other")])
def test_pickled_objects_are_never_decoded(tmp_path: Path, zarr_dtype: str, kind: str) -> None:
    made = tmp_path / "made"
    payload = pickle.dumps(Payload(made))
    files = group() | array("a", np.zeros(1), zarr_dtype=zarr_dtype)
    files["a/0"] = payload
    files = metadata(
        files,
        dtype="|O",
        filters=[{"id": "pickle", "protocol": 5}],
        fill_value=base64.b64encode(payload).decode(),
    )
    with open_zarr(MemoryFiles(files), "store") as tree:
        found = tree.root.array("a")
        assert found is not None
        assert found.kind == kind
        tree.prefetch([found])
        for method in (found.check, found.read, found.texts):
            with pytest.raises(UnsupportedFile, match="a is encoded as pickle"):
                method()
    assert not made.exists()
    pickle.loads(payload)
    assert made.exists(), "the payload is live"


@pytest.mark.parametrize("codec", ["pickle", "json2", "msgpack2", "categorize", "wavpack", "../x"])
@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_codecs_that_are_not_on_the_list(files: dict[str, bytes], codec: Any, place: str) -> None:
    config = {"id": codec}
    found = opened(metadata(files, **{place: config if place == "compressor" else [config]}))
    with pytest.raises(UnsupportedFile, match=f"a is encoded as {codec}"):
        found.read()


@pytest.mark.parametrize(
    "source", ["../other.nwb.zarr", "/etc", "https://example.org/x.zarr", "", "./x", None, 7]
)
def test_links_out_of_the_store_are_named_and_not_followed(source: Any) -> None:
    inside = source == ""
    link = {"name": "away", "path": "/a", "source": source}
    files = MemoryFiles(group(zarr_link=[link]) | array("a", np.arange(3)))
    with open_zarr(files, "store") as tree:
        assert "away" in tree.root
        assert tree.root.names() == ["a", "away"]
        if inside:
            assert tree.root.link("away") == "a link to /a"
        else:
            assert tree.root.link("away") == "a link to another file, not followed"
            assert tree.root.array("away") is tree.root.group("away") is None


def test_links_to_nowhere_and_out_of_the_root_lead_nowhere(tmp_path: Path) -> None:
    write_files(tmp_path / "other", group() | array("secret", np.arange(3)))
    names = ["/absent", "/../other/secret", "../other/secret", "/a/b", "//"]
    links = [{"name": str(k), "path": path, "source": "."} for k, path in enumerate(names)]
    folder = write_files(tmp_path / "s", group(zarr_link=links) | array("a", np.arange(3)))
    with open_zarr(LocalFiles(folder), "store") as tree:
        assert [tree.root.array(str(k)) for k in range(5)] == [None] * 5
        assert [tree.root.group(str(k)) for k in range(4)] == [None] * 4
        assert tree.root.array("../other/secret") is None


def test_a_circle_of_links_ends() -> None:
    links = [
        {"name": "one", "path": "/two/x", "source": "."},
        {"name": "two", "path": "/one/x", "source": "."},
        {"name": "self", "path": "/self", "source": "."},
        {"name": "root", "path": "/", "source": "."},
    ]
    with open_zarr(MemoryFiles(group(zarr_link=links)), "store") as tree:
        for name in ("one", "two", "self"):
            assert tree.root.group(name) is tree.root.array(name) is None
        root = tree.root.group("root")
        assert root is not None
        assert root.identity == tree.root.identity


@pytest.mark.parametrize("links", [7, ["x"], [{"name": "x"}], [{"name": 1, "path": "/"}]])
def test_malformed_links(links: Any) -> None:
    with (
        open_zarr(MemoryFiles(group(zarr_link=links)), "store") as tree,
        pytest.raises(CorruptFile, match="a link that leads nowhere"),
    ):
        tree.root.names()


def test_a_chunk_that_links_out_of_the_folder(tmp_path: Path, files: dict[str, bytes]) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(files["a/1"])
    folder = write_files(tmp_path / "s.zarr", files)
    with open_zarr(LocalFiles(folder), "store") as tree:  # the link is put there afterwards
        found = tree.root.array("a")
        assert found is not None
        (folder / "a" / "1").unlink()
        (folder / "a" / "1").symlink_to(secret)
        with pytest.raises(CorruptFile, match="store/a/1 has 0 of its"):
            found.read()
    for use in (checksum, lambda folder: open_zarr(LocalFiles(folder), "store").__enter__()):
        with pytest.raises(CorruptFile, match=r"s\.zarr/a/1 is a symbolic link"):
            use(folder)


def test_a_folder_that_links_out_and_a_pipe(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_files(tmp_path / "other", files)
    linked = write_files(tmp_path / "linked.zarr", group())
    (linked / "a").symlink_to(tmp_path / "other" / "a")
    piped = write_files(tmp_path / "piped.zarr", files)
    (piped / "a" / "1").unlink()
    os.mkfifo(piped / "a" / "1")
    for folder, entry in ((linked, "a is a symbolic link"), (piped, "a/1 is no regular file")):
        with pytest.raises(CorruptFile, match=entry):
            LocalFiles(folder).listing()
    assert LocalFiles(linked).read(["a/0", "../other/a/0", "/etc/hostname", ".zgroup"]).keys() == {
        ".zgroup"
    }


def test_a_store_may_itself_be_reached_by_a_link(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_files(tmp_path / "there", files)
    (tmp_path / "here").symlink_to(tmp_path / "there")
    with open_zarr(LocalFiles(tmp_path / "here"), "store") as tree:
        found = tree.root.array("a")
        assert found is not None
        assert found.read().tolist() == list(range(10))


@pytest.mark.parametrize(
    "claim",
    [
        {"shape": [10**12], "chunks": [10**12]},
        {"shape": [10**12], "chunks": [4]},
        {"chunks": [10**12]},
        {"shape": [10**6, 10**6, 10**6], "chunks": [1, 1, 1]},
        {"shape": [10**4000], "chunks": [1]},
        {"shape": [10**4000, 10**4000], "chunks": [1, 1]},
        {"dtype": "<U1000000000"},
        {"dtype": "|S0", "shape": [10**12], "chunks": [10**12]},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "shape": [10**11], "chunks": [10**11]},
    ],
    ids=lambda claim: str(claim)[:40],
)
def test_claims_beyond_what_is_there(files: dict[str, bytes], claim: dict[str, Any]) -> None:
    with pytest.raises(CorruptFile, match=r"claims .* bytes|cannot be read"):
        opened(metadata(files, **claim)).read()


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"id": "zlib", "level": 9}, {"id": "gzip", "level": 9}, {"id": "bz2"}, {"id": "lzma"},
        {"id": "zstd"}, {"id": "lz4"}, {"id": "blosc", "cname": "zstd"},
    ],
    ids=str,
)  # fmt: skip
# Numbers are as many as they are; texts may be as long as the tree's bounds allow.
@pytest.mark.parametrize(("text", "allowed"), [(False, 16 * 2**20), (True, 200 * 2**20)])
def test_a_chunk_that_makes_more_than_it_may(
    config: dict[str, Any], text: bool, allowed: int
) -> None:
    bomb = bytes(numcodecs.get_codec(config).encode(struct.pack("<I", 4) + bytes(80 * 2**20)))
    if config["id"] == "zstd":
        bomb = bytes(numcodecs.get_codec(config).encode(bytes(32))) + bomb
    files = group() | array("a", np.arange(4.0), None, config)
    files["a/0"] = bomb
    if text:
        files = metadata(files, dtype="|O", filters=[{"id": "vlen-bytes"}])
    found = opened(files)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match="a cannot be read"):
            found.read()
        assert tracemalloc.get_traced_memory()[1] < allowed
    finally:
        tracemalloc.stop()


def test_a_chunk_that_claims_a_billion_texts() -> None:
    files = group() | array("a", np.zeros(4, "S4"))
    files["a/0"] = struct.pack("<I", 2**31 - 1) + bytes(12)
    with pytest.raises(CorruptFile, match="a chunk of 2147483647 texts, not 4"):
        opened(metadata(files, dtype="|O", filters=[{"id": "vlen-utf8"}])).read()


def test_chunks_that_are_lost_are_no_silence(files: dict[str, bytes]) -> None:
    some = {key: data for key, data in files.items() if key != "a/1"}
    with pytest.raises(CorruptFile, match="a has 2 of its 3 chunks"):
        opened(some).check()
    stranger = some | {"a/7": files["a/1"]}
    with pytest.raises(CorruptFile, match="a has 2 of its 3 chunks"):
        opened(stranger).read()
    none = {key: data for key, data in some.items() if key not in ("a/0", "a/2")}
    with pytest.raises(CorruptFile, match="and holds none"):
        opened(none).check()


@pytest.mark.parametrize("codec", [None, "blosc", "lz4", "zstd", "zlib", "gzip", "bz2", "lzma"])
def test_chunks_that_break_off_or_are_damaged(codec: str | None) -> None:
    config = {"id": codec} if codec else None
    files = group() | array("a", np.random.default_rng(0).normal(size=64), None, config)
    whole = files["a/0"]
    for data in (whole[:-9], whole[:3], b"", b"\xff" * 300, whole[:2] + b"\xff\x00" + whole[4:8]):
        with pytest.raises(CorruptFile, match=r"a cannot be read|holds none"):
            opened(files | {"a/0": data}).read()


def test_a_file_that_got_shorter_while_it_was_fetched(files: dict[str, bytes]) -> None:
    store = MemoryFiles(dict(files))
    with open_zarr(store, "store") as tree:
        found = tree.root.array("a")
        assert found is not None
        store.files["a/2"] = store.files["a/2"][:-1]
        with pytest.raises(CorruptFile, match="store/a/2 has "):
            tree.prefetch([found])


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1]}, {"chunks": [-4]}, {"chunks": [0]}, {"chunks": [4, 4]}, {"shape": "10"},
        {"shape": [True]}, {"shape": [1.5]}, {"shape": None},
        {"shape": [1] * 40, "chunks": [1] * 40},
        {"zarr_format": 3}, {"dtype": "banana"}, {"dtype": 7}, {"dtype": "<f4"}, {"dtype": "<f16"},
        {"order": "X"}, {"compressor": "blosc"}, {"compressor": {"id": {}}}, {"compressor": {}},
        {"compressor": {"id": "zlib"}},
        {"filters": {"id": "delta"}}, {"filters": [{"id": "delta", "dtype": "O"}]},
        {"filters": [{"id": "delta", "dtype": "<i2"}]},
        {"filters": [{"id": "fixedscaleoffset", "astype": "<f8"}]},
        {"filters": [{"id": "fixedscaleoffset", "astype": "<f8", "scale": 0}]},
        {"filters": [{"id": "shuffle", "elementsize": "x"}]}, {"dimension_separator": "\\"},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_contradict_themselves(
    files: dict[str, bytes], changes: dict[str, Any]
) -> None:
    with pytest.raises(CorruptFile, match=r"^a cannot be read"):
        opened(metadata(files, **changes)).read()


@pytest.mark.parametrize("key", ["a/.zarray", "a/.zattrs", ".zattrs", ".zmetadata"])
@pytest.mark.parametrize(
    "garbage",
    [b"{", b"[]", b"\xff\xfe", b"7", b"", b"[" * 10**6, b'{"a":' * 10**6, b'{"a": 1' + b"0" * 9999],
    ids=lambda data: repr(data[:8]),
)
def test_metadata_that_are_no_json(files: dict[str, bytes], key: str, garbage: bytes) -> None:
    with pytest.raises(CorruptFile, match=f"store/{key} "):
        opened(files | {key: garbage})


@pytest.mark.parametrize(
    "entries",
    [{"a/.zarray": 7}, {"../a/.zarray": {}, "../.zgroup": {}}, {"a//.zgroup": {}}, {".zarray": {}}],
)
def test_gathered_metadata_that_are_no_tree(files: dict[str, bytes], entries: Any) -> None:
    gathered = {key: json.loads(files[key]) for key in (".zgroup", "a/.zarray")} | entries
    data = json.dumps({"metadata": gathered}).encode()
    with pytest.raises(CorruptFile, match="store"):
        opened(files | {".zmetadata": data})


def test_metadata_without_end(files: dict[str, bytes]) -> None:
    class Endless(MemoryFiles):
        def listing(self) -> dict[str, int]:
            return dict(super().listing()) | {"a/.zattrs": 10**12}

    store = Endless(files)
    with (
        pytest.raises(CorruptFile, match="bytes of metadata"),
        open_zarr(store, "store"),
    ):
        pass
    assert store.reads == []


def test_a_group_that_lost_its_file_is_not_left_out() -> None:
    files = group() | group("units") | array("units/spike_times", np.arange(3.0))
    del files["units/.zgroup"]
    with pytest.raises(CorruptFile, match=r"store/units/spike_times/\.zarray is in no group"):
        opened(files)
