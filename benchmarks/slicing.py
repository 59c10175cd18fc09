"""How fast is a window? Random 1-s windows of spikes and velocity, warm, one process.

neurobrick's slices, one at a time and many at once, beside zarr-python and h5py reading the same
arrays window by window, and the peer's lazy slices (`temporaldata`), where it is installed. Every
reader gives the same four arrays: times and units of the spikes, times and values of the velocity.
This is checked first. Readers take turns over several rounds, so that noise meets all of them.
Then: the first read of each session, the slowest single slice, and the whole corpus into memory.

    python benchmarks/slicing.py [--sessions 20] [--seconds 1000]
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import zarr
from corpora import HZ, TARGET, write_corpus
from rich.console import Console
from rich.table import Table

from neurobrick import Dataset

BATCH = 512
ROUNDS = 7
PATIENCE = 0.4  # seconds of one reader's turn

Window = tuple[int, float]
Arrays = list[np.ndarray]
Read = Callable[[list[Window]], Iterator[Arrays]]


def write_hdf5(ds: Dataset, root: Path, peer: bool) -> None:
    """The same arrays, contiguous, in plain HDF5 and in the peer's format."""
    for session_id in ds:
        times, units = ds[session_id].spike_arrays()
        stamps, velocity = ds[session_id].behavior_arrays(TARGET)
        name = session_id.partition("/")[2]
        with h5py.File(root / f"{name}.h5", "w") as file:
            file["times"], file["units"] = times, units
            file["stamps"], file["velocity"] = stamps, velocity
        if peer:
            from temporaldata import Data, IrregularTimeSeries

            spikes = IrregularTimeSeries(timestamps=times, unit_index=units, domain="auto")
            cursor = IrregularTimeSeries(timestamps=stamps, vel=velocity, domain="auto")
            with h5py.File(root / f"{name}.td.h5", "w") as file:
                Data(spikes=spikes, cursor=cursor, domain="auto").to_hdf5(file)


def readers(ds: Dataset, root: Path, peer: bool) -> dict[str, Read]:
    """Ways of reading windows."""
    ids = ds.sessions

    def one_at_a_time(windows: list[Window]) -> Iterator[Arrays]:
        for k, t in windows:
            window = ds.slice(ids[k], t, t + 1)
            spikes, series = window.spikes, window.behavior[TARGET]
            yield [spikes.times, spikes.units, series.timestamps, series.values]

    def many_at_once(windows: list[Window]) -> Iterator[Arrays]:
        for at in range(0, len(windows), BATCH):
            some = windows[at : at + BATCH]
            batch = ds.slices([ids[k] for k, _ in some], [t for _, t in some], 1.0)
            stamps, values, _ = batch.behavior(TARGET)
            yield [batch.spike_times, batch.spike_units, stamps, values]

    groups = [zarr.open_group(root / f"{name}.zarr", mode="r") for name in ids]
    ticks = [group["spikes/time"][:] for group in groups]
    rate = groups[0]["spikes/time"].attrs["rate"]

    def zarr_python(windows: list[Window]) -> Iterator[Arrays]:
        for k, t in windows:
            edges = np.rint([t * rate, t * rate + rate]).astype(np.int32)
            a, b = np.searchsorted(ticks[k], edges)
            spikes, units = groups[k]["spikes/time"][a:b], groups[k]["spikes/unit"][a:b]
            first = round(t * HZ)
            last = first + round(HZ)
            values = groups[k][f"behavior/{TARGET}/values"][first:last]
            yield [spikes / rate, units, np.arange(first, last) / HZ, values]

    names = [name.partition("/")[2] for name in ids]
    files = [h5py.File(root / f"{name}.h5") for name in names]
    axes = [(file["times"][:], file["stamps"][:]) for file in files]

    def h5py_contiguous(windows: list[Window]) -> Iterator[Arrays]:
        for k, t in windows:
            a, b = axes[k][0].searchsorted([t, t + 1])
            c, d = axes[k][1].searchsorted([t, t + 1])
            file = files[k]
            yield [
                file["times"][a:b],
                file["units"][a:b],
                file["stamps"][c:d],
                file["velocity"][c:d],
            ]

    ways: dict[str, Read] = {
        f"ds.slices, {BATCH} at once (copies)": many_at_once,
        "ds.slice, one at a time (views)": one_at_a_time,
        "h5py, contiguous arrays, searched in memory": h5py_contiguous,
        "zarr-python, the same store": zarr_python,
    }
    if peer:
        from temporaldata import Data

        recordings = [Data.from_hdf5(h5py.File(root / f"{n}.td.h5"), lazy=True) for n in names]

        def temporaldata_lazy(windows: list[Window]) -> Iterator[Arrays]:
            for k, t in windows:
                window = recordings[k].slice(t, t + 1, reset_origin=False)
                spikes, cursor = window.spikes, window.cursor
                yield [spikes.timestamps, spikes.unit_index, cursor.timestamps, cursor.vel]

        ways["temporaldata, lazy slices"] = temporaldata_lazy
    return ways


