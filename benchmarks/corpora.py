"""The corpus that benchmarks measure: simulated sessions with the statistics of motor cortex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from neurobrick import Intervals, SessionMetadata, catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.store import write_store

UNITS, RATE, GRID, HZ = 170, 8.0, 30_000, 100.0
TARGET = "cursor_vel"


def session(name: str, seconds: float, rng: np.random.Generator) -> SessionData:
    """Poisson spikes on a 30 kHz grid from units with log-normal rates, 8 Hz on average, and a
    velocity at 100 Hz whose values use all 53 bits of a float64."""
    n = rng.poisson(UNITS * RATE * seconds)
    times = np.sort(rng.integers(0, int(seconds * GRID), n)) / GRID
    share = rng.lognormal(size=UNITS)
    stamps = np.arange(int(seconds * HZ)) / HZ
    velocity = np.cumsum(rng.normal(size=(len(stamps), 2)), axis=0)
    domain = Intervals([0.0], [seconds])
    provenance = Provenance(path=name, size=0, digest="", neurobrick="", spec_hash="")
    return SessionData(
        metadata=SessionMetadata(
            id=f"bench/{name}", dataset="bench", provenance=provenance, target=TARGET
        ),
        spike_times=times,
        spike_units=rng.choice(UNITS, n, p=share / share.sum()),
        units=pa.table({"id": np.arange(UNITS)}),
        behavior={TARGET: Series(stamps, velocity, "m/s", TARGET, "m/s")},
        intervals={},
        domain=domain,
        evaluation=domain,
        splits={"train": domain},
    )


def write_corpus(root: Path, sessions: int, seconds: float) -> None:
    """Write that many `sessions` to `root`, with their catalogue."""
    rng = np.random.default_rng(0)
    for k in range(sessions):
        name = f"s{k:03d}"
        write_store(session(name, seconds, rng), root / f"bench/{name}.zarr")
    catalog.build(root)
