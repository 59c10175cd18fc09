"""Stitching and R² against oracles written another way."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from neurobrick_model import evaluate
from neurobrick_model.corpus import Corpus
from neurobrick_model.evaluate import Decoded, covering, mean_r2, stitch
from neurobrick_model.settings import DataSettings
from neurobrick_model.timeline import TICKS, Spans
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
