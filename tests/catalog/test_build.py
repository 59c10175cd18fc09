"""The catalogue lists every session that can be read, whatever the others are like."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Dataset, Intervals, SessionMetadata, StoreError, catalog
from neurobrick.catalog.build import dump, join
from neurobrick.catalog.tables import Catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.storage import open_storage
from neurobrick.storage.checksum import checksum
from neurobrick.store import write_store
from neurobrick.store.inventory import Inventory

PROVENANCE = Provenance(path="x", size=0, digest="", neurobrick="", spec_hash="")


def write(root: Path, name: str, units: pa.Table | None = None, **fields: Any) -> Path:
    """Write a session of one second with these tables; returns its store."""
    domain = Intervals([0.0], [1.0])
    units = pa.table({"id": [1, 2]}) if units is None else units
    session = SessionData(
        metadata=SessionMetadata(id=f"a/{name}", dataset="a", provenance=PROVENANCE, target="pos"),
        spike_times=np.arange(5) / 10,
        spike_units=np.zeros(5, np.int64),
        units=units,
        behavior={"pos": Series(np.arange(9) / 10, np.zeros((9, 2)), "m", "pos", "m")},
        intervals={"trials": fields.get("trials", pa.table({"start": [0.0], "stop": [0.5]}))},
        domain=domain,
        evaluation=domain,
        splits={"train": domain},
    )
    path = root / f"a/{name}.zarr"
    write_store(session, path)
    return path


# Columns that arrow cannot hold in one type with each other, or only with another value.
COLUMNS = {
    "negative": pa.array([-1, -2]),
    "beyond int64": pa.array([2**63 + 5, 2**64 - 1], pa.uint64()),
    "beyond double": pa.array([2**53 + 1, 3]),
    "fractions": pa.array([0.5, float("nan")]),
    "single": pa.array([0.1, 2.0], pa.float32()),
    "text": pa.array(["a", "b"]),
    "booleans": pa.array([True, False]),
    "lists": pa.array([[1, 2], []]),
    "lists beyond": pa.array([[2**63 + 5], []], pa.list_(pa.uint64())),
    "lists of text": pa.array([["a"], []]),
    "pairs": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0]), 2),
}


@pytest.mark.parametrize("first", COLUMNS)
@pytest.mark.parametrize("second", COLUMNS)
def test_columns_of_any_two_types_are_listed_together(first: str, second: str) -> None:
    keys = {"session": ["s", "s"], "row": [0, 1]}
    tables = [
        pa.table({**keys, "id": COLUMNS[name], "same": ["x", "y"]}) for name in (first, second)
    ]
    units = join([{"units": table} for table in (*tables, pa.table(keys))])["units"]
    assert units["same"].to_pylist() == ["x", "y", "x", "y", None, None]
    values = [value for name in (first, second) for value in COLUMNS[name].to_pylist()]
    kept = units["id"].to_pylist()
    assert kept[4:] == [None, None]
    for value, listed in zip(values, kept, strict=False):
        nan = isinstance(value, float) and np.isnan(value)
        assert listed == value or listed == str(value) or (nan and np.isnan(listed))


@given(
    st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1)) | st.lists(st.integers(0, 2**64 - 1)),
        min_size=1,
        max_size=4,
    )
)
def test_whole_numbers_are_kept_whatever_their_type(columns: list[list[int]]) -> None:
    tables = []
    for values in columns:
        kind = pa.uint64() if any(value >= 2**63 for value in values) else pa.int64()
        keys = {"session": ["s"] * len(values), "row": pa.array(range(len(values)), pa.int64())}
        tables.append({"units": pa.table({**keys, "id": pa.array(values, kind)})})
    ids = join(tables)["units"]["id"].to_pylist()
    assert [int(value) for value in ids] == [value for values in columns for value in values]


def test_sessions_with_ids_of_different_types_are_both_listed(tmp_path: Path) -> None:
    """Hashes as ids in one file, counted ids in the other."""
    write(tmp_path, "counted")
    write(tmp_path, "hashed", pa.table({"id": np.array([2**63 + 5, 7], np.uint64)}))
    assert catalog.build(tmp_path) == []
    ds = Dataset(tmp_path)
    assert ds.catalog.units["id"].to_pylist() == ["1", "2", str(2**63 + 5), "7"]
    assert ds["a/hashed"].units["id"].to_pylist() == [2**63 + 5, 7]
    assert ds.select(units='id == "7"').sessions == ["a/hashed"]


def test_a_files_column_never_hides_the_catalogues(tmp_path: Path) -> None:
    names = ("session", "row", "spikes", "rate_hz", "session_in_file", "row_in_file")
    write(tmp_path, "s", pa.table({name: [f"{name} 0", f"{name} 1"] for name in names}))
    assert catalog.build(tmp_path) == []
    units = Dataset(tmp_path).catalog.units
    assert units["row"].to_pylist() == [0, 1]
    kept = {tuple(units[name].to_pylist()) for name in units.column_names}
    assert {(f"{name} 0", f"{name} 1") for name in names} <= kept


def change(store: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change a store's zarr.json, and its manifest.json so that it fits."""
    path = store / "zarr.json"
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_bytes(json.dumps(content).encode())
    manifest = json.loads((store / "manifest.json").read_bytes())
    files = {name: tuple(entry) for name, entry in manifest["files"].items()}
    files["zarr.json"] = (path.stat().st_size, checksum(path.read_bytes()))
    (store / "manifest.json").write_bytes(Inventory(files).dump())


