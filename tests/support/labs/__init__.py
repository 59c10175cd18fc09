"""Small recordings in the layouts of many labs, each with its Truth.

A lab writes one file and returns its Truth: what preparing the file must give. The Truth is made
from the arrays that were written, never by reading the file. `LABS` holds all labs by name.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

SECONDS = 20.0

Write = Callable[[Path, np.random.Generator], "Truth"]
LABS: dict[str, Write] = {}


@dataclass(frozen=True)
class Behavior:
    """A behavior as the store must have it."""

    timestamps: np.ndarray  # (n,) s
    values: np.ndarray  # (n, d) in `unit`
    unit: str  # SI, or the file's where that is not known


@dataclass(frozen=True)
class Truth:
    """The content of a file's store."""

    spikes: list[np.ndarray]  # one sorted array (n,) s a unit
    behavior: dict[str, Behavior] = field(default_factory=dict)  # all of it, by name
    intervals: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # table → (n, 2) start, stop in s
    left: dict[str, str] = field(default_factory=dict)  # path of a left object → part of the reason
    notes: tuple[str, ...] = ()  # part of each note
    units_path: str = "units"  # of the units table in the file
    by_pynwb: bool = True  # whether pynwb can open the file
    raw_spikes: list[np.ndarray] | None = None  # as pynwb reads them; None: the same as `spikes`
    columns: dict[str, list[object]] = field(default_factory=dict)  # some of the units table


def lab(write: Write) -> Write:
    """Register a lab under the name of its function."""
    LABS[write.__name__] = write
    return write


def new_file(name: str = "S1", *, subject: bool = True) -> NWBFile:
    """An empty NWB file."""
    about = Subject(subject_id=name, species="Mus musculus", sex="F", age="P90D")
    return NWBFile(
        session_description="written by a test",
        identifier=name,
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        subject=about if subject else None,
    )


def save(file: NWBFile, path: Path) -> h5py.File:
    """Write `file` with pynwb, and open it with h5py to change what pynwb would not write."""
    with NWBHDF5IO(path, "w") as io, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labs' files are not best practice
        io.write(file)
    return h5py.File(path, "r+")


def trains(rng: np.random.Generator, n_units: int, rate: float = 8.0) -> list[np.ndarray]:
    """Sorted spike times on a 30 kHz grid, without repeats in a unit, one array a unit."""
    return [
        np.unique(rng.integers(0, int(SECONDS * 30000), rng.poisson(rate * SECONDS))) / 30000
        for _ in range(n_units)
    ]


def add_units(file: NWBFile, spikes: list[np.ndarray], **columns: list[object]) -> None:
    """Add a unit for each spike train, with other `columns` of the units table."""
    for k, times in enumerate(spikes):
        file.add_unit(spike_times=times, **{name: column[k] for name, column in columns.items()})


# Importing a module registers its labs.
for _theme in ("spikes", "series", "others", "tables", "formats"):
    importlib.import_module(f"tests.support.labs.{_theme}")
