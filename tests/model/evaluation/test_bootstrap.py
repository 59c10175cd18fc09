"""Confidence intervals against what they claim, with and without rest."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from neurobrick_model.evaluation import bootstrap as module
from neurobrick_model.evaluation.bootstrap import (
    ONE_GROUP,
    OUTSIDE,
    TOO_OFTEN_UNDEFINED,
    Assessed,
    assess,
    assess_classes,
    bias_corrected,
    bootstrap,
    interval,
    mean,
    too_wide,
    trial_groups,
)
from neurobrick_model.evaluation.metrics import BEHAVIOR, METRICS, score
from tests.model.evaluation.test_metrics import textbook
from tests.support.model.reaches import Floats, reaches

SCALARS = ("r2", "rmse", "correlation")


def bounds(assessed: Assessed, key: str) -> tuple[float, float]:
    """The interval of a score, however wide it is."""
    value, resampled = assessed.scores[key], assessed.resampled[key]
    found = bias_corrected(METRICS[key], float(value), resampled[np.isfinite(resampled)])
    return found.low, found.high


def coverage(expected: dict[str, float], drawn: list[Assessed]) -> dict[str, float]:
    """The share of intervals, of whatever width, that hold the expected score."""
    return {
        key: float(np.mean([low <= expected[key] <= high
                            for low, high in (bounds(one, key) for one in drawn)]))
        for key in SCALARS
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rest", "spread", "trials", "least"),
    [
        (0.0, 0.0, 10, 0.88),
        (0.0, 0.0, 25, 0.89),
        (0.5, 0.3, 10, 0.87),
        (0.5, 0.3, 25, 0.90),
        (0.8, 0.3, 10, 0.80),  # two moving trials on average
        (0.8, 0.3, 25, 0.90),
        (0.0, 0.7, 25, 0.77),  # few trials hold most of the variance
    ],
)
def test_r2_intervals_hold_the_truth_and_the_score(
    rest: float, spread: float, trials: int, least: float
) -> None:
    """300 recordings, each the same process; the truth is the score of 50,000 trials. Of 300, a
    share of 0.95 is found with a standard error of 0.013."""
    random = np.random.default_rng(2)
    kind = {"rest": rest, "spread": spread}
    truth = {key: float(score(*reaches(random, 50_000, **kind)[:2])[key]) for key in SCALARS}
    drawn = [assess(*reaches(random, trials, **kind)) for _ in range(300)]
    drawn = [one for one in drawn if np.isfinite(one.resampled["r2"]).any()]
    assert len(drawn) >= 290
    share = coverage(truth, drawn)
    assert least <= share["r2"] <= 0.99
    for one in drawn:
        low, high = bounds(one, "r2")
        assert low <= one.scores["r2"] <= high <= 1


@pytest.mark.slow
def test_the_mean_over_sessions_that_rest_is_covered() -> None:
    """The bias of R² itself would cover the mean of eight such sessions in 80 % of cases, and plain
    percentiles in 54 %."""
    random = np.random.default_rng(3)
    kind = {"rest": 0.5, "spread": 0.3}
    truth = {key: float(score(*reaches(random, 50_000, **kind)[:2])[key]) for key in SCALARS}
    drawn = [
        mean([assess(*reaches(random, 15, **kind), seed=k) for k in range(8)]) for _ in range(100)
    ]
    assert coverage(truth, drawn)["r2"] >= 0.88
    plain = [np.quantile(one.resampled["r2"], [0.025, 0.975]) for one in drawn]
    assert np.mean([low <= truth["r2"] <= high for low, high in plain]) < 0.75


@pytest.mark.slow
def test_samples_drawn_one_by_one_would_promise_too_much() -> None:
    random = np.random.default_rng(2)
    truth = {key: float(value) for key, value in score(*reaches(random, 50_000)[:2]).items()
             if key in SCALARS}  # fmt: skip
    by_trial, by_sample = [], []
    for _ in range(200):
        recorded, decoded, trial = reaches(random, 25)
        by_trial.append(assess(recorded, decoded, trial))
        by_sample.append(assess(recorded, decoded, np.arange(len(recorded))))
    for key in SCALARS:
        assert 0.88 < coverage(truth, by_trial)[key] < 0.99, key
    assert coverage(truth, by_sample)["r2"] < 0.8


def test_no_samples_and_one_trial_have_no_interval_and_say_why() -> None:
    empty = assess(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64)).record()
    assert np.isnan(empty["r2"])
    assert np.isnan(empty["ci95"]["axes"]).all()
    assert empty["missing"] == {m.key: "no score: there is no sample" for m in BEHAVIOR}
    single = assess(*reaches(np.random.default_rng(0), 1)).record()
    assert np.isfinite(single["r2"])
    assert np.isnan(single["ci95"]["r2"]).all()
    assert single["missing"]["r2"] == f"no interval: {ONE_GROUP}"
    many = assess(*reaches(np.random.default_rng(0), 30)).record()
    assert "missing" not in many


def test_a_behavior_that_does_not_move_has_no_r2_and_says_why() -> None:
    truth, guess, trial = reaches(np.random.default_rng(0), 30)
    record = assess(np.full_like(truth, 0.1), guess, trial).record()
    assert np.isnan(record["r2"])
    assert record["missing"]["r2"].startswith("no score: the recorded behavior is constant")
    assert "rmse" not in record["missing"]
    truth[:, 1] = guess[:, 1] = 0.1
    record = assess(truth, guess, trial).record()
    assert "r2" not in record["missing"]
    assert record["missing"]["axes"].startswith("no score: an axis of the recorded behavior")


@pytest.mark.parametrize("key", SCALARS)
def test_an_interval_that_says_nothing_is_left_out(key: str) -> None:
    metric, even = METRICS[key], np.linspace(0.3, 0.5, 100)
    narrow = interval(metric, 0.4, even)
    assert narrow.low < 0.4 < narrow.high
    assert not narrow.missing
    some = np.where(np.arange(100) < 6, np.nan, even)
    assert interval(metric, 0.4, some).missing == TOO_OFTEN_UNDEFINED
    assert not interval(metric, 0.4, np.where(np.arange(100) < 5, np.nan, even)).missing
    wide = np.append(np.full(50, -0.7), np.full(50, 0.9))
    if key == "rmse":
        wide = np.append(np.full(50, 0.01), np.full(50, 4.0))
    elsewhere = np.append(np.full(2, 0.3), np.full(98, 0.5))  # the bias outweighs the spread
    for resampled, reason in ((wide, too_wide(metric)), (elsewhere, OUTSIDE)):
        left_out = interval(metric, 0.4, resampled)
        assert left_out.missing == reason
        assert np.isnan([left_out.low, left_out.high]).all()


def test_a_wide_interval_of_a_decoder_that_fails_is_kept() -> None:
    fails = interval(METRICS["r2"], -2.5, np.linspace(-4.0, -1.0, 100))
    assert fails.high - fails.low > 2
    assert fails.high < 0


def test_an_interval_always_holds_its_score_or_is_left_out() -> None:
    """Whatever is decoded: still blocks, few trials, a perfect or a hopeless decoder."""
    random = np.random.default_rng(9)
    shown = left_out = 0
    for number in range(200):
        kind = {"rest": random.choice([0.0, 0.5, 0.9]), "missed": random.choice([0.0, 0.3, 3.0])}
        truth, guess, trial = reaches(random, int(random.integers(1, 20)), **kind)
        if number % 5 == 0:
            guess = truth.copy()
        record = assess(truth, guess, trial).record()
        for key in SCALARS:
            low, high = record["ci95"][key]
            if low == low:
                assert low - 1e-9 <= record[key] <= high + 1e-9
                shown += 1
            else:
                assert re.match("no (score|interval): .", record["missing"][key])
                left_out += 1
    assert min(shown, left_out) > 40


@pytest.mark.parametrize("at_once", [2**22, 50])
def test_a_resample_is_the_samples_of_trials_drawn_with_replacement(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", at_once)
    random = np.random.default_rng(1)
    truth, guess, trial = reaches(random, 12)
    kept = random.random(len(trial)) < 0.7  # trials are of different lengths
    truth, guess, trial = truth[kept], guess[kept], trial[kept]
    resampled = bootstrap(truth, guess, trial, n=30, seed=5)
    draws = np.random.default_rng(5)
    for number in range(30):
        drawn = draws.integers(12, size=12)
        rows = np.concatenate([np.flatnonzero(trial == one) for one in drawn])
        for key, expected in textbook(truth[rows], guess[rows]).items():
            np.testing.assert_allclose(resampled[key][number], expected, rtol=1e-9)


def test_the_mean_of_many_sessions_lies_inside_its_interval() -> None:
    """The interval is as wide as the mean is uncertain, by how the sessions scatter."""
    random = np.random.default_rng(3)
    sessions = [assess(*reaches(random, 20), seed=[0, k]) for k in range(64)]
    whole = mean(sessions)
    r2 = [float(session.scores["r2"]) for session in sessions]
    assert float(whole.scores["r2"]) == pytest.approx(np.mean(r2))
    low, high = whole.record()["ci95"]["r2"]
    assert low < whole.scores["r2"] < high
    error = np.std(r2) / 8
    assert 0.7 < (high - low) / (3.92 * error) < 1.4


def test_the_mean_leaves_out_sessions_without_a_score() -> None:
    random = np.random.default_rng(4)
    moving, still = reaches(random, 6), reaches(random, 6)
    still[0][:, 1] = 0.0
    empty = assess(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64))
    first, second = assess(*moving), assess(*still)
    scores = mean([first, second, empty]).scores
    assert scores["r2"] == pytest.approx((first.scores["r2"] + second.scores["r2"]) / 2)
    assert scores["axes"][1] == first.scores["axes"][1]
    assert np.isnan(mean([empty]).scores["rmse"])


def test_a_session_of_one_trial_leaves_the_mean_its_interval() -> None:
    """The session counts in the mean with its score, so the mean varies less."""
    random = np.random.default_rng(8)
    first, second = (assess(*reaches(random, 20), seed=k) for k in range(2))
    single = assess(*reaches(random, 1))
    three, two = mean([first, single, second]), mean([first, second])
    for key in (*SCALARS, "axes"):
        assert np.isfinite(three.record()["ci95"][key]).all()
        spread = [np.nanstd(one.resampled[key], axis=0) for one in (three, two)]
        np.testing.assert_allclose(spread[0], spread[1] * 2 / 3)
    assert np.isnan(mean([single, single]).record()["ci95"]["r2"]).all()


def test_a_session_keeps_its_score_in_the_few_resamples_that_have_none() -> None:
    """Four of ten trials move: one resample in 165 draws none of them."""
    random = np.random.default_rng(10)
    truth, guess, trial = reaches(random, 10)
    truth[trial > 3] = 0.0
    resting, usual = assess(truth, guess, trial), assess(*reaches(random, 10), seed=1)
    undefined = np.isnan(resting.resampled["r2"])
    assert 0 < undefined.sum() < 30
    both = mean([resting, usual]).resampled["r2"][undefined]
    kept = (resting.scores["r2"] + usual.resampled["r2"][undefined]) / 2
    np.testing.assert_allclose(both, kept)


def test_two_decoders_get_the_same_resamples() -> None:
    truth, guess, trial = reaches(np.random.default_rng(5), 9)
    first, same = (bootstrap(truth, x, trial, n=50, seed=[1, 2]) for x in (guess, guess + 0.0))
    np.testing.assert_array_equal(first["r2"], same["r2"])
    other = bootstrap(truth, guess, trial, n=50, seed=[1, 3])
    assert not np.array_equal(first["r2"], other["r2"])


def test_samples_are_grouped_by_trial_and_elsewhere_by_block() -> None:
    trials = np.array([[2.0, 3.0], [5.0, 7.0], [6.5, 8.0], [20.0, 21.0]])
    time = np.array([-0.5, 0.5, 1.9, 2.0, 2.9, 3.0, 4.1, 5.0, 6.4, 6.5, 7.9, 8.0, 8.1, 30.0])
    #        blocks of 4 s: -1, 0, 0 | trial | 0, 1 | trial | trial | 2, 2, 7
    expected = [0, 1, 1, 2, 2, 1, 3, 4, 4, 5, 5, 6, 6, 7]
    groups = trial_groups(time, trials, 4.0)
    assert sorted(set(groups.tolist())) == list(range(8))
    alike = np.array(expected)[:, None] == expected
    np.testing.assert_array_equal(groups[:, None] == groups, alike)
    assert len(trial_groups(np.zeros(0), trials, 4.0)) == 0
    assert trial_groups(time, np.zeros((0, 2)), 100.0).max() == 1


def accuracy_of(right: NDArray[np.bool_], trial: NDArray[np.int64], seed: int) -> Assessed:
    return assess_classes(np.zeros(len(right), np.int64), right, trial, seed=seed)


def test_accuracy_is_resampled_by_trial_too() -> None:
    random = np.random.default_rng(7)
    trial = np.repeat(np.arange(30), 20)
    right = np.repeat(random.random(30) < 0.8, 20)  # all samples of a reach, or none
    assessed = accuracy_of(right, trial, seed=3)
    assert assessed.scores["accuracy"] == right.mean()
    draws = np.random.default_rng(3)
    resampled: Floats = assessed.resampled["accuracy"]
    drawn = right[::20][draws.integers(30, size=(len(resampled), 30))]
    np.testing.assert_allclose(resampled, drawn.mean(1))
    record = assessed.record()
    low, high = record["ci95"]["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 30), rel=0.3)
    assert "guessing" in record
    assert "guessing" not in record["ci95"]
    nothing = accuracy_of(np.zeros(0, bool), np.zeros(0, np.int64), 0).record()
    assert np.isnan(nothing["accuracy"])
    assert nothing["missing"]["accuracy"] == "no score: there is no sample"


def test_an_interval_stays_where_scores_can_be() -> None:
    """Two trials, one decoded perfectly: percentiles less the bias of R² itself would exceed 1."""
    truth, guess, trial = reaches(np.random.default_rng(6), 2)
    guess[trial == 1] = 0.0
    guess[trial == 0] = truth[trial == 0]
    assessed = assess(truth, guess, trial)
    assert bounds(assessed, "r2")[1] <= 1
    assert bounds(assessed, "rmse")[0] >= 0
    assert bounds(assessed, "correlation")[1] <= 1
