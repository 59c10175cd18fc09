"""How long does it take to open a corpus? 158 sessions, each with trials, splits and units.

`Dataset(root)`, beside zarr-python opening every store, with and without its consolidated metadata,
and, where `temporaldata` is installed, its files opened lazily. Readers take turns; medians.

    python benchmarks/opening.py [--sessions 158]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import click
import h5py
import numpy as np
import pyarrow as pa
import zarr
from corpora import session
from rich.console import Console
from rich.table import Table

from neurobrick import Dataset, Intervals, catalog
from neurobrick.schema import SessionData
from neurobrick.store import write_store

TRIALS = 300
ROUNDS = 9


def with_trials(data: SessionData) -> SessionData:
    """The session with trials, and splits by trial."""
    start, stop = data.domain.span
    edges = np.linspace(start, stop, TRIALS + 1)
    part = np.arange(TRIALS) % 10
    splits = {
        name: Intervals(edges[:-1][rows], edges[1:][rows])
        for name, rows in (("train", part < 7), ("valid", part == 7), ("test", part > 7))
    }
    trials = pa.table({"start": edges[:-1], "stop": edges[1:], "result": ["R"] * TRIALS})
    return replace(data, intervals={"trials": trials}, splits=splits)


def write(root: Path, sessions: int, peer: bool) -> None:
    """A corpus of short sessions: their length has no effect on opening."""
    rng = np.random.default_rng(0)
    for k in range(sessions):
        data = with_trials(session(f"s{k:03d}", 30.0, rng))
        write_store(data, root / f"bench/s{k:03d}.zarr")
        if peer:
            from temporaldata import Data, Interval, IrregularTimeSeries

            trials = data.intervals["trials"]
            spikes = IrregularTimeSeries(
                timestamps=data.spike_times, unit_index=data.spike_units, domain="auto"
            )
            rows = Interval(start=trials["start"].to_numpy(), end=trials["stop"].to_numpy())
            with h5py.File(root / f"s{k:03d}.h5", "w") as file:
                Data(spikes=spikes, trials=rows, domain="auto").to_hdf5(file)
    catalog.build(root)


def ways_to_open(root: Path, peer: bool) -> dict[str, Callable[[], object]]:
    """The functions that open the corpus."""
    stores, files = sorted(root.glob("*/*.zarr")), sorted(root.glob("*.h5"))
    ways: dict[str, Callable[[], object]] = {
        "neurobrick": lambda: Dataset(root),
        "neurobrick, and all training windows laid": lambda: Dataset(root).windows(
            "train", length=0.1
        ),
        "zarr-python, consolidated": lambda: [zarr.open_consolidated(p) for p in stores],
        "zarr-python, group by group": lambda: [
            zarr.open_group(p, mode="r", use_consolidated=False)["spikes/time"] for p in stores
        ],
    }
    if peer:
        from temporaldata import Data

        ways["temporaldata, lazy"] = lambda: [
            Data.from_hdf5(h5py.File(path), lazy=True) for path in files
        ]
    return ways


FRESH = """
import sys, time
import pyarrow.parquet, numpy
start = time.perf_counter()
from neurobrick import Dataset
Dataset
imported = time.perf_counter()
Dataset(sys.argv[1])
print(1e3 * (imported - start), 1e3 * (time.perf_counter() - imported))
"""


@click.command()
@click.option("--sessions", default=158, show_default=True, help="How many sessions.")
def main(sessions: int) -> None:
    """Write a corpus, and open it in every way."""
    try:
        import temporaldata  # noqa: F401
    except ImportError:
        peer = False
    else:
        peer = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, sessions, peer)
        ways = ways_to_open(root, peer)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if turn:
                    taken[name].append(1e3 * (time.perf_counter() - start))
        medians = {name: float(np.median(found)) for name, found in taken.items()}
        command = [sys.executable, "-c", FRESH, str(root)]
        fresh = [
            list(map(float, subprocess.check_output(command, text=True).split())) for _ in range(5)
        ]
        imported, opened = np.median(fresh, axis=0)
        size = (root / "catalog/sessions.parquet").stat().st_size
    table = Table("", title=f"opening {sessions} sessions, {date.today()}")
    table.add_column("ms", justify="right")
    table.add_column("× neurobrick", justify="right")
    for name, ms in medians.items():
        table.add_row(name, f"{ms:,.1f}", f"{ms / medians['neurobrick']:,.0f}")
    Console(width=100).print(table)
    click.echo(f"in a fresh process: {opened:.1f} ms, after {imported:.0f} ms of imports")
    click.echo(f"catalog/sessions.parquet, all that is read: {size / 1e3:,.0f} kB")
    result = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "ms": medians,
        "fresh_ms": float(opened),
        "bytes": size,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
