"""The real recording that may lie beside a checkout: every spike of it is accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurobrick import Dataset
from neurobrick.store import damage
from tests.conftest import prepare_files
from tests.support import reference

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "900001"
NAME = "sub-LT_ses-run"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the recording is not here")


def test_a_linear_track(tmp_path: Path) -> None:
    (outcome,) = prepare_files(tmp_path, FOLDER)
    assert (outcome.units, outcome.spikes) == (31, 28829)
    (path,) = FOLDER.rglob(f"{NAME}*.nwb")
    truth = reference.read(path)
    session = Dataset(tmp_path)[f"local/{NAME}"]
    whole = session.slice(*session.span)
    for unit, times in enumerate(truth.spike_times):
        np.testing.assert_array_equal(whole.spikes.times[whole.spikes.units == unit], times)
    stamps, values = truth.series["processing/behavior/Position/led"]
    np.testing.assert_array_equal(whole.behavior["led"].timestamps, stamps)
    np.testing.assert_array_equal(whole.behavior["led"].values, values)
    assert session.intervals["epochs"]["label"].to_pylist() == ["run", "rest"]
    assert damage(tmp_path / "local" / f"{NAME}.zarr") == []