def nodes(content: dict[str, Any]) -> dict[str, Any]:
    return content["consolidated_metadata"]["metadata"]


ODD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a subject that is no UTF-8": lambda c: c["attributes"]["neurobrick"]["subject"].update(
        id="\ud800"
    ),
    "a subject that is a number": lambda c: c["attributes"]["neurobrick"].update(subject=5),
    "no session": lambda c: c["attributes"].clear(),
    "a unit that is a list": lambda c: nodes(c)["behavior/pos"]["attributes"].update(unit=[[1]]),
    "no unit": lambda c: nodes(c)["behavior/pos"]["attributes"].pop("unit"),
    "columns that are numbers": lambda c: nodes(c)["behavior/pos"]["attributes"].update(columns=5),
    "no behavior values": lambda c: nodes(c).pop("behavior/pos/values"),
    "no domain": lambda c: nodes(c).pop("domain/start"),
    "no unit columns": lambda c: nodes(c)["units"]["attributes"].update(columns=None),
    "no counts": lambda c: nodes(c).pop("spikes/count"),
    "a rate that is text": lambda c: nodes(c)["spikes/time"]["attributes"].update(rate="x"),
    "nothing": lambda c: c.clear(),
}


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_session_never_takes_the_others_down(tmp_path: Path, odd: str) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, name)
    change(tmp_path / "a/b.zarr", ODD[odd])
    faults = catalog.build(tmp_path)
    assert {"a/a", "a/c"} <= set(Dataset(tmp_path).sessions)
    assert ("a/b" in Dataset(tmp_path)) == (faults == [])
    assert all(type(fault) is StoreError and "b.zarr" in str(fault) for fault in faults)
    assert all("\n" not in str(fault) for fault in faults)


def forge(root: Path, edit: Callable[[dict[str, pa.Table]], Any]) -> None:
    """Change the tables of a catalogue; its checksums fit."""
    tables = Catalog(open_storage(root)).everything()
    edit(tables)
    for name, content in dump(tables).items():
        (root / f"catalog/{name}.parquet").write_bytes(content)


def put(tables: dict[str, pa.Table], table: str, column: str, values: pa.Array) -> None:
    at = tables[table].column_names.index(column)
    tables[table] = tables[table].set_column(at, column, values)


BOMB = zlib.compress(bytes(2**30), 9)


