"""Baselines against textbooks: what they compute, what they can learn, and what they never see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neurobrick import Intervals
from neurobrick_model import Recipe, Trainer
from neurobrick_model.baselines import kalman, network_training
from neurobrick_model.baselines.binned_spikes import BinnedSession, features
from neurobrick_model.baselines.fit_all import METHODS, baselines
from neurobrick_model.baselines.kalman import Kalman, recursion, regressed
from neurobrick_model.baselines.networks import GRU
from neurobrick_model.baselines.ridge import fit
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS, ticks
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.recipe.settings import BaselineSettings, DataSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session

Array = NDArray[np.float64]

ALL = tuple(METHODS)
QUICK = BaselineSettings(
    which=ALL, bins=(0.1,), lags=5, alphas=(0.01,), hidden=(16,), dropout=(0.1,)
)


@pytest.fixture(autouse=True, scope="module")
def _few_epochs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_training, "EPOCHS", 4)
        yield


def corpus_of(*sessions: FakeSession, rate: float = 100.0) -> Corpus:
    settings = DataSettings(target_rate=rate)
    return Corpus.from_dataset(FakeDataset(*sessions), settings)  # type: ignore[arg-type]


def decoded(session: FakeSession, settings: BaselineSettings, seed: int = 0) -> dict[str, Decoded]:
    """What each baseline decodes of a session, at 20 Hz."""
    found = baselines(corpus_of(session, rate=20), settings, seed)
    return {name: one.decoded[session.id] for name, one in found.items()}


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


class System:
    """A rotating, decaying state of 2 numbers, seen by 6 noisy units, and how it went once."""

    def __init__(self, seed: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        self.transition = 0.97 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
        self.noise = np.array([[0.05, 0.01], [0.01, 0.04]])
        self.observed = rng.normal(size=(6, 2))
        mixing = rng.normal(size=(6, 6))
        self.spread = mixing @ mixing.T + 3 * np.eye(6)
        self.prior = np.array([[0.9, 0.1], [0.1, 0.7]])
        rng = np.random.default_rng(seed)
        self.states = rng.multivariate_normal([0, 0], self.noise, steps)
        self.states[0] = rng.multivariate_normal([0, 0], self.prior)
        for t in range(1, steps):
            self.states[t] += self.transition @ self.states[t - 1]
        error = rng.multivariate_normal(np.zeros(6), self.spread, steps)
        self.counts = self.states @ self.observed.T + error

    def textbook(self) -> Array:
        """Kalman 1960: predict, gain, update."""
        mean, covariance, found = np.zeros(2), self.prior, []
        for t, seen in enumerate(self.counts):
            if t:
                mean = self.transition @ mean
                covariance = self.transition @ covariance @ self.transition.T + self.noise
            innovation = self.observed @ covariance @ self.observed.T + self.spread
            gain = covariance @ self.observed.T @ np.linalg.inv(innovation)
            mean = mean + gain @ (seen - self.observed @ mean)
            covariance = (np.eye(2) - gain @ self.observed) @ covariance
            found.append(mean)
        return np.array(found)


@pytest.mark.parametrize("steps", [1, 2, 9, 700])
def test_the_kalman_filter_is_the_textbooks(steps: int) -> None:
    system = System(0, steps)
    projection = system.observed.T @ np.linalg.inv(system.spread)
    parts = (np.zeros(2), system.prior, system.transition, system.noise, np.zeros(6))
    model = Kalman(*map(torch.from_numpy, (*parts, projection, projection @ system.observed)))
    found = model.filter(torch.from_numpy(system.counts)).numpy()
    np.testing.assert_allclose(found, system.textbook(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 101])
def test_doubling_is_the_recursion(steps: int) -> None:
    rng = np.random.default_rng(steps)
    step, drive = 0.5 * rng.normal(size=(3, 3)), rng.normal(size=(steps, 3))
    found, x = recursion(torch.from_numpy(step), torch.from_numpy(drive)).numpy(), np.zeros(3)
    for t in range(steps):
        x = step @ x + drive[t]
        np.testing.assert_allclose(found[t], x, rtol=1e-9, atol=1e-9)


def test_of_a_linear_system_the_kalman_filter_finds_the_matrices_and_the_best_states() -> None:
    seen, unseen = System(1, 20_000), System(2, 5_000)
    states, counts = torch.from_numpy(seen.states), torch.from_numpy(seen.counts)
    model = regressed(states, counts, torch.ones(20_000, dtype=torch.float64), 1e-6)
    np.testing.assert_allclose(model.transition.numpy(), seen.transition, atol=0.02)
    np.testing.assert_allclose(model.noise.numpy(), seen.noise, atol=0.005)

    def error(states: Array) -> float:
        return float(np.mean((states - unseen.states) ** 2))

    filtered = error(model.filter(torch.from_numpy(unseen.counts)).numpy())
    memoryless = np.linalg.lstsq(seen.counts, seen.states, rcond=None)[0]
    assert filtered < 1.03 * error(unseen.textbook())
    assert filtered < 0.5 * error(unseen.counts @ memoryless)


def test_the_kalman_filter_knows_how_behavior_goes_on_and_ridge_does_not() -> None:
    """A slow oscillation, seen through few spikes: it goes on in between as it was going before."""
    session = oscillation()
    settings = QUICK.model_copy(update={"which": ("ridge", "kalman"), "bins": (0.1,), "lags": 1})
    found = decoded(session, settings)
    assert found["kalman"].r2 > found["ridge"].r2 + 0.2


def test_spikes_may_come_before_what_they_tell(
    dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = dataset["sim/a"]
    times = session.spike_times - 0.4
    early = session.with_(spike_times=times[times > 0], spike_units=session.spike_units[times > 0])
    settings = QUICK.model_copy(update={"which": ("kalman",)})
    found = decoded(early, settings)["kalman"].r2
    monkeypatch.setattr(kalman, "DELAYS", (0,))
    assert found > decoded(early, settings)["kalman"].r2 + 0.1


def poisson(rates: Array, step: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int32]]:
    """Times and units of the spikes of units with `rates` (t, n) Hz in steps of `step` seconds."""
    counts = rng.poisson(rates * step)
    row, unit = np.nonzero(counts)
    times = (row + rng.uniform(size=len(row))) * step
    order = np.argsort(times)
    return times[order], unit[order].astype(np.int32)


def oscillation() -> FakeSession:
    """2 units of 6 Hz each, tuned to a velocity that oscillates every 2 s."""
    rng = np.random.default_rng(5)
    session = fake_session("sim/a", 0, seconds=120.0)
    phase = np.pi * session.timestamps
    velocity = 0.1 * np.stack([np.cos(phase), np.sin(phase)], 1)
    times, units = poisson(6 + 50 * velocity, 0.01, rng)
    return session.with_(values=velocity, spike_times=times, spike_units=units, n_units=2)


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


def test_networks_learn_what_no_linear_map_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_training, "EPOCHS", 60)
    found = decoded(product_of_rates(), QUICK.model_copy(update={"hidden": (32,)}))
    assert found["ridge"].r2 < 0.1
    assert found["kalman"].r2 < 0.1
    assert found["mlp"].r2 > 0.6
    assert found["gru"].r2 > 0.6


@pytest.fixture(scope="module")
def usual(dataset: FakeDataset) -> dict[str, Decoded]:
    return decoded(dataset["sim/a"], QUICK)


def with_labels_changed(session: FakeSession, split: str) -> FakeSession:
    inside = session.splits[split].contains(session.timestamps)
    return session.with_(values=np.where(inside[:, None], -3 * session.values, session.values))


def test_no_baseline_sees_a_test_label(dataset: FakeDataset, usual: dict[str, Decoded]) -> None:
    found = decoded(with_labels_changed(dataset["sim/a"], "test"), QUICK)
    for name in ALL:
        assert np.array_equal(found[name].guess, usual[name].guess)
        assert not np.array_equal(found[name].truth, usual[name].truth)


def test_validation_labels_choose_and_teach_nothing(
    dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kalman, "DELAYS", (1,))
    monkeypatch.setattr(kalman, "DERIVATIVES", (1,))
    monkeypatch.setattr(kalman, "PENALTIES", (0.1,))
    monkeypatch.setattr(network_training, "EPOCHS", 1)
    session = dataset["sim/a"]
    before, after = decoded(session, QUICK), decoded(with_labels_changed(session, "valid"), QUICK)
    for name in ALL:
        assert np.array_equal(before[name].guess, after[name].guess)


def test_the_same_seed_gives_the_same_numbers_on_any_number_of_cores(dataset: FakeDataset) -> None:
    corpus = corpus_of(*dataset.values(), rate=20)
    alone, other = baselines(corpus, QUICK, 7), baselines(corpus, QUICK, 8)
    torch.set_num_threads(2)
    try:
        shared = baselines(corpus, QUICK, 7)
    finally:
        torch.set_num_threads(1)
    for name in ALL:
        for id in corpus.vocabulary.sessions:
            guess = alone[name].decoded[id].guess
            assert np.array_equal(guess, shared[name].decoded[id].guess)
            same = np.array_equal(guess, other[name].decoded[id].guess)
            assert same == (name in ("ridge", "kalman"))


def test_a_sessions_baselines_do_not_depend_on_the_other_sessions(dataset: FakeDataset) -> None:
    settings = DataSettings(target_rate=20, normalize="session")
    both, one = (
        baselines(Corpus.from_dataset(sessions, settings), QUICK, 0)  # type: ignore[arg-type]
        for sessions in (dataset, FakeDataset(dataset["sim/b"]))
    )
    for name in ALL:
        guesses = (found[name].decoded["sim/b"].guess for found in (both, one))
        np.testing.assert_allclose(*guesses, atol=1e-6)


def test_each_decodes_tuned_units(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_training, "EPOCHS", 60)
    for one in decoded(dataset["sim/a"], QUICK).values():
        assert one.r2 > 0.5


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_session_without_scored_samples_is_decoded_to_nothing(
    split: str, dataset: FakeDataset
) -> None:
    session = dataset["sim/a"]
    found = decoded(session.with_(splits={**session.splits, split: Intervals()}), QUICK)
    for one in found.values():
        assert one.guess.shape == (0 if split == "test" else 40, 2)
        assert np.isfinite(one.guess).all()


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


@pytest.mark.parametrize("n_units", [1, 4])
def test_units_that_never_fire_tell_nothing(n_units: int, dataset: FakeDataset) -> None:
    silent = dataset["sim/a"].with_(
        n_units=n_units, spike_times=np.zeros(0), spike_units=np.zeros(0, dtype=np.int32)
    )
    for one in decoded(silent, QUICK).values():
        assert np.ptp(one.guess, axis=0).max() < 0.02  # of a velocity of 0.1 m/s


def test_one_unit_is_enough(dataset: FakeDataset) -> None:
    session = dataset["sim/a"]
    kept = session.spike_units == 0
    alone = session.with_(
        n_units=1, spike_times=session.spike_times[kept], spike_units=session.spike_units[kept]
    )
    for one in decoded(alone, QUICK).values():
        assert np.isfinite(one.guess).all()
        assert (one.guess.std(axis=0) > 1e-3).all()


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
            mine = session.spike_times[session.spike_units == unit]
            expected = [np.sum((mine >= a) & (mine < b)) for a, b in pairwise(edges)]
            assert windows.counts[window[row], unit].tolist() == expected


def test_a_report_shows_every_baseline(dataset: FakeDataset, recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"baseline": QUICK})
    metrics = Trainer(recipe, dataset).fit()  # type: ignore[arg-type]
    told = json.loads((recipe.folder / "metrics.json").read_text())
    assert list(told["mean"]["baselines"]) == list(ALL)
    page = (recipe.folder / "report.html").read_text()
    for name, label in zip(ALL, ("ridge", "Kalman", "MLP", "GRU"), strict=True):
        assert f"<th>{label}</th>" in page
        for session in metrics["sessions"]:
            scores = session["baselines"][name]
            assert scores["bin"] == 0.1
            low, high = scores["ci95"]["r2"]
            assert low < scores["r2"] < high
            cell = f'<td>{scores["r2"]:.3f}<span class="ci">{low:.3f} to {high:.3f}</span></td>'
            assert cell in page
            for r2 in scores["axes"]:
                assert f"<td>{r2:.3f}</td>" in page
