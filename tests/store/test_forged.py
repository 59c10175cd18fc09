"""Stores written to do harm, every checksum right: an error, and no memory read but their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, StoreError
from neurobrick.storage.checksum import checksum
from neurobrick.store import SessionStore
from neurobrick.store.codec import encode
from neurobrick.store.inventory import Inventory
from neurobrick.store.zarr3 import FolderWriter
from neurobrick.tables import list_column


@pytest.fixture
def store(tmp_path: Path, corpus: Dataset, recording: Path) -> Path:
    """A copy of a small store, to change."""
    name = f"local/{recording.stem}.zarr"
    return Path(shutil.copytree(Path(corpus.root) / name, tmp_path / name))


def replace_files(store: Path, contents: Mapping[str, bytes]) -> None:
    """Give files of a store other contents, and list their checksums."""
    files = dict(Inventory.parse((store / "manifest.json").read_bytes()).files)
    for name, content in contents.items():
        (store / name).write_bytes(content)
        files[name] = (len(content), checksum(content))
    (store / "manifest.json").write_bytes(Inventory(files).dump())


def forge(store: Path, key: str, changes: Mapping[str, object]) -> None:
    """Change the metadata of a node, and list the checksums."""
    root = json.loads((store / "zarr.json").read_text())
    root["consolidated_metadata"]["metadata"][key] |= changes
    replace_files(store, {"zarr.json": json.dumps(root).encode()})


def in_chunks_of(*shape: int) -> dict[str, object]:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**12]},
        {"shape": [10**12], **in_chunks_of(10**12)},
        {"shape": [10**9], **in_chunks_of(10**9)},
        {"shape": [-5]},
        {"shape": []},
        {"shape": ["x"]},
        {"shape": None},
        in_chunks_of(0),
        in_chunks_of(-3),
        in_chunks_of(),
        {"codecs": [{"name": "bytes"}]},
        {"codecs": 3},
        {"attributes": {"rate": "fast", "offset": []}},
        {"attributes": {"rate": 0, "offset": 0}},
        {"attributes": {"rate": 30000, "offset": float("nan")}},
        {"attributes": {"rate": 30000}},
        {"attributes": None},
        {"node_type": "group"},
    ],
    ids=str,
)
def test_forged_metadata_is_an_error(store: Path, changes: dict[str, object]) -> None:
    forge(store, "spikes/time", changes)
    with pytest.raises(StoreError, match="damaged"):
        SessionStore.at(store).spikes()


# Whatever numpy makes a type of, and what it does not.
DATA_TYPES: list[Any] = [
    *("object", "O", "|O", "|O8", "float64,O", "O,O", "(2,)O", "(2,)f8", "float64", "float16"),
    *("float128", "longdouble", "complex64", "c16", "V8", "void", "S8", "|S0", "U4", "<U1000000"),
    *(
        "datetime64[ns]",
        "M8[s]",
        "timedelta64",
        "<i4",
        ">i4",
        "i4",
        "int",
        "intp",
        "INT32",
        "int32 ",
    ),
    *("nonsense", "", None, 7, True, [], ["int32"], [["a", "O"]], [["a", "i4"]], {}),
    {"names": ["a"], "formats": ["O"]},
    {"names": ["a"], "formats": ["i4"]},
    {"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 8},
    {"a": ["O", 0]},
    {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}},
    {"name": "int32"},
]

RIGHT = {"spikes/time": "int32", "domain/start": "float64"}


@pytest.mark.slow
@pytest.mark.parametrize("data_type", DATA_TYPES, ids=str)
@pytest.mark.parametrize("key", ["spikes/time", "domain/start"])
def test_a_forged_type_of_an_array_is_an_error(store: Path, key: str, data_type: object) -> None:
    forge(store, key, {"data_type": "int8" if data_type == RIGHT[key] else data_type})
    opened = SessionStore.at(store)
    with pytest.raises(StoreError, match="damaged"):
        {"spikes/time": opened.spikes, "domain/start": opened.times}[key]()


@pytest.mark.slow
@pytest.mark.parametrize("data_type", [t for t in DATA_TYPES if t != "float64"], ids=str)
def test_a_forged_type_of_values_is_an_error(store: Path, data_type: object) -> None:
    key = "behavior/cursor_pos/values"
    attributes = json.loads((store / key / "zarr.json").read_text())["attributes"]
    attributes["quantization"]["dtype"] = data_type
    forge(store, key, {"attributes": attributes})
    with pytest.raises(StoreError, match="damaged"):
        SessionStore.at(store).behavior("cursor_pos")


@pytest.mark.parametrize(
    "segments", [[[0, 2**40]], [[0, -1], [0, 3001]], [[0, 2**62], [0, 2**62]], [[0, 2999]]], ids=str
)
def test_forged_segments_are_an_error_before_memory_is_taken(
    store: Path, segments: list[list[int]]
) -> None:
    key, forged = "behavior/cursor_pos/segments", np.array(segments)
    forge(store, key, {"shape": list(forged.shape), **in_chunks_of(*forged.shape)})
    replace_files(store, {f"{key}/c/0/0": encode(forged)})
    opened = SessionStore.at(store)
    for read in (opened.behavior, opened.behavior_chunks):
        with pytest.raises(StoreError, match="damaged"):
            read("cursor_pos")


@pytest.mark.parametrize(
    "offsets", [[0, 10**9], [-8, 0], [0, 2, 1, 3], [4], [], [[0, 1]], [0.0, 1.0]]
)
def test_forged_offsets_never_reach_arrow(offsets: list[Any]) -> None:
    with pytest.raises(ValueError, match="offsets of a ragged column"):
        list_column(pa.array([1, 2, 3]), np.array(offsets))


@pytest.mark.parametrize(
    "values", [np.array(["a"]), np.zeros(1, "f2"), np.zeros(1, "M8[s]")], ids=str
)
def test_no_other_type_is_written(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(StoreError, match="a/b cannot be stored"):
        FolderWriter(tmp_path).array("a/b", values, 10, dims=("row",))
