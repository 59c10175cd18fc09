"""Metrics against their textbook formulas, and their confidence against what it claims."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neurobrick_model.evaluation import metrics
from neurobrick_model.evaluation.metrics import (
    Assessed,
    Scores,
    assess,
    assess_classes,
    bootstrap,
    interval,
    mean,
    score,
    trial_groups,
)

Floats = NDArray[np.float64]


def plain(truth: Floats, guess: Floats) -> dict[str, Floats]:
    """The metrics, each by its own formula."""
    error = ((truth - guess) ** 2).sum(0)
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, guess.T, strict=True)]
    return {
        "r2": 1 - error.sum() / total.sum(),
        "r2_axes": 1 - error / total,
        "rmse": np.sqrt(np.mean(np.linalg.norm(truth - guess, axis=1) ** 2)),
        "rmse_axes": np.sqrt(((truth - guess) ** 2).mean(0)),
        "correlation": np.mean(r),
        "correlation_axes": np.array(r),
    }


def reaches(
    random: np.random.Generator, trials: int, samples: int = 10
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Velocities of reaches (n, 2), as a decoder that misjudges each as a whole would have them;
    and the trial of each sample."""
    angle = random.uniform(0, 2 * np.pi, (trials, 1, 1))
    profile = np.sin(np.pi * np.linspace(0, 1, samples))[:, None]
    truth = profile * np.concatenate([np.cos(angle), np.sin(angle)], axis=2)
    missed = 0.3 * profile * random.standard_normal((trials, 1, 2))
    guess = 0.9 * truth + missed + 0.1 * random.standard_normal(truth.shape)
    numbers = np.repeat(np.arange(trials), samples)
    return truth.reshape(-1, 2), guess.reshape(-1, 2), numbers


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_scores_are_those_of_the_textbook(offset: float) -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((300, 3)) * [1.0, 5.0, 0.2] + offset
    guess = 0.7 * (truth - offset) + offset + random.standard_normal((300, 3)) + [0.0, 0.4, 0.0]
    found = score(truth, guess)
    for name, expected in plain(truth, guess).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-8)


def test_an_axis_that_does_not_move_has_neither_r2_nor_correlation() -> None:
    truth, guess, _ = reaches(np.random.default_rng(0), 5)
    truth[:, 1] = 0.1  # whose mean is not exactly 0.1
    found = score(truth, guess)
    alone = score(truth[:, :1], guess[:, :1])
    assert found.r2_axes[0] == pytest.approx(float(alone.r2))
    assert found.correlation == found.correlation_axes[0] == pytest.approx(float(alone.correlation))
    assert np.isnan([found.r2_axes[1], found.correlation_axes[1]]).all()
    assert np.isfinite(found.rmse_axes).all()
    flat = score(truth, np.full_like(guess, 0.3))
    assert np.isnan(flat.correlation)
    assert flat.r2_axes[0] < 0


def test_nothing_decoded_scores_nothing() -> None:
    empty = np.zeros((0, 2))
    found = assess(empty, empty, np.zeros(0, np.int64))
    assert np.isnan(found.scores.r2)
    assert np.isnan(found.scores.rmse_axes).all()
    assert found.scores.correlation_axes.shape == (2,)
    assert np.isnan(found.record()["ci95"]["axes"]).all()


def test_one_trial_has_scores_but_no_confidence() -> None:
    found = assess(*reaches(np.random.default_rng(0), 1)).record()
    assert np.isfinite(found["r2"])
    assert np.isnan(found["ci95"]["r2"]).all()


@pytest.mark.parametrize("at_once", [2**22, 50])
def test_a_resample_is_the_samples_of_trials_drawn_with_replacement(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "DRAWS", at_once)
    random = np.random.default_rng(1)
    truth, guess, trial = reaches(random, 12)
    kept = random.random(len(trial)) < 0.7  # trials are of different lengths
    truth, guess, trial = truth[kept], guess[kept], trial[kept]
    found = bootstrap(truth, guess, trial, n=30, seed=5)
    draws = np.random.default_rng(5)
    for resample in range(30):
        drawn = draws.integers(12, size=12)
        rows = np.concatenate([np.flatnonzero(trial == number) for number in drawn])
        for name, expected in plain(truth[rows], guess[rows]).items():
            np.testing.assert_allclose(getattr(found, name)[resample], expected, rtol=1e-9)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """And drawing samples instead of trials would not."""
    random = np.random.default_rng(2)
    expected = score(*reaches(random, 50_000)[:2])
    held = {"r2": 0, "rmse": 0, "correlation": 0, "samples": 0}
    for _ in range(300):
        truth, guess, trial = reaches(random, 25)
        whole, redrawn = score(truth, guess), bootstrap(truth, guess, trial, n=300)
        for name in ("r2", "rmse", "correlation"):
            low, high = interval(getattr(whole, name), getattr(redrawn, name))
            held[name] += low <= getattr(expected, name) <= high
        apart = bootstrap(truth, guess, np.arange(len(truth)), n=100)
        low, high = interval(whole.r2, apart.r2)
        held["samples"] += low <= expected.r2 <= high
    for name in ("r2", "rmse", "correlation"):
        assert 0.88 < held[name] / 300 < 0.99, name
    assert held["samples"] / 300 < 0.8


