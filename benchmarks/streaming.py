"""What does it cost to read a remote file that is mostly raw voltage?

Files of 1 GB, with the voltage before, between or after the kept arrays, contiguous or in small
chunks, behind a server that takes 20 ms to answer; its bandwidth is not limited. neurobrick takes
stock of each file and reads its spikes and its velocity, as `prepare --stream` does. Beside it: a
download of the whole file, and plain h5py reading the same four arrays through fsspec's default
file. All must read the same.

    python benchmarks/streaming.py [--megabytes 1000] [--latency 0.02]
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import requests
from pynwb import NWBHDF5IO, H5DataIO, NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from rich.console import Console
from rich.table import Table

from demo.loopback import Handler, Loopback
from neurobrick.readers.formats import open_recording
from neurobrick.readers.stream import RangeFile
from neurobrick.sources.web.ranges import RangeReader
from neurobrick.sources.web.transport import Patience, Web

ORDERS = {
    "voltage first": ("voltage", "units", "behavior"),
    "voltage between": ("units", "voltage", "behavior"),
    "voltage last": ("units", "behavior", "voltage"),
}
LAYOUTS = [(order, chunks) for order in ORDERS for chunks in (False, True)]
ARRAYS = (
    "units/spike_times",
    "units/spike_times_index",
    "processing/behavior/cursor_vel/data",
    "processing/behavior/cursor_vel/timestamps",
)
CHANNELS, UNITS, RATE, HZ = 64, 200, 8.0, 250.0
ROWS = 1024  # of a chunk: h5py's choice for an array that grows


def write(path: Path, megabytes: int, order: Sequence[str], chunks: bool) -> Path:
    """An NWB file with that many MB of voltage and about 2 % of spikes, velocity and trials,
    written in `order`; in chunks of `ROWS`, or contiguous."""
    rng = np.random.default_rng(0)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    file = NWBFile(session_description="voltage", identifier=path.stem, session_start_time=start)
    probe = file.create_device("probe")
    shank = file.create_electrode_group("shank", "probe", "M1", probe)
    for _ in range(CHANNELS):
        file.add_electrode(group=shank, location="M1")
    file.create_processing_module("behavior", "kinematics")
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    for part in order:
        with NWBHDF5IO(path, "a") as io:
            file = io.read()
            _add(
                file,
                part,
                megabytes,
                rng,
                lambda data: H5DataIO(data, chunks=(ROWS, *data.shape[1:]) if chunks else None),
            )
            io.write(file)
    return path


def _add(
    file: NWBFile, part: str, megabytes: int, rng: np.random.Generator, wrap: Callable[[Any], Any]
) -> None:
    seconds = float(megabytes)
    if part == "voltage":
        noise = rng.integers(0, 1 << 16, (1_000_000 // 2 // CHANNELS, CHANNELS), np.uint16)
        region = file.create_electrode_table_region(list(range(CHANNELS)), "all")
        data = wrap(np.tile(noise, (megabytes, 1)))
        file.add_acquisition(
            ElectricalSeries(name="voltage", data=data, electrodes=region, rate=len(noise) * 1.0)
        )
    elif part == "units":
        for _ in range(UNITS):
            n = rng.poisson(RATE * seconds)
            file.add_unit(spike_times=np.sort(rng.integers(0, int(seconds * 30000), n)) / 30000)
        times = file.units["spike_times"].target
        times.fields["data"] = wrap(np.asarray(times.data))
    else:
        stamps = np.cumsum(rng.uniform(0.5 / HZ, 1.5 / HZ, int(seconds * HZ)))
        velocity = np.cumsum(rng.normal(size=(len(stamps), 2)), axis=0)
        file.processing["behavior"].add(
            TimeSeries(name="cursor_vel", data=wrap(velocity), unit="m/s", timestamps=wrap(stamps))
        )
        for at in np.arange(0.0, seconds - 3, 3.0):
            file.add_trial(start_time=at, stop_time=at + 2)


Arrays = list[np.ndarray[Any, Any]]


def by_h5py(file: Any) -> Arrays:
    """The four arrays to read."""
    with h5py.File(file, "r") as opened:
        return [opened[path][()] for path in ARRAYS]


def download(url: str, folder: Path) -> Arrays:
    """The whole file to disk, then read there."""
    copy = folder / "copy.nwb"
    urllib.request.urlretrieve(url, copy)
    return by_h5py(copy)


def by_fsspec(url: str, folder: Path) -> Arrays:
    """fsspec with its defaults."""
    import fsspec

    with fsspec.open(url) as file:
        return by_h5py(file)


def by_neurobrick(url: str, folder: Path) -> Arrays:
    """As `prepare --stream`: take stock of the whole file, then read what is kept."""
    size = int(requests.head(url, timeout=9).headers["Content-Length"])
    web = Web(requests.Session(), Patience(), "the benchmark's server", "refuses", "run it again")
    file = "a recording"
    reader = RangeReader(file, url, size, web, web, "it is gone")
    with web.session, open_recording(RangeFile(reader, file), file) as recording:
        units, (velocity,) = recording.units, recording.series
        assert units is not None
        assert velocity.timestamps is not None
        recording.prefetch([velocity])
        return [units.spike_times(), units.ends, velocity.data(), velocity.timestamps()]


WAYS: dict[str, Callable[[str, Path], Arrays]] = {
    "download": download,
    "h5py over fsspec": by_fsspec,
    "neurobrick": by_neurobrick,
}


def measure(file: Path, latency: float, folder: Path) -> dict[str, dict[str, float]]:
    """MB, share of the file, requests and seconds of each way; each must read the same."""
    size, expected = file.stat().st_size, by_h5py(file)

    def answer(request: Handler) -> None:
        time.sleep(latency)
        request.send_file(file, file.stem)

    found: dict[str, dict[str, float]] = {}
    for name, read in WAYS.items():
        site = Loopback()
        url = f"{site.listen(answer)}/{file.name}"
        with site:
            began = time.perf_counter()
            arrays = read(url, folder)
            seconds = time.perf_counter() - began
        assert all(np.array_equal(a, b) for a, b in zip(arrays, expected, strict=True)), name
        sent = sum(_length(r.range, size) for r in site.log if r.method == "GET")
        found[name] = {
            "megabytes": sent / 1e6,
            "share": sent / size,
            "requests": len(site.log),
            "seconds": seconds,
        }
    return found


def _length(asked: str | None, size: int) -> int:
    """Bytes of an answer to a request for a range, or for the whole."""
    start, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
    return min(int(last or size - 1), size - 1) + 1 - int(start)


@click.command()
@click.option("--megabytes", default=1000, show_default=True)
@click.option("--latency", default=0.02, show_default=True, help="Seconds before each answer.")
def main(megabytes: int, latency: float) -> None:
    """Write each file, read it in each way, print and keep the figures."""
    title = (
        f"spikes and velocity of {megabytes} MB, {latency * 1000:.0f} ms a request, {date.today()}"
    )
    table = Table("the file", "read by", title=title)
    for column in ("MB", "share", "requests", "s"):
        table.add_column(column, justify="right")
    files = {}
    for order, chunks in LAYOUTS:
        with tempfile.TemporaryDirectory() as name:
            file = write(Path(name) / "recording.nwb", megabytes, ORDERS[order], chunks)
            layout = f"{order}, {f'chunks of {ROWS} rows' if chunks else 'contiguous'}"
            files[layout] = measure(file, latency, Path(name))
        for way, one in files[layout].items():
            table.add_row(
                layout if way == next(iter(WAYS)) else "",
                way,
                f"{one['megabytes']:,.1f}",
                f"{one['share']:.1%}",
                f"{one['requests']:.0f}",
                f"{one['seconds']:.2f}",
                end_section=way == list(WAYS)[-1],
            )
    Console(width=100).print(table)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    result = {"date": str(date.today()), "machine": machine, "latency": latency, "files": files}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
