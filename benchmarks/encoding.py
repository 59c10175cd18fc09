"""How many bytes? Spikes and behavior in the store, and in the files that they come from.

First, bytes a spike, time and unit, on a 30 kHz grid, beside HDF5 as in NWB files, HDF5 with gzip,
and codecs that were not chosen. Then whole stores, all their files, beside the bytes that spikes
and kept behavior take in the NWB file: simulated files, and any that are given.

    python benchmarks/encoding.py [--nwb FILE]…
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import click
import h5py
import numpy as np
from corpora import GRID, session
from numcodecs import blosc
from rich.console import Console
from rich.table import Table

from neurobrick.prepare.conduct import prepare
from neurobrick.prepare.plan import plan
from neurobrick.registry import DatasetSpec
from neurobrick.simulate import simulate
from neurobrick.sources.local import LocalSource
from neurobrick.store import SessionStore, write_store
from neurobrick.store.codec import decode, encode

CHUNK = 2**18
Arrays = Sequence[np.ndarray]


def chunked(array: np.ndarray, rows: int = CHUNK) -> list[np.ndarray]:
    """The array's chunks."""
    return [np.ascontiguousarray(array[at : at + rows]) for at in range(0, len(array), rows)]


def with_blosc(level: int, shuffle: int) -> Callable[[np.ndarray], bytes]:
    """A codec that was considered."""
    return lambda block: blosc.compress(block, b"zstd", level, shuffle, 0, block.dtype.itemsize)


def plainly(content: bytes, into: np.ndarray) -> None:
    blosc.decompress(content, into)


def measured(
    arrays: Arrays,
    pack: Callable[[np.ndarray], bytes],
    unpack: Callable[[bytes, np.ndarray], None],
    rows: int = CHUNK,
) -> tuple[float, float, float]:
    """Bytes a spike, and million spikes a second to encode and to decode, on one core; medians."""
    blocks = [block for array in arrays for block in chunked(array, rows)]
    encoding, decoding, n = [], [], len(arrays[0])
    for _ in range(5):
        start = time.perf_counter()
        packed = [pack(block) for block in blocks]
        encoding.append(time.perf_counter() - start)
        outs = [np.empty_like(block) for block in blocks]
        start = time.perf_counter()
        for content, out in zip(packed, outs, strict=True):
            unpack(content, out)
        decoding.append(time.perf_counter() - start)
        assert all(map(np.array_equal, outs, blocks))
    size = sum(map(len, packed)) / n
    return size, n / float(np.median(encoding)) / 1e6, n / float(np.median(decoding)) / 1e6


def in_hdf5(arrays: Arrays, root: Path, **options: object) -> float:
    """Bytes a spike in HDF5."""
    with h5py.File(root / "x.h5", "w") as file:
        held = [file.create_dataset(str(k), data=a, **options) for k, a in enumerate(arrays)]
        file.flush()
        return sum(one.id.get_storage_size() for one in held) / len(arrays[0])


def spikes(root: Path) -> dict[str, tuple[float, ...]]:
    """Bytes a spike, in every way."""
    data = session("s", 1000.0, np.random.default_rng(0))
    ticks = np.rint(data.spike_times * GRID).astype(np.int32)
    units = data.spike_units.astype(np.uint16)
    order = np.argsort(data.spike_units, kind="stable")  # NWB: unit by unit
    write_store(data, root / "s.zarr")
    ours = SessionStore.at(root / "s.zarr").spike_bytes()[1] / len(ticks)
    store = measured([ticks, units], encode, decode)
    return {
        "neurobrick: int32 ticks, uint16 units": (ours, *store[1:]),
        "the same without shuffle": measured([ticks, units], with_blosc(3, 0), plainly),
        "the same, bits shuffled": measured([ticks, units], with_blosc(3, 2), plainly),
        "the same, zstd level 1": measured([ticks, units], with_blosc(1, 1), plainly),
        "the same, zstd level 9": measured([ticks, units], with_blosc(9, 1), plainly),
        "float64 seconds, int32 units": measured(
            [data.spike_times, data.spike_units.astype(np.int32)], with_blosc(3, 1), plainly
        ),
        "HDF5, float64 unit by unit, as NWB has it": (in_hdf5([data.spike_times[order]], root),),
        "HDF5, the same with gzip": (
            in_hdf5([data.spike_times[order]], root, chunks=(2**14,), compression="gzip"),
        ),
    }


