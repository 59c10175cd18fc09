"""How fast is a window? Random 1-s windows of spikes and velocity, warm, one process.

neurobrick's slices, one at a time and many at once, beside zarr-python and h5py reading the same
arrays window by window, and the peer's lazy slices where `temporaldata` is installed. Every reader
is first checked to give the same spikes.

    python benchmarks/slicing.py [--sessions 20] [--seconds 1000]
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import click
import h5py
import numpy as np
import pyarrow as pa
import zarr
from rich.console import Console
from rich.table import Table

from neurobrick import Dataset, Intervals, SessionMetadata, catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.store import write_store

UNITS, RATE, HZ = 170, 8.0, 100.0
BUDGET = 3.0  # seconds of measuring for each reader
BATCH = 256

Window = tuple[int, float]
Read = Callable[[list[Window]], int]


def session(name: str, seconds: float, rng: np.random.Generator) -> SessionData:
    """Poisson spikes on a 30 kHz grid, and a velocity at 100 Hz."""
    n = rng.poisson(UNITS * RATE * seconds)
    times = np.sort(rng.integers(0, int(seconds * 30000), n)) / 30000
    stamps = np.arange(int(seconds * HZ)) / HZ
    velocity = np.cumsum(rng.normal(size=(len(stamps), 2)), axis=0)
    domain = Intervals([0.0], [seconds])
    provenance = Provenance(path=name, size=0, sha256="", neurobrick="", spec_hash="")
    return SessionData(
        metadata=SessionMetadata(id=f"bench/{name}", dataset="bench", provenance=provenance),
        spike_times=times,
        spike_units=rng.integers(0, UNITS, n),
        units=pa.table({"id": np.arange(UNITS)}),
        behavior={"cursor_vel": Series(stamps, velocity, "m/s", "cursor_vel", "m/s")},
        intervals={},
        domain=domain,
        evaluation=domain,
        splits={"train": domain},
    )


def write_hdf5(data: SessionData, path: Path) -> None:
    """The same arrays, contiguous."""
    series = data.behavior["cursor_vel"]
    with h5py.File(path, "w") as file:
        file["times"], file["units"] = data.spike_times, data.spike_units
        file["stamps"], file["velocity"] = series.timestamps, series.values


def write_peer(data: SessionData, path: Path) -> None:
    """The same arrays in the peer's format."""
    from temporaldata import Data, IrregularTimeSeries

    series = data.behavior["cursor_vel"]
    spikes = IrregularTimeSeries(
        timestamps=data.spike_times, unit_index=data.spike_units, domain="auto"
    )
    cursor = IrregularTimeSeries(timestamps=series.timestamps, vel=series.values, domain="auto")
    with h5py.File(path, "w") as file:
        Data(spikes=spikes, cursor=cursor, domain="auto").to_hdf5(file)


def readers(root: Path, peer: bool) -> dict[str, Read]:
    """Ways of reading windows; each gives the number of spikes and samples that it got."""
    ds = Dataset(root)
    ids = ds.sessions

    def one_at_a_time(windows: list[Window]) -> int:
        total = 0
        for k, t in windows:
            window = ds.slice(ids[k], t, t + 1)
            total += len(window.spikes.units) + len(window.behavior["cursor_vel"].values)
        return total

    def many_at_once(windows: list[Window]) -> int:
        names = [ids[k] for k, _ in windows]
        batch = ds.slices(names, [t for _, t in windows], 1.0)
        return len(batch.spike_units) + len(batch.behavior("cursor_vel")[1])

    groups = [zarr.open_group(root / f"{name}.zarr", mode="r") for name in ids]
    ticks = [group["spikes/time"][:] for group in groups]

    def zarr_python(windows: list[Window]) -> int:
        total = 0
        for k, t in windows:
            a, b = np.searchsorted(
                ticks[k], np.rint([t * 30000, t * 30000 + 30000]).astype(np.int32)
            )
            spikes, units = groups[k]["spikes/time"][a:b], groups[k]["spikes/unit"][a:b]
            first = round(t * HZ)
            values = groups[k]["behavior/cursor_vel/values"][first : first + int(HZ)]
            total += len(spikes) + 0 * len(units) + len(values)
        return total

    files = [h5py.File(root / f"{name}.h5") for name in ids]
    times = [file["times"][:] for file in files]

    def h5py_contiguous(windows: list[Window]) -> int:
        total = 0
        for k, t in windows:
            a, b = np.searchsorted(times[k], [t, t + 1])
            spikes, units = files[k]["times"][a:b], files[k]["units"][a:b]
            first = round(t * HZ)
            values = files[k]["velocity"][first : first + int(HZ)]
            total += len(spikes) + 0 * len(units) + len(values)
        return total

    found: dict[str, Read] = {
        "neurobrick, ds.slices of 256": many_at_once,
        "neurobrick, ds.slice": one_at_a_time,
        "h5py, contiguous arrays": h5py_contiguous,
        "zarr-python, the same store": zarr_python,
    }
    if peer:
        from temporaldata import Data

        recordings = [Data.from_hdf5(h5py.File(root / f"{name}.td.h5"), lazy=True) for name in ids]

        def temporaldata_lazy(windows: list[Window]) -> int:
            total = 0
            for k, t in windows:
                window = recordings[k].slice(t, t + 1)
                total += len(window.spikes.unit_index) + len(window.cursor.vel)
            return total

        found["temporaldata, lazy slices"] = temporaldata_lazy
    return found


def speed(read: Read, windows: list[Window]) -> float:
    """Median windows/s over batches, after one batch that warms the caches."""
    read(windows[:BATCH])
    rates, began, at = [], time.perf_counter(), 0
    while time.perf_counter() - began < BUDGET:
        batch = windows[at : at + BATCH]
        at = (at + BATCH) % (len(windows) - BATCH)
        start = time.perf_counter()
        read(batch)
        rates.append(len(batch) / (time.perf_counter() - start))
    return float(np.median(rates))


@click.command()
@click.option("--sessions", default=20, show_default=True)
@click.option("--seconds", default=1000.0, show_default=True)
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
        for k in range(sessions):
            data = session(f"s{k:03d}", seconds, rng)
            write_store(data, root / f"bench/s{k:03d}.zarr")
            write_hdf5(data, root / f"bench/s{k:03d}.h5")
            if peer:
                write_peer(data, root / f"bench/s{k:03d}.td.h5")
        catalog.build(root)
        # Starts on the grid, so that integer ticks and float seconds cut the same spikes.
        starts = rng.integers(0, int((seconds - 1) * 100), 8192) / 100
        windows = list(zip(rng.integers(0, sessions, 8192).tolist(), starts.tolist(), strict=True))
        ways = readers(root, peer)
        counts = {name: read(windows[:200]) for name, read in ways.items()}
        assert len(set(counts.values())) == 1, counts
        rates = {name: speed(read, windows) for name, read in ways.items()}
    slowest = min(rates.values())
    table = Table("reader", title=f"random 1-s windows of {sessions} sessions, {date.today()}")
    table.add_column("windows/s", justify="right")
    table.add_column("× the slowest", justify="right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / slowest:,.1f}")
    Console(width=100).print(table)
    result = {"date": str(date.today()), "machine": platform.processor(), "windows_per_s": rates}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
