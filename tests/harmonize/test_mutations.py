"""500 damaged files: each has an outcome, and no store holds other spikes than its file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pebble import ProcessPool

from neurobrick import Dataset
from tests.support.layouts import irregular, regular, with_gaps, write

pytestmark = pytest.mark.slow

N_FILES = 500
SENTINELS = [-1.0, -99.0, -999.0, -9999.0]

Mutation = Callable[[bytearray, np.random.Generator], None]


def flip_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(data), rng.integers(1, 30)):
        data[at] = rng.integers(256)


def flip_a_bit(data: bytearray, rng: np.random.Generator) -> None:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def zero_a_block(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(data)))
    data[at : at + 256] = bytes(len(data[at : at + 256]))


def repeat_a_block(data: bytearray, rng: np.random.Generator) -> None:
    a, b = rng.integers(0, len(data) - 600, 2)
    data[a : a + 512] = data[b : b + 512]


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


MUTATIONS: tuple[Mutation, ...] = (flip_bytes, flip_a_bit, zero_a_block, repeat_a_block, cut)


def scramble_the_index(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        index = file["units/spike_times_index"]
        rows = rng.integers(0, len(index), 2)
        index[...] = np.where(np.isin(np.arange(len(index)), rows), rng.integers(0, 999), index[:])


def seeds(folder: Path) -> list[Path]:
    """Small undamaged files: three layouts, plain and compressed, without specifications."""
    made = []
    for layout in (regular, irregular, with_gaps):
        source = write(folder / f"{layout.__name__}.nwb", layout)
        for compression in (None, "gzip"):
            made.append(folder / f"{layout.__name__}-{compression}.seed")
            with h5py.File(source) as old, h5py.File(made[-1], "w") as new:
                new.attrs.update(old.attrs)
                for name in set(old) - {"specifications"}:
                    old.copy(name, new)
                times = new["units/spike_times"]
                attributes, data = dict(times.attrs), times[:]
                del new["units/spike_times"]
                again = new.create_dataset("units/spike_times", data=data, compression=compression)
                again.attrs.update(attributes)
    return made


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of damaged files."""
    source, folder = tmp_path_factory.mktemp("seeds"), tmp_path_factory.mktemp("mutants")
    rng = np.random.default_rng(0)
    undamaged = seeds(source)
    for k in range(N_FILES):
        path = folder / f"sub-M_ses-{k:03d}.nwb"
        data = bytearray(undamaged[k % len(undamaged)].read_bytes())
        kind = int(rng.integers(len(MUTATIONS) + 1))
        if kind < len(MUTATIONS):
            MUTATIONS[kind](data, rng)
        path.write_bytes(data)
        if kind == len(MUTATIONS):
            scramble_the_index(path, rng)
    return folder


@pytest.fixture(scope="module")
def prepared(mutants: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The corpus of the damaged files, and the outcome of each."""
    root = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, "-m", "neurobrick", "prepare", "nwb", str(mutants), "--json"]
    done = subprocess.run(
        [*command, "--jobs", "2", "--root", str(root)], capture_output=True, text=True, timeout=240
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 1
    return root, json.loads(done.stdout)


def test_every_file_has_an_outcome_and_a_reason(prepared: tuple[Path, list[Any]]) -> None:
    _, outcomes = prepared
    assert len(outcomes) == N_FILES
    counts = Counter(outcome["status"] for outcome in outcomes)
    assert min(counts["prepared"], counts["failed"]) > N_FILES / 10, counts
    for outcome in outcomes:
        assert outcome["status"] == "prepared" or outcome["reason"]
        assert "\n" not in outcome["reason"]
        assert "should not be" not in outcome["reason"]


def spikes_by_h5py(path: str) -> list[list[float]]:
    """Each unit's spikes by plain h5py, under the policies of docs/policies.md."""
    with h5py.File(path, "r") as file:
        times = file["units/spike_times"][:].astype(np.float64)
        ends = file["units/spike_times_index"][:].astype(np.int64)
    times = times[: ends[-1]]
    dropped = ~np.isfinite(times)
    negative = ~dropped & (times < 0)
    if np.isin(times[negative], SENTINELS).all():
        dropped |= negative
    parts = np.split(np.arange(len(times)), ends[:-1])
    return [np.sort(times[rows[~dropped[rows]]]).tolist() for rows in parts]


def test_no_store_holds_other_spikes_than_its_file(
    mutants: Path, prepared: tuple[Path, list[Any]]
) -> None:
    root, outcomes = prepared
    ds = Dataset(root)
    made = [outcome for outcome in outcomes if outcome["status"] == "prepared"]
    assert ds.sessions == sorted(outcome["session_id"] for outcome in made)
    with ProcessPool(1) as pool:  # a damaged file may crash the process that reads it
        readings = [pool.submit(spikes_by_h5py, 30, str(mutants / o["path"])) for o in made]
        for outcome, reading in zip(made, readings, strict=True):
            session = ds[outcome["session_id"]]
            times, units = session.spike_arrays()
            found = [times[units == row].tolist() for row in range(session.n_units)]
            assert found == reading.result(), outcome["path"]
            assert outcome["spikes"] == len(times)