def chunk_sizes() -> dict[int, tuple[float, ...]]:
    """By spikes a chunk: bytes a spike, M spikes/s to decode, chunks of a session, and kB fetched
    for one window."""
    data = session("s", 1000.0, np.random.default_rng(0))
    ticks = np.rint(data.spike_times * GRID).astype(np.int32)
    units = data.spike_units.astype(np.uint16)
    found = {}
    for rows in (2**k for k in range(12, 22, 2)):
        size, _, decoding = measured([ticks, units], encode, decode, rows)
        found[rows] = (size, decoding, -(-len(ticks) // rows), size * min(rows, len(ticks)) / 1e3)
    return found


def stores(root: Path, given: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Bytes of whole stores, and of the same spikes and behavior in their source files."""
    files = {path.name: path for path in given}
    for layout in ("000128", "000688"):
        (made,) = simulate(root / layout, layout=layout, sessions=1, units=100, minutes=10)
        files[f"simulated, as {layout}"] = made.path
    found = {}
    for k, (title, path) in enumerate(files.items()):
        corpus = root / f"corpus{k}"
        (outcome,) = prepare(
            [plan(LocalSource([path]), DatasetSpec.discovered("local"), corpus)], corpus
        )
        if outcome.status != "prepared":
            raise click.ClickException(f"{path}: {outcome.reason}")
        store = SessionStore.at(corpus / f"{outcome.session_id}.zarr")
        kept = {store.behavior_info(name)[0]["source"] for name in store.behavior_names()}
        found[title] = (outcome.size, kept_bytes(path, kept))
    return found


def kept_bytes(path: Path, series: set[str]) -> int:
    """Bytes that spike times, their index, and these series take in a file."""
    with h5py.File(path) as file:
        held = [file["units/spike_times"], file["units/spike_times_index"]]
        for name in series:
            held += [file[name][part] for part in ("data", "timestamps") if part in file[name]]
        return sum(one.id.get_storage_size() for one in held)


@click.command()
@click.option(
    "--nwb",
    "given",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to prepare and compare as well; may be given several times.",
)
def main(given: tuple[Path, ...]) -> None:
    """Encode spikes in every way, prepare files, and count bytes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = spikes(Path(folder))
        sizes = chunk_sizes()
        whole = stores(Path(folder), given)
    table = Table("times and units on a 30 kHz grid", title=f"bytes a spike, {date.today()}")
    for name in ("B/spike", "encode, M/s", "decode, M/s"):
        table.add_column(name, justify="right")
    for name, (size, *speeds) in rows.items():
        table.add_row(name, f"{size:.2f}", *(f"{speed:,.0f}" for speed in speeds))
    Console(width=110).print(table)
    table = Table("spikes a chunk", title="chunks of a session of 1.36 M spikes")
    for name in ("B/spike", "decode, M/s", "chunks", "kB for a window"):
        table.add_column(name, justify="right")
    for n, (size, decoding, chunks, fetched) in sizes.items():
        row = f"{size:.2f}", f"{decoding:,.0f}", f"{chunks:,.0f}", f"{fetched:,.0f}"
        table.add_row(f"2^{n.bit_length() - 1}", *row)
    Console(width=110).print(table)
    table = Table("", title="stores, and the spikes and kept behavior of their files")
    for name in ("store, MB", "in the file, MB", "ratio"):
        table.add_column(name, justify="right")
    for name, (ours, theirs) in whole.items():
        table.add_row(name, f"{ours / 1e6:.2f}", f"{theirs / 1e6:.2f}", f"{ours / theirs:.2f}")
    Console(width=110).print(table)
    result = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "bytes_a_spike": {name: size for name, (size, *_) in rows.items()},
        "chunks": sizes,
        "stores": whole,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