def run(read: Read, windows: list[Window]) -> float:
    """Seconds that reading takes; the arrays are released."""
    start = time.perf_counter()
    for _ in read(windows):
        pass
    return time.perf_counter() - start


def flat(found: Iterator[Arrays]) -> list[np.ndarray]:
    """The four arrays of all windows, end to end."""
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def speeds(ways: dict[str, Read], windows: list[Window]) -> dict[str, float]:
    """Median windows/s of each way over rounds in which all take turns."""
    counts = {}
    for name, read in ways.items():  # warms up, and sets the number of windows a turn
        run(read, windows[:BATCH])
        each = run(read, windows[:BATCH]) / BATCH
        counts[name] = int(np.clip(PATIENCE / each, BATCH // 4, len(windows))) // 64 * 64
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, read in ways.items():
            rates[name].append(counts[name] / run(read, windows[: counts[name]]))
    return {name: float(np.median(found)) for name, found in rates.items()}


def first_touches(root: Path) -> tuple[float, float]:
    """Median ms of a session's first window in a newly opened dataset, and of reading its bytes."""
    work, reading = [], []
    for _ in range(3):
        ds = Dataset(root)
        for session_id in ds:
            chunks = [
                path
                for key in ("spikes/time", "spikes/unit", f"behavior/{TARGET}")
                for path in (root / f"{session_id}.zarr" / key).rglob("*")
                if path.is_file()
            ]
            start = time.perf_counter()
            for path in chunks:
                path.read_bytes()
            reading.append(time.perf_counter() - start)
            start = time.perf_counter()
            window = ds.slice(session_id, 10.0, 11.0)
            assert len(window.spikes)
            assert len(window.behavior[TARGET])
            work.append(time.perf_counter() - start)
    return 1e3 * float(np.median(work)), 1e3 * float(np.median(reading))


def slowest_slice(ds: Dataset, windows: list[Window]) -> tuple[float, float]:
    """Median and highest µs of single slices of spikes and velocity. Each is the quickest of five,
    so that an interruption by the machine does not count."""
    found = []
    for k, t in windows:
        session_id = ds.sessions[k]
        times = []
        for _ in range(5):
            start = time.perf_counter()
            window = ds.slice(session_id, t, t + 1)
            window.spikes, window.behavior[TARGET]
            times.append(time.perf_counter() - start)
        found.append(min(times))
    return 1e6 * float(np.median(found)), 1e6 * max(found)


def into_memory(root: Path, peer: bool) -> dict[str, float]:
    """Million spikes a second, times and units of the whole corpus, on all cores: the median of
    five passes after an uncounted one, which pays for the machine's first use of the memory."""

    def ours() -> int:
        ds = Dataset(root)
        return sum(len(ds[session_id].spike_arrays()[0]) for session_id in ds)

    def of_hdf5(path: Path) -> int:
        with h5py.File(path) as file:
            return len(file["times"][:]) + 0 * len(file["units"][:])

    def by_h5py() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            paths = [p for p in root.glob("*.h5") if not p.name.endswith(".td.h5")]
            return sum(threads.map(of_hdf5, paths))

    def of_zarr(path: Path) -> int:
        group = zarr.open_group(path, mode="r")
        times = group["spikes/time"][:] / group["spikes/time"].attrs["rate"]
        return len(times) + 0 * len(group["spikes/unit"][:].astype(np.int32))

    def by_zarr() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return sum(threads.map(of_zarr, sorted(root.glob("*/*.zarr"))))

    ways: dict[str, Callable[[], int]] = {
        "neurobrick": ours,
        "h5py, contiguous float64 and int32": by_h5py,
        "zarr-python, the same store": by_zarr,
    }
    if peer:
        from temporaldata import Data

        def of_peer(path: Path) -> int:
            with h5py.File(path) as file:
                data = Data.from_hdf5(file, lazy=True)
                return len(data.spikes.timestamps) + 0 * len(data.spikes.unit_index)

        ways["temporaldata"] = lambda: sum(map(of_peer, sorted(root.glob("*.td.h5"))))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(6):
        for name, way in ways.items():
            start = time.perf_counter()
            n_spikes = way()
            if turn:
                rates[name].append(n_spikes / (time.perf_counter() - start) / 1e6)
    return {name: float(np.median(found)) for name, found in rates.items()}


def show(title: str, unit: str, rates: dict[str, float], base: str) -> None:
    """A table of rates, and their ratios to the rate of `base`."""
    table = Table("", title=title)
    table.add_column(unit, justify="right")
    table.add_column(f"× {base}", justify="right")
    for name, rate in rates.items():
        ratio = rate / rates[base]
        table.add_row(name, f"{rate:,.0f}", f"{ratio:,.2f}" if ratio < 10 else f"{ratio:,.0f}")
    Console(width=110).print(table)


@click.command()
@click.option("--sessions", default=20, show_default=True, help="How many sessions.")
@click.option("--seconds", default=1000.0, show_default=True, help="How long each is.")
def main(sessions: int, seconds: float) -> None:
    """Write a corpus, check that every reader reads the same, time them."""
    try:
        import temporaldata  # noqa: F401
    except ImportError:
        peer = False
    else:
        peer = True
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_corpus(root, sessions, seconds)
        ds = Dataset(root)
        write_hdf5(ds, root, peer)
        # Starts on the grid, so that integer ticks and float seconds cut the same spikes.
        starts = rng.integers(0, int((seconds - 2) * HZ), 8192) / HZ
        windows = list(zip(rng.integers(0, sessions, 8192).tolist(), starts.tolist(), strict=True))
        ways = readers(ds, root, peer)
        expected = flat(ways["ds.slice, one at a time (views)"](windows[:BATCH]))
        for name, read in ways.items():
            for mine, theirs in zip(flat(read(windows[:BATCH])), expected, strict=True):
                assert np.array_equal(mine, theirs), name
        rates = speeds(ways, windows)
        base = (
            "temporaldata, lazy slices" if peer else "h5py, contiguous arrays, searched in memory"
        )
        show(f"random 1-s windows of {sessions} sessions, {date.today()}", "windows/s", rates, base)
        touch, reading = first_touches(root)
        click.echo(
            f"first window of a session: {touch:.1f} ms; reading its bytes: {reading:.1f} ms"
        )
        usual, slowest = slowest_slice(ds, windows[:2000])
        click.echo(f"one slice of a warm session: {usual:.1f} µs, the slowest {slowest:.1f} µs")
        memory = into_memory(root, peer)
        base = "temporaldata" if peer else "h5py, contiguous float64 and int32"
        show("the whole corpus into memory", "M spikes/s", memory, base)
    result: dict[str, Any] = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "windows_per_s": rates,
        "first_window_ms": touch,
        "reading_its_bytes_ms": reading,
        "slice_us": {"median": usual, "slowest": slowest},
        "million_spikes_per_s": memory,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
