"""What is written is whole, checked, and readable without neurobrick."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Dataset, StoreError
from neurobrick.schema import FORMAT_VERSION, Scaling
from neurobrick.store import SessionStore, damage
from neurobrick.store.codec import decode
from neurobrick.store.columns import from_arrays, to_arrays
from neurobrick.store.quantize import quantize
from neurobrick.store.zarr3 import FolderWriter, chunk_names, chunk_rows
from tests.conftest import prepare_files


@pytest.fixture
def store(tmp_path: Path, recording: Path) -> Path:
    prepare_files(tmp_path, recording)
    return tmp_path / "local" / f"{recording.stem}.zarr"


def test_plain_zarr_reads_a_store(store: Path, corpus: Dataset) -> None:
    group = zarr.open_group(store, mode="r")
    time = group["spikes/time"]
    times = time[:] / time.attrs["rate"] + time.attrs["offset"]
    session = corpus[f"local/{store.stem}"]
    np.testing.assert_array_equal(times, session.slice(*session.span).spikes.times)
    assert group.attrs["neurobrick"]["id"] == session.id
    node = group["behavior/cursor_pos/values"]
    formula = node.attrs["quantization"]
    values = (node[:] / formula["steps"] * formula["gain"] + formula["offset"]) * formula["factor"]
    read = session.behavior_arrays("cursor_pos")[1]
    np.testing.assert_array_equal(values.astype(formula["dtype"]), read)


def test_tensorstore_reads_a_store(store: Path, corpus: Dataset) -> None:
    def read(key: str) -> np.ndarray:
        place = {"driver": "file", "path": str(store / key)}
        return ts.open({"driver": "zarr3", "kvstore": place}).result().read().result()

    rate = json.loads((store / "spikes/time/zarr.json").read_text())["attributes"]["rate"]
    times, units = corpus[f"local/{store.stem}"].spike_arrays()
    np.testing.assert_array_equal(read("spikes/time") / rate, times)
    np.testing.assert_array_equal(read("spikes/unit"), units)
    assert read("behavior/cursor_pos/values").shape == (3000, 2)


def test_xarray_reads_a_store_and_scales_its_values(store: Path, corpus: Dataset) -> None:
    session = corpus[f"local/{store.stem}"]
    with xr.open_datatree(store, engine="zarr") as tree:
        assert tree["spikes"].sizes["spike"] == session.n_spikes
        assert tree["units"].sizes["units.row"] == session.n_units
        series = tree["behavior/cursor_pos"]
        assert series.attrs["unit"] == "m"
        np.testing.assert_allclose(series["values"], session.behavior_arrays("cursor_pos")[1])
        trials = tree["intervals/trials"]["start"]
        np.testing.assert_array_equal(trials, session.intervals["trials"]["start"])


@pytest.mark.parametrize(
    ("source", "scaling", "dtype"),
    [
        (np.arange(-900, 900, dtype=np.int16).reshape(-1, 2), Scaling(0.01, 0.5, 1.0), "float32"),
        (np.arange(60_000, dtype=np.uint16).reshape(-1, 1), Scaling(), "float32"),
        (np.round(np.linspace(-3, 7, 999), 3)[:, None], Scaling(0.001), "float64"),
        (np.round(np.linspace(-3, 7, 999), 2)[:, None], Scaling(1.0, 0.0, np.pi / 180), "float64"),
        (np.array([[1.5, np.nan], [2.5, -2.5]]), Scaling(0.01), "float64"),
    ],
    ids=["steps", "pixels", "rounded", "degrees", "gaps"],
)
def test_values_on_a_grid_are_kept_as_integers_and_come_back(
    source: np.ndarray, scaling: Scaling, dtype: str
) -> None:
    values = ((source * scaling.gain + scaling.offset) * scaling.factor).astype(dtype)
    found = quantize(values, scaling)
    assert found is not None
    formula, k = found
    assert k.dtype in (np.int16, np.int32)
    np.testing.assert_array_equal(formula.values(k), values)
    assert formula.values(k).dtype == values.dtype


@given(
    st.lists(st.floats(width=64), min_size=1, max_size=40),
    st.sampled_from([Scaling(), Scaling(0.001), Scaling(0.3, -2.0, 0.01)]),
)
def test_values_are_never_kept_as_integers_that_do_not_give_them_back(
    numbers: list[float], scaling: Scaling
) -> None:
    values = np.array(numbers).reshape(-1, 1)
    found = quantize(values, scaling)
    if found is not None:
        np.testing.assert_array_equal(found[0].values(found[1]), values)


def test_spike_times_on_a_grid_are_kept_as_32_bit_ticks(store: Path) -> None:
    time = zarr.open_array(store / "spikes/time", mode="r")
    assert time.dtype == np.int32


def test_a_fresh_store_has_no_damage(store: Path) -> None:
    assert damage(store) == []


def test_a_flipped_bit_is_found_and_not_read(store: Path) -> None:
    chunk = store / "spikes/time/c/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)
    assert damage(store) == ["spikes/time/c/0 does not match its checksum"]
    with pytest.raises(StoreError, match="damaged"):
        SessionStore.at(store).spikes()


@pytest.mark.parametrize("key", ["spikes/unit", "behavior/cursor_pos/values", "domain/start"])
def test_a_missing_chunk_is_no_silence(store: Path, key: str) -> None:
    next(path for path in (store / key / "c").rglob("*") if path.is_file()).unlink()
    opened = SessionStore.at(store)

    def read() -> None:
        opened.spikes()
        opened.times()
        opened.behavior("cursor_pos")

    with pytest.raises(StoreError, match=f"lacks .*{key}"):
        read()


@pytest.mark.slow
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(1, 3)),
    rows=st.integers(1, 50),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "int32", "int64", "float32", "float64"]),
)
def test_arrays_come_back_as_they_were_and_as_zarr_reads_them(
    shape: tuple[int, int], rows: int, dtype: str
) -> None:
    data = np.random.default_rng(0).integers(0, 2**40, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        FolderWriter(Path(folder)).array("a/b", data, rows, dims=("row", "column"))
        by_zarr = zarr.open_array(Path(folder) / "a/b", mode="r")[...]
        whole = np.zeros((0, shape[1]), dtype)
        length = chunk_rows(len(data), rows)
        for name, _ in chunk_names("a/b", len(data), 2, length):
            chunk = np.empty((length, shape[1]), dtype)
            decode((Path(folder) / name).read_bytes(), chunk)
            whole = np.concatenate([whole, chunk])
    for back in (whole[: len(data)], by_zarr):
        assert back.dtype == data.dtype
        np.testing.assert_array_equal(back, data)


def test_a_chunk_in_the_place_of_another_is_found_and_not_read(tmp_path: Path) -> None:
    """Each is a chunk with a right checksum of its own, and of the same size as the other."""
    writer = FolderWriter(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        writer.array(name, rng.integers(0, 256, 4096, dtype=np.uint8), 10**6, dims=("row",))
    (size, crc), (other_size, other_crc) = (writer.files[f"{name}/c/0"] for name in ("a", "b"))
    assert size == other_size
    assert crc != other_crc, "as a crc32c over chunks and their crc32c would be"


def test_missing_truncated_and_foreign_files_are_found(store: Path) -> None:
    (store / "spikes/unit/c/0").unlink()
    cut = store / "spikes/time/c/0"
    cut.write_bytes(cut.read_bytes()[:-3])
    (store / "notes.txt").write_text("not ours")
    faults = damage(store)
    assert any("spikes/unit/c/0 is missing" in fault for fault in faults)
    assert any("spikes/time/c/0 has" in fault for fault in faults)
    assert any("notes.txt is not part" in fault for fault in faults)


def test_a_store_without_its_manifest_does_not_open(store: Path) -> None:
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match="no whole store"):
        SessionStore.at(store)


@pytest.mark.parametrize(("version", "advice"), [(1, "prepare --force"), (9, "upgrade")])
def test_other_format_versions_are_refused(store: Path, version: int, advice: str) -> None:
    manifest = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(
        manifest.replace(f'"format_version":{FORMAT_VERSION}', f'"format_version":{version}')
    )
    with pytest.raises(StoreError, match=advice):
        SessionStore.at(store)
    (fault,) = damage(store)
    assert f"format version {version}" in fault


def test_a_missing_corpus_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neurobrick prepare"):
        Dataset(tmp_path / "nowhere")


def test_an_unknown_session_says_what_to_do(corpus: Dataset) -> None:
    with pytest.raises(StoreError, match="neurobrick list"):
        corpus["local/nobody"]


def test_a_session_survives_pickling(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-regular"]
    times = pickle.loads(pickle.dumps(session)).slice(1, 2).spikes.times
    np.testing.assert_array_equal(times, session.slice(1, 2).spikes.times)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "ü/ x", "a"]),
        pa.array([True, False, True]),
        pa.array([1.5, float("nan")]),
        pa.array([[1, 2], [], [3]]),
        pa.array([["x"], [], ["y", "x"]]),
        pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
        pa.array([], pa.string()),
        pa.array([], pa.float64()),
    ],
    ids=str,
)
def test_columns_come_back(column: pa.Array) -> None:
    back = from_arrays(to_arrays(pa.chunked_array([column])))
    assert back.type == column.type
    assert str(back.to_pylist()) == str(column.to_pylist())


@pytest.mark.slow
def test_a_killed_prepare_leaves_no_store_that_opens(tmp_path: Path, recording: Path) -> None:
    """Killed as it writes the manifest: nothing opens, and the next run sweeps and completes."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from neurobrick.store import writer
        writer.write_manifest = lambda path, manifest: os.kill(os.getpid(), signal.SIGKILL)
        from tests.conftest import prepare_files
        prepare_files(Path(sys.argv[1]), Path(sys.argv[2]))
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(recording)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "local").iterdir() if not p.name.startswith(".")] == []
    assert any((tmp_path / "local").iterdir())
    prepare_files(tmp_path, recording)
    assert os.listdir(tmp_path / "local") == [f"{recording.stem}.zarr"]  # noqa: PTH208
    assert damage(tmp_path / "local" / f"{recording.stem}.zarr") == []
