"""The ridge decoder against textbooks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from neurobrick import Intervals
from neurobrick_model.baselines import ridge
from neurobrick_model.baselines.binned_spikes import BinnedSession, features
from neurobrick_model.baselines.fit_all import baselines
from neurobrick_model.baselines.ridge import fit
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS, ticks
from neurobrick_model.recipe.settings import BaselineSettings, DataSettings
from tests.support.model.baselines import QUICK, corpus_of
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return corpus_of(*dataset.values())


def test_ridge_features_are_roots_of_counts_around_each_sample(
    corpus: Corpus, dataset: FakeDataset
) -> None:
    session = dataset["sim/b"]
    units = BinnedSession.of(corpus, 1).units
    base = corpus.spikes.base[1]
    times = np.array([1003.017, 1020.5])
    roots = features(torch.from_numpy(ticks(times)) + base, units, 0.1, 5).numpy()
    assert roots.shape == (2, 9 * 5)
    for row, t in enumerate(times):
        for unit in range(9):
            spikes = session.spike_times[session.spike_units == unit]
            edges = t - 0.25 + 0.1 * np.arange(6)
            counts = [np.sum((spikes >= a) & (spikes < b)) for a, b in pairwise(edges)]
            np.testing.assert_allclose(roots[row, unit * 5 : unit * 5 + 5], np.sqrt(counts))


def test_ridge_is_the_weighted_least_squares_solution(dataset: FakeDataset) -> None:
    settings = DataSettings.model_validate(
        {"weights": {"elsewhere": 0.2, "rules": [{"during": "evaluation", "weight": 1.0}]}}
    )
    corpus = Corpus.from_dataset(dataset, settings)  # type: ignore[arg-type]
    recording = BinnedSession.of(corpus, 0)
    model = fit(recording, QUICK)

    session = dataset["sim/a"]
    train = session.splits["train"].contains(session.timestamps)
    at = torch.from_numpy(ticks(session.timestamps[train])) + corpus.spikes.base[0]
    x = features(at, recording.units, 0.1, 5).numpy()
    y = (session.values[train] - corpus.targets.mean[0].numpy()) / corpus.targets.std[0].numpy()
    w = np.where(session.evaluation.contains(session.timestamps[train]), 1.0, 0.2)
    w = w / w.sum()
    x_centred, y_centred = x - w @ x, y - w @ y
    penalty = 0.01 * np.mean(w @ x_centred**2)
    stacked = np.vstack([x_centred * np.sqrt(w)[:, None], np.sqrt(penalty) * np.eye(x.shape[1])])
    right = np.vstack([y_centred * np.sqrt(w)[:, None], np.zeros((x.shape[1], 2))])
    expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
    np.testing.assert_allclose(model.weight.numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.feature_mean.numpy(), w @ x, rtol=1e-6)


def test_ridge_decodes_tuned_units_and_chooses_on_the_validation_split(corpus: Corpus) -> None:
    wide = BaselineSettings(bins=(0.002, 0.1), lags=5, alphas=(1e-3, 1e-1, 1e3))
    found = baselines(corpus, wide, 0)["ridge"]
    for id, one in found.decoded.items():
        assert one.r2 > 0.5
        assert found.chosen[id]["bin"] == 0.1
        assert found.chosen[id]["alpha"] < 1e3
        row = corpus.vocabulary.sessions.index(id)
        rows = corpus.targets.scored["test"]
        mine = rows[corpus.targets.session[rows] == row]
        np.testing.assert_allclose(
            one.time, (corpus.targets.time[mine] - corpus.spikes.base[row]).numpy() / TICKS
        )


def test_without_a_validation_split_the_last_of_training_chooses(dataset: FakeDataset) -> None:
    """Otherwise the first penalty would do as well as any: units of which nothing can be told would
    be fitted all the same, and the decoder win by it."""
    other = fake_session("sim/a", 7)
    session = dataset["sim/a"].with_(
        spike_times=other.spike_times,
        spike_units=other.spike_units,
        splits={**other.splits, "train": Intervals([0.0], [10.0])},
    )
    corpus = corpus_of(session.with_(splits={**session.splits, "valid": Intervals()}))
    usual, alone = BinnedSession.of(corpus_of(session), 0), BinnedSession.of(corpus, 0)
    assert (len(alone.train), len(alone.valid), len(usual.train)) == (800, 200, 1000)
    for one in ("time", "value", "weight"):
        both = torch.cat([getattr(alone.train, one), getattr(alone.valid, one)])
        assert torch.equal(both, getattr(usual.train, one))
    two = QUICK.model_copy(update={"alphas": (1e-6, 1e6), "lags": 25})
    assert fit(alone, two).alpha == fit(usual, two).alpha == 1e6


def wide_session() -> FakeSession:
    """More units than training samples at 20 Hz: 60 units × 25 lags against 200 samples."""
    rng = np.random.default_rng(11)
    session = fake_session("sim/a", 0, n_units=60)
    times = np.sort(rng.uniform(0, 60, 9000))
    units = rng.integers(0, 60, 9000).astype(np.int32)
    train = Intervals([0.0], [10.0])
    return session.with_(
        spike_times=times, spike_units=units, splits={**session.splits, "train": train}
    )


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("numbers", [2**24, 2000])  # all units at once, or few
def test_the_dual_solution_of_ridge_is_the_primal_one(
    weighted: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ridge, "NUMBERS", numbers)
    recording = BinnedSession.of(corpus_of(wide_session(), rate=20), 0)
    if weighted:
        weight = torch.linspace(0.1, 2.0, len(recording.train), dtype=torch.float64)
        recording = replace(recording, train=replace(recording.train, weight=weight))
    settings = QUICK.model_copy(update={"lags": 25, "alphas": (1e-3, 1.0)})
    assert len(recording.train) < 60 * 25
    primal, dual = (solve(recording, settings, 0.1) for solve in (ridge._primal, ridge._dual))
    assert [model.alpha for model in dual] == [1e-3, 1.0]
    for a, b in zip(primal, dual, strict=True):
        np.testing.assert_allclose(b.weight, a.weight, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(b.feature_mean, a.feature_mean, rtol=1e-9)
        np.testing.assert_allclose(b.target_mean, a.target_mean, atol=1e-12)


def test_ridge_makes_no_matrix_of_the_features_where_there_are_fewer_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the primal solution was taken")

    monkeypatch.setattr(ridge, "_Moments", never)
    recording = BinnedSession.of(corpus_of(wide_session(), rate=20), 0)
    assert torch.isfinite(fit(recording, QUICK.model_copy(update={"lags": 25})).weight).all()


@pytest.mark.slow
@pytest.mark.parametrize("lags", [3, 25])  # more samples than features, and fewer
def test_ridge_is_that_of_scikit_learn(lags: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    recording = BinnedSession.of(corpus_of(wide_session(), rate=20), 0)
    train, settings = recording.train, QUICK.model_copy(update={"lags": lags})
    assert (len(train) < 60 * lags) == (lags == 25)
    model = fit(recording, settings)
    x = features(train.time, recording.units, model.bin, lags).numpy()
    penalty = model.alpha * np.var(x, axis=0).mean() * len(x)  # ours is relative, and of the mean
    reference = linear_model.Ridge(alpha=penalty, tol=1e-10).fit(x, train.value.numpy())
    np.testing.assert_allclose(model.weight.T, reference.coef_, rtol=1e-6, atol=1e-9)
    decoded = (torch.from_numpy(x) - model.feature_mean) @ model.weight + model.target_mean
    np.testing.assert_allclose(decoded, reference.predict(x), rtol=1e-6, atol=1e-9)
