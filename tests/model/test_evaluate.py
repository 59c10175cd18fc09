"""Stitching, R² and the ridge baseline against oracles written another way."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from neurobrick_model import evaluate
from neurobrick_model.baselines import features, fit, ridge, unit_times
from neurobrick_model.corpus import Corpus
from neurobrick_model.evaluate import Decoded, covering, mean_r2, stitch
from neurobrick_model.settings import BaselineSettings, DataSettings
from neurobrick_model.timeline import TICKS, Spans, ticks
from neurobrick_model.tokens import KINDS, Keys, Queries
from tests.model.fakes import FakeDataset


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return Corpus.from_dataset(dataset, DataSettings())  # type: ignore[arg-type]


class Counter(torch.nn.Module):
    """Answers each query with the number of spikes in its window, and its place in it."""

    readout = SimpleNamespace(out_features=2)

    def forward(self, keys: Keys, queries: Queries) -> Tensor:
        window = torch.repeat_interleave(keys.offsets.diff())
        spikes = torch.bincount(window[keys.token % KINDS == 0], minlength=len(queries.time))
        return torch.stack(
            [spikes[:, None].expand_as(queries.time).float(), queries.time / TICKS], 2
        )


def test_stitching_is_the_weighted_average_over_windows(
    corpus: Corpus, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "BATCH", {"cpu": 7})
    rows = corpus.targets.scored["test"]
    found = stitch(
        Counter(),
        corpus.vocabulary,
        corpus.spikes,
        corpus.targets.time[rows],
        1.0,
        0.4,  # type: ignore[arg-type]
    )
    expected = []
    for session in dataset.values():
        first, last = session.domain.span
        starts = [*np.arange(first, last - 1.0 - 1e-9, 0.4), last - 1.0]
        inside = (session.splits["test"] & session.evaluation).contains(session.timestamps)
        for t in session.timestamps[inside]:
            total = weight = 0.0
            for start in starts:
                if start <= t < start + 1.0:
                    trust = max(1 - abs(2 * (t - start) - 1), 1e-3)
                    n = len(session.slice(start, start + 1.0).spikes.times)
                    total = total + trust * np.array([n, t - start])
                    weight += trust
            expected.append(total / weight)
    # A window whose edge falls on a sample may or may not hold it, at a weight of 1e-3.
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3)


def test_windows_cover_spans_and_never_leave_them() -> None:
    spans = Spans(
        torch.tensor([0, 100, 200]),
        torch.tensor([33, 104, 210]),
        torch.tensor([0, 0, 1]),
    )
    windows = covering(spans, 10, 5)
    assert windows.start.tolist() == [0, 5, 10, 15, 20, 23, 100, 200]
    assert windows.stop.tolist() == [10, 15, 20, 25, 30, 33, 104, 210]
    assert windows.session.tolist() == [0] * 7 + [1]


def test_r2_by_hand() -> None:
    truth = np.array([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0]])
    guess = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 40.0]])
    decoded = Decoded(np.arange(3.0), truth, guess)
    assert decoded.r2_axes == pytest.approx([1 - 2 / 8, 1 - 100 / 600])
    assert decoded.r2 == pytest.approx(1 - 102 / 608)
    still = Decoded(np.arange(3.0), np.ones((3, 1)), np.ones((3, 1)))
    assert np.isnan(still.r2)
    empty = Decoded(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)))
    assert np.isnan(empty.r2)
    assert np.isnan(empty.r2_axes).all()
    assert mean_r2([decoded, still, empty]) == decoded.r2
    assert np.isnan(mean_r2([empty]))


SETTINGS = BaselineSettings(bins=(0.1,), lags=5, alphas=(0.01,))


def test_ridge_features_are_roots_of_counts_around_each_sample(
    corpus: Corpus, dataset: FakeDataset
) -> None:
    session = dataset["sim/b"]
    units = unit_times(corpus, 1)
    base = corpus.spikes.base[1]
    times = np.array([1003.017, 1020.5])
    found = features(torch.from_numpy(ticks(times)) + base, units, 0.1, 5).numpy()
    assert found.shape == (2, 9 * 5)
    for row, t in enumerate(times):
        for unit in range(9):
            mine = session.spike_times[session.spike_units == unit]
            edges = t - 0.25 + 0.1 * np.arange(6)
            counts = [np.sum((mine >= a) & (mine < b)) for a, b in pairwise(edges)]
            np.testing.assert_allclose(found[row, unit * 5 : unit * 5 + 5], np.sqrt(counts))


def test_ridge_is_the_weighted_least_squares_solution(dataset: FakeDataset) -> None:
    settings = DataSettings.model_validate(
        {"weights": {"elsewhere": 0.2, "rules": [{"during": "evaluation", "weight": 1.0}]}}
    )
    corpus = Corpus.from_dataset(dataset, settings)  # type: ignore[arg-type]
    units = unit_times(corpus, 0)
    model = fit(corpus, 0, units, SETTINGS)

    session = dataset["sim/a"]
    train = session.splits["train"].contains(session.timestamps)
    at = torch.from_numpy(ticks(session.timestamps[train])) + corpus.spikes.base[0]
    x = features(at, units, 0.1, 5).numpy()
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
    decoded, models = ridge(corpus, wide)
    for one, model in zip(decoded.values(), models, strict=True):
        assert one.r2 > 0.5
        assert model.bin == 0.1
        assert model.alpha < 1e3
    for id, one in decoded.items():
        row = corpus.vocabulary.sessions.index(id)
        rows = corpus.targets.scored["test"]
        mine = rows[corpus.targets.session[rows] == row]
        np.testing.assert_allclose(
            one.time, (corpus.targets.time[mine] - corpus.spikes.base[row]).numpy() / TICKS
        )