def test_the_mean_of_many_sessions_lies_inside_its_interval() -> None:
    """Which is as wide as the mean is uncertain, by how the sessions scatter."""
    random = np.random.default_rng(3)
    sessions = [assess(*reaches(random, 20), seed=[0, k]) for k in range(64)]
    whole = mean(sessions)
    r2 = [float(one.scores.r2) for one in sessions]
    assert float(whole.scores.r2) == pytest.approx(np.mean(r2))
    low, high = interval(whole.scores.r2, whole.redrawn.r2)
    assert low < whole.scores.r2 < high
    error = np.std(r2) / 8
    assert 0.7 < (high - low) / (3.92 * error) < 1.4


def test_the_mean_leaves_out_what_has_no_score() -> None:
    random = np.random.default_rng(4)
    moving, still = reaches(random, 6), reaches(random, 6)
    still[0][:, 1] = 0.0
    nothing = assess(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64))
    one, other = assess(*moving), assess(*still)
    whole = mean([one, other, nothing]).scores
    assert whole.r2 == pytest.approx((one.scores.r2 + other.scores.r2) / 2)
    assert whole.r2_axes[1] == one.scores.r2_axes[1]
    assert np.isnan(mean([nothing]).scores.rmse)


def test_a_session_of_one_trial_leaves_the_mean_its_interval() -> None:
    """It counts in the mean as it is, so the interval is that of the others, shared among more."""
    random = np.random.default_rng(8)
    one, other = (assess(*reaches(random, 20), seed=k) for k in range(2))
    single = assess(*reaches(random, 1))
    found, without = mean([one, single, other]), mean([one, other])

    def bounds(one: Assessed[Scores], name: str) -> Floats:
        return interval(getattr(one.scores, name), getattr(one.redrawn, name)).T

    for name in ("r2", "rmse", "correlation", "r2_axes"):
        (low, high), (lower, higher) = bounds(found, name), bounds(without, name)
        assert np.all(low < getattr(found.scores, name))
        assert np.all(high > getattr(found.scores, name))
        np.testing.assert_allclose(high - low, (higher - lower) * 2 / 3)
    assert np.isnan(mean([single, single]).record()["ci95"]["r2"]).all()


def test_two_decoders_are_given_the_same_resamples() -> None:
    truth, guess, trial = reaches(np.random.default_rng(5), 9)
    one, same = (bootstrap(truth, x, trial, n=50, seed=[1, 2]) for x in (guess, guess + 0.0))
    np.testing.assert_array_equal(one.r2, same.r2)
    other = bootstrap(truth, guess, trial, n=50, seed=[1, 3])
    assert not np.array_equal(one.r2, other.r2)


def test_samples_are_grouped_by_trial_and_elsewhere_by_block() -> None:
    trials = np.array([[2.0, 3.0], [5.0, 7.0], [6.5, 8.0], [20.0, 21.0]])
    time = np.array([-0.5, 0.5, 1.9, 2.0, 2.9, 3.0, 4.1, 5.0, 6.4, 6.5, 7.9, 8.0, 8.1, 30.0])
    #        blocks of 4 s: -1, 0, 0 | trial | 0, 1 | trial | trial | 2, 2, 7
    expected = [0, 1, 1, 2, 2, 1, 3, 4, 4, 5, 5, 6, 6, 7]
    found = trial_groups(time, trials, 4.0)
    assert sorted(set(found.tolist())) == list(range(8))
    alike = np.array(expected)[:, None] == expected
    np.testing.assert_array_equal(found[:, None] == found, alike)
    assert len(trial_groups(np.zeros(0), trials, 4.0)) == 0
    assert trial_groups(time, np.zeros((0, 2)), 100.0).max() == 1


def test_accuracy_is_drawn_by_trial_too() -> None:
    random = np.random.default_rng(7)
    trial = np.repeat(np.arange(30), 20)
    right = np.repeat(random.random(30) < 0.8, 20)  # all samples of a reach, or none
    found = assess_classes(right, trial, seed=3)
    assert found.scores.accuracy == right.mean()
    draws = np.random.default_rng(3)
    drawn = right[::20][draws.integers(30, size=(len(found.redrawn.accuracy), 30))]
    np.testing.assert_allclose(found.redrawn.accuracy, drawn.mean(1))
    low, high = found.record()["ci95"]["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 30), rel=0.3)
    assert np.isnan(assess_classes(np.zeros(0, bool), np.zeros(0, np.int64)).scores.accuracy)


def test_an_interval_stays_where_scores_can_be() -> None:
    """Of two trials, one decoded well, resamples of the good one alone would say more than 1."""
    truth, guess, trial = reaches(np.random.default_rng(6), 2)
    guess[trial == 1] = 0.0
    guess[trial == 0] = truth[trial == 0]
    found = assess(truth, guess, trial)
    assert interval(found.scores.r2, found.redrawn.r2)[1] > 1
    intervals = found.record()["ci95"]
    assert intervals["r2"][1] == 1
    assert np.max(intervals["axes"]) <= 1
    assert min(intervals["rmse"]) >= 0
