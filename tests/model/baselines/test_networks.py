"""Networks of binned spikes: what they read, what they can learn, and how long they train."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from neurobrick_model.baselines import network_training
from neurobrick_model.baselines.binned_spikes import BinnedSession
from neurobrick_model.baselines.networks import GRU, MLP
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS
from tests.support.model.baselines import QUICK, corpus_of, decoded, poisson
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session


@pytest.fixture(autouse=True, scope="module")
def _few_epochs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_training, "EPOCHS", 4)
        yield


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return corpus_of(*dataset.values())


def product_of_rates() -> FakeSession:
    """Two groups of units, each with a slow signal of its own; the behavior is their product, with
    which no spike count is correlated."""
    rng = np.random.default_rng(3)
    session = fake_session("sim/a", 0, seconds=120.0)
    signals = np.sign(session.values) * np.minimum(np.abs(session.values) / 0.1, 1)
    rates = np.repeat(60 + 55 * signals, 4, axis=1)
    times, units = poisson(rates, 0.01, rng)
    return session.with_(
        values=0.1 * signals.prod(1, keepdims=True), spike_times=times, spike_units=units, n_units=8
    )


@pytest.mark.slow
def test_networks_learn_what_no_linear_map_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_training, "EPOCHS", 60)
    decoders = decoded(product_of_rates(), QUICK.model_copy(update={"hidden": (32,)}))
    assert decoders["ridge"].r2 < 0.1
    assert decoders["kalman"].r2 < 0.1
    assert decoders["mlp"].r2 > 0.6
    assert decoders["gru"].r2 > 0.6


def test_the_gru_reads_every_sample_where_it_lies(corpus: Corpus, dataset: FakeDataset) -> None:
    session, recording = dataset["sim/b"], BinnedSession.of(corpus, 1)
    time = recording.reported
    windows = GRU.windows(recording, time, 0.1, 5)
    place = windows.place[windows.inside].double().numpy()
    assert len(place) == len(time)
    assert place.min() >= 2.0 - 1e-5  # two bins and a half before, so that those are all there
    assert place.max() < 7.0
    seconds = (time - corpus.spikes.base[1]).double().numpy() / TICKS
    window = windows.inside.nonzero()[:, 0].numpy()
    for row in range(0, len(time), 37):
        first = seconds[row] - 0.1 * (place[row] + 0.5)
        edges = first + 0.1 * np.arange(11)
        for unit in range(9):
            spikes = session.spike_times[session.spike_units == unit]
            expected = [np.sum((spikes >= a) & (spikes < b)) for a, b in pairwise(edges)]
            assert windows.counts[window[row], unit].tolist() == expected


def test_training_ends_at_the_most_steps(
    dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    usual = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW) -> None:
        nonlocal taken
        taken += 1
        usual(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(network_training, "EPOCHS", 100)
    monkeypatch.setattr(network_training, "PATIENCE", 100)
    monkeypatch.setattr(MLP, "epoch_steps", 2)
    monkeypatch.setattr(MLP, "most_steps", 7)
    decoded(dataset["sim/a"], QUICK.model_copy(update={"which": ("mlp",)}))
    assert taken == 7
