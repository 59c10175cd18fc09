"""Rates, derivatives and interpolation of samples, also of those that share a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.sampling import (
    decimation,
    derivative,
    interpolated,
    sampling_interval,
    sampling_rate,
)
from neurobrick_model.recipe.settings import DataSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session

Times = NDArray[np.float64]


@pytest.mark.parametrize(
    ("rate", "wanted", "stride"), [(1000, 100, 10), (60, 30, 2), (60, 25, 3), (50, 100, 1)]
)
def test_decimation_keeps_at_most_the_wanted_rate(rate: int, wanted: int, stride: int) -> None:
    times = np.cumsum(np.full(1000, 1 / rate))
    times[500:] += 3.7  # a gap does not change the rate
    assert decimation(times, wanted) == stride


def test_a_derivative_does_not_reach_across_gaps() -> None:
    times = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0])
    change = derivative(times, times[:, None] ** 2)
    np.testing.assert_allclose(change[:5, 0], [0.1, 0.2, 0.3, 10.1, 10.1])
    assert np.isnan(change[5, 0])


# Samples that share a time

TIED = st.lists(st.integers(0, 30), min_size=1, max_size=40).map(lambda k: np.sort(k) / 10.0)


@given(times=TIED, rate=st.floats(0.1, 1000))
def test_any_sorted_times_have_a_rate_and_a_derivative(times: Times, rate: float) -> None:
    values = np.stack([times**2, -times], axis=1)
    assert np.isfinite(sampling_rate(times))
    assert 1 <= decimation(times, rate) <= max(1, len(times) * 10 / rate + 1)
    change = derivative(times, values)
    assert change.shape == values.shape
    assert not np.isinf(change).any()
    shared = times[1:] == times[:-1]
    np.testing.assert_array_equal(change[1:][shared], change[:-1][shared])
    assert not np.isinf(interpolated(times, times, values)).any()


@given(times=TIED, repeats=st.integers(2, 5))
def test_repeating_each_sample_changes_the_rate_alone(times: Times, repeats: int) -> None:
    times = np.unique(times)
    values = times[:, None] ** 2
    many = times.repeat(repeats)
    assert sampling_rate(many) == pytest.approx(repeats * sampling_rate(times), rel=1e-5)
    assert sampling_interval(many) == sampling_interval(times)
    np.testing.assert_allclose(
        derivative(many, values.repeat(repeats, 0)), derivative(times, values).repeat(repeats, 0)
    )
    between = times[:-1] + 0.03
    np.testing.assert_array_equal(
        interpolated(between, many, values.repeat(repeats, 0)),
        interpolated(between, times, values),
    )


def tied(session: FakeSession) -> FakeSession:
    """With the timestamp of every second sample repeated, the samples staying as many."""
    return session.with_(timestamps=session.timestamps[::2].repeat(2))


@pytest.mark.parametrize("unit", ["m/s", "m"])
@pytest.mark.parametrize("labels", [None, 6.0])
def test_a_corpus_of_shared_times_is_trained_on(unit: str, labels: float | None) -> None:
    session = tied(fake_session("sim/a", 1)).with_(unit=unit)
    gaze = (session.timestamps, session.values, "m")
    settings = DataSettings.model_validate(
        {"velocity": True, "labels": labels, "readouts": {"gaze": {}}}
    )
    dataset = FakeDataset(session.with_(others={"gaze": gaze}))
    corpus = Corpus.from_dataset(dataset, settings)  # type: ignore[arg-type]
    assert corpus.rate == 100
    assert corpus.targets.value.isfinite().all()
    assert corpus.targets.value[corpus.targets.train].std() == pytest.approx(1, abs=0.1)
    assert corpus.label_seconds[0] == pytest.approx(labels or 48, abs=0.1)
    (readout,) = corpus.targets.readouts
    assert (readout.weight > 0).float().mean() > 0.99
