"""One small NWB file, prepared under a spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pynwb import NWBFile, TimeSeries

from neurobrick import Dataset, DatasetSpec, Session
from neurobrick.prepare.plan import Outcome
from tests.conftest import prepare_files
from tests.support.labs import add_units, new_file, save, trains

# Adds objects to an empty file. May return a function that changes the written file with h5py,
# where pynwb would not write it.
Layout = Callable[[NWBFile], Callable[[h5py.File], object] | None]


def prepared(folder: Path, layout: Layout, **spec: Any) -> Outcome:
    """The outcome of preparing a file with that layout under that spec, as `a.nwb` in `folder`."""
    folder.mkdir(exist_ok=True)
    file = new_file()
    change = layout(file)
    with save(file, folder / "a.nwb") as saved:
        if change is not None:
            change(saved)
    parsed = DatasetSpec.model_validate({"id": "x", "title": "x", **spec})
    (outcome,) = prepare_files(folder / "corpus", folder / "a.nwb", spec=parsed)
    return outcome


def session(folder: Path, layout: Layout, **spec: Any) -> Session:
    """The session that the file becomes."""
    outcome = prepared(folder, layout, **spec)
    assert outcome.status == "prepared", outcome.reason
    return Dataset(folder / "corpus")["local/a"]


def reason(folder: Path, layout: Layout, **spec: Any) -> str:
    """Why the file is refused."""
    outcome = prepared(folder, layout, **spec)
    assert outcome.status == "failed"
    return outcome.reason


def left(result: Session) -> dict[str, str]:
    """The objects that were left, by path, with the reason."""
    return {item.path: item.reason for item in result.metadata.left}


def notes_of(result: Session, word: str) -> list[str]:
    """The notes that hold `word`."""
    return [note for note in result.metadata.notes if word in note]


def of_units(*spikes: np.ndarray) -> Layout:
    """A file with these spike trains and nothing else."""
    return lambda file: add_units(file, list(spikes))


def spikes(seconds: float = 300.0, rate: float = 5.0, seed: int = 0) -> np.ndarray:
    """A sorted spike train on a 30 kHz grid."""
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, int(seconds * 30000), int(rate * seconds))) / 30000


def series(**fields: Any) -> Layout:
    """A unit that fires for 20 s, and the series `acquisition/x` in meters."""

    def layout(file: NWBFile) -> None:
        add_units(file, trains(np.random.default_rng(0), 1))
        file.add_acquisition(TimeSeries(**{"name": "x", "unit": "m", **fields}))

    return layout


def with_attribute(layout: Layout, path: str, **attributes: object) -> Layout:
    """`layout`, with other attributes of the object at `path`."""

    def changed(file: NWBFile) -> Callable[[h5py.File], object]:
        layout(file)
        return lambda saved: saved[path].attrs.update(attributes)

    return changed