@pytest.mark.parametrize("column", ["zarr", "manifest"])
def test_a_compressed_index_cannot_fill_the_memory(tmp_path: Path, column: str) -> None:
    """A megabyte that decompresses to a gigabyte."""
    write(tmp_path, "s")
    catalog.build(tmp_path)
    forge(tmp_path, lambda tables: put(tables, "sessions", column, pa.array([BOMB])))
    corpus = Catalog(open_storage(tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="damaged"):
            corpus.store("a/s")
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_the_index_of_a_large_store_is_read(tmp_path: Path) -> None:
    """A table of 500 columns, whose metadata zlib shrinks a hundred times."""
    units = pa.table({f"column {k}": np.zeros(2) for k in range(500)})
    write(tmp_path, "s", units)
    assert catalog.build(tmp_path) == []
    assert Dataset(tmp_path)["a/s"].units.num_columns == 500


FORGED: dict[str, Callable[[dict[str, pa.Table]], Any]] = {
    "an index that is no zlib": lambda t: put(t, "sessions", "zarr", pa.array([b"x"])),
    "an index that breaks off": lambda t: put(
        t, "sessions", "manifest", pa.array([t["sessions"]["manifest"][0].as_py()[:-9]])
    ),
    "no index": lambda t: put(t, "sessions", "zarr", pa.array([None], pa.binary())),
    "no path": lambda t: put(t, "sessions", "store", pa.array([""])),
    "an odd number of edges": lambda t: put(t, "sessions", "domain", pa.array([[1.0, 2.0, 3.0]])),
    "edges in reverse": lambda t: put(t, "sessions", "train", pa.array([[2.0, 1.0]])),
    "no domain": lambda t: put(t, "sessions", "domain", pa.array([None], pa.list_(pa.float64()))),
    "edges that are text": lambda t: put(t, "sessions", "domain", pa.array([["a", "b"]])),
    "ids that are numbers": lambda t: put(t, "sessions", "session", pa.array([5])),
    "no column session": lambda t: t.update(sessions=t["sessions"].drop_columns(["session"])),
    "no column domain": lambda t: t.update(sessions=t["sessions"].drop_columns(["domain"])),
    "units of no session": lambda t: t.update(units=t["units"].drop_columns(["session"])),
    "units without rows": lambda t: t.update(units=t["units"].drop_columns(["row"])),
    "rows that are text": lambda t: put(t, "units", "row", pa.array(["a", "b"])),
    "rows beyond the table": lambda t: put(t, "units", "row", pa.array([7, 8])),
    "trials without start": lambda t: t.update(trials=t["trials"].drop_columns(["start"])),
    "starts that are text": lambda t: put(t, "trials", "start", pa.array(["a"])),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FORGED)
def test_a_forged_catalogue_is_a_store_error(tmp_path: Path, fault: str) -> None:
    write(tmp_path, "s")
    catalog.build(tmp_path)
    forge(tmp_path, FORGED[fault])

    def everything() -> None:
        ds = Dataset(tmp_path)
        session = ds["a/s"]
        session.spike_arrays(), session.behavior_arrays("pos"), session.splits, session.domain
        ds.windows("train", length=0.1)
        ds.windows(length=0.1, order="trials")
        part = ds.select(units="spikes >= 0", trials="stop > 0")["a/s"]
        part.units, part.spike_arrays(), part.intervals["trials"], part.n_spikes

    with pytest.raises(StoreError) as caught:
        everything()
    assert "\n" not in str(caught.value)


def test_a_catalogue_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    write(tmp_path, "s")
    shutil.rmtree(tmp_path / "catalog", ignore_errors=True)
    (tmp_path / "catalog").write_text("in the way")
    try:
        catalog.build(tmp_path)
    except StoreError as error:
        assert "catalog" in str(error)  # noqa: PT017
    else:
        assert Dataset(tmp_path).sessions == ["a/s"]
