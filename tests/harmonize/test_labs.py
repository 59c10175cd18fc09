"""Every lab's recording, prepared without a registry entry, against the arrays written."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.misc import Units

from neurobrick import Dataset, Session
from tests.conftest import prepare_files
from tests.support.labs import LABS, SECONDS, Truth
from tests.support.labs.__main__ import page
from tests.support.zarr_files import has_hdmf_zarr

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Prepared:
    """A lab's file, its truth, and the session it was prepared to."""

    path: Path
    truth: Truth
    session: Session


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    """Every lab, prepared by discovery in one run."""
    folder, root = tmp_path_factory.mktemp("labs"), tmp_path_factory.mktemp("corpus")
    paths = {name: folder / f"{name}.nwb" for name in LABS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynwb warns of practices that are not the best
        truths = {name: LABS[name](path, np.random.default_rng(0)) for name, path in paths.items()}
    outcomes = prepare_files(root, *paths.values())
    assert {o.session_id: o.reason for o in outcomes if o.status != "prepared"} == {}
    ds = Dataset(root)
    return {name: Prepared(paths[name], truths[name], ds[f"local/{name}"]) for name in LABS}


@pytest.fixture(params=sorted(LABS))
def lab(request: pytest.FixtureRequest, prepared: dict[str, Prepared]) -> Prepared:
    return prepared[request.param]


def spikes_of(session: Session, t0: float, t1: float) -> list[np.ndarray]:
    """The spikes of each unit in a window."""
    spikes = session.slice(t0, t1).spikes
    return [spikes.times[spikes.units == row] for row in range(session.n_units)]


def test_there_are_many_layouts() -> None:
    assert len(LABS) >= 30


def test_the_spikes_of_every_unit(lab: Prepared) -> None:
    found = spikes_of(lab.session, -1e9, 1e9)
    assert len(found) == len(lab.truth.spikes)
    for got, expected in zip(found, lab.truth.spikes, strict=True):
        np.testing.assert_array_equal(got, expected)


def windows(truth: Truth) -> list[tuple[float, float]]:
    """Random windows, and windows that begin and end exactly on spikes and samples."""
    rng = np.random.default_rng(1)
    edges = [*rng.uniform(-1, SECONDS + 1, 30)]
    for times in [*truth.spikes, *(b.timestamps for b in truth.behavior.values())]:
        edges += [*rng.choice(times, min(4, len(times)), replace=False)]
    starts, stops = rng.choice(edges, 25), rng.choice(edges, 25)
    return [(min(a, b), max(a, b)) for a, b in zip(starts, stops, strict=True)]


def test_windows(lab: Prepared) -> None:
    for t0, t1 in windows(lab.truth):
        for got, times in zip(spikes_of(lab.session, t0, t1), lab.truth.spikes, strict=True):
            np.testing.assert_array_equal(got, times[(times >= t0) & (times < t1)])
        window = lab.session.slice(t0, t1)
        for name, expected in lab.truth.behavior.items():
            inside = (expected.timestamps >= t0) & (expected.timestamps < t1)
            got = window.behavior[name]
            np.testing.assert_array_equal(got.timestamps, expected.timestamps[inside])
            assert len(got.values) == inside.sum()
        for name, times in lab.truth.intervals.items():
            start, stop = times.T  # comparisons are false where a time is NaN
            overlapping = (start < t1) & (stop > t0) & (start <= stop)
            assert window.intervals[name].num_rows == overlapping.sum()


def test_behavior_in_si(lab: Prepared) -> None:
    assert set(lab.session.behavior) == set(lab.truth.behavior)
    window = lab.session.slice(-1e9, 1e9)
    for name, expected in lab.truth.behavior.items():
        got = window.behavior[name]
        np.testing.assert_array_equal(got.timestamps, expected.timestamps)
        assert got.values.shape == expected.values.shape
        ulp = 4 * np.finfo(got.values.dtype).eps
        np.testing.assert_allclose(got.values, expected.values, rtol=ulp, atol=0)
        assert lab.session.behavior[name].unit == expected.unit


def test_interval_tables(lab: Prepared) -> None:
    assert set(lab.session.intervals) == set(lab.truth.intervals)
    for name, times in lab.truth.intervals.items():
        table = lab.session.intervals[name]
        got = np.stack([table["start"].to_numpy(), table["stop"].to_numpy()], axis=1)
        np.testing.assert_array_equal(got, times)


def test_columns_of_units(lab: Prepared) -> None:
    for name, expected in lab.truth.columns.items():
        assert lab.session.units[name].to_pylist() == expected


def test_left_objects_and_doubts_are_noted(lab: Prepared) -> None:
    metadata = lab.session.metadata
    left = {item.path: item.reason for item in metadata.left}
    for path, word in lab.truth.left.items():
        assert word in left[path]
    for word in lab.truth.notes:
        assert any(word in note for note in metadata.notes), metadata.notes
    if not lab.truth.notes:
        assert not [note for note in metadata.notes if "unit" not in note]


def test_pynwb_reads_the_same_spikes(lab: Prepared) -> None:
    """The truths, against another reader."""
    if not lab.truth.by_pynwb:
        pytest.skip("pynwb does not read this file")
    with NWBHDF5IO(lab.path, "r") as io, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            str(item.id.data.parent.name).strip("/"): item
            for item in io.read().objects.values()
            if isinstance(item, Units)
        }
        spike_times = found[lab.truth.units_path]["spike_times"]
        for row, times in enumerate(lab.truth.raw_spikes or lab.truth.spikes):
            np.testing.assert_array_equal(np.asarray(spike_times[row]), times)


def test_stores_are_the_same_byte_for_byte_in_every_process(
    prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """Hashes of texts differ from process to process, so the order of sets does, too."""
    folder = next(iter(prepared.values())).path.parent
    stores = []
    for seed in ("1", "2"):
        root = tmp_path / seed
        command = [sys.executable, "-m", "neurobrick", "prepare", "nwb", str(folder)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [*command, "--root", str(root)], env=environment, check=True, capture_output=True
        )
        files = sorted(path for path in root.glob("*/*.zarr/**/*") if path.is_file())
        stores.append({path.relative_to(root): path.read_bytes() for path in files})
    assert stores[0] == stores[1]
    assert len(stores[0]) > 20 * len(prepared)


@pytest.mark.skipif(not has_hdmf_zarr(), reason="the page lists the labs that need hdmf-zarr")
def test_the_page_of_layouts_lists_every_lab() -> None:
    written = (Path(__file__).parents[2] / "docs" / "layouts.md").read_text()
    assert written == page(), "python -m tests.support.labs > docs/layouts.md"
