"""Recordings in the manners of many labs, each written small, with what is in it told beside it.

A lab writes one file and returns its Truth: what a right preparation must give, made from the
arrays that were written and never by reading them. `LABS` holds them all, by name.
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
    """A series as it must come out: timestamps (n,) s, values (n, d) in `unit`."""

    timestamps: np.ndarray
    values: np.ndarray
    unit: str


@dataclass(frozen=True)
class Truth:
    """What a store of the file must hold.

    `spikes` is one sorted array a unit; `intervals` start and stop of each table's rows; `left`
    names objects that must be listed as left, with a word of the reason; `notes` are words that
    some note must hold. `raw_spikes` is what pynwb reads of each unit, where that is not `spikes`;
    None where pynwb does not open the file.
    """

    spikes: list[np.ndarray]
    behavior: dict[str, Behavior] = field(default_factory=dict)
    intervals: dict[str, np.ndarray] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    units_path: str = "units"
    by_pynwb: bool = True
    raw_spikes: list[np.ndarray] | None = None
    columns: dict[str, list[object]] = field(default_factory=dict)  # of the units table


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
    """Write `file` with pynwb, and open it with h5py to go on where pynwb cannot."""
    with NWBHDF5IO(path, "w") as io, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not best practice, as labs' files are not
        io.write(file)
    return h5py.File(path, "r+")


def trains(rng: np.random.Generator, n_units: int, rate: float = 8.0) -> list[np.ndarray]:
    """Sorted spike times on a 30 kHz grid, without repeats in a unit, one array a unit."""
    return [
        np.unique(rng.integers(0, int(SECONDS * 30000), rng.poisson(rate * SECONDS))) / 30000
        for _ in range(n_units)
    ]


def add_units(file: NWBFile, spikes: list[np.ndarray], **columns: list[object]) -> None:
    """Add a unit a spike train, with the `columns` of pynwb's add_unit."""
    for k, times in enumerate(spikes):
        file.add_unit(spike_times=times, **{name: column[k] for name, column in columns.items()})


# They register their labs as they are imported.
for _theme in ("spikes", "series", "others", "tables", "formats"):
    importlib.import_module(f"tests.support.labs.{_theme}")
