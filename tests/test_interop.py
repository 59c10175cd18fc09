"""A slice holds the same spikes and samples in the hands of another library."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from neurobrick import Dataset, NeurobrickError, Slice


@pytest.fixture
def window(corpus: Dataset) -> Slice:
    return corpus.slice("local/sub-A_ses-with-gaps", 4.0, 9.0)


@pytest.mark.filterwarnings("ignore")
def test_pynapple(window: Slice) -> None:
    pytest.importorskip("pynapple")
    found = window.to_pynapple()
    for unit in range(5):
        mine = window.spikes.times[window.spikes.units == unit]
        np.testing.assert_allclose(found["units"][unit].times(), mine, atol=1e-9)
    velocity = window.behavior["hand_vel"]
    np.testing.assert_array_equal(found["hand_vel"].values, velocity.values)
    assert list(found["hand_vel"].columns) == ["x", "y"]
    assert len(found["trials"]) == window.intervals["trials"].num_rows


def test_xarray(window: Slice) -> None:
    pytest.importorskip("xarray")
    found = window.to_xarray(0.05)
    np.testing.assert_array_equal(found.counts.values, window.bin(0.05))
    assert found.counts.time.values[0] == pytest.approx(4.025)
    assert found.hand_vel.attrs["units"] == "m/s"
    np.testing.assert_array_equal(
        found.hand_vel.hand_vel_time, window.behavior["hand_vel"].timestamps
    )


def test_a_missing_library_is_named(window: Slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with pytest.raises(NeurobrickError, match=r"pip install 'neurobrick\[interop\]'"):
        window.to_pynapple()
