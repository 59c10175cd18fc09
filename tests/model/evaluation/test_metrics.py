"""Metrics against their textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.evaluation.metrics import (
    BEHAVIOR,
    CLASSES,
    METRICS,
    mean_r2,
    score,
    score_classes,
)
from tests.support.model.reaches import reaches

Floats = NDArray[np.float64]


def textbook(truth: Floats, guess: Floats) -> dict[str, Floats]:
    """The metrics, each by its own formula."""
    error = ((truth - guess) ** 2).sum(0)
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, guess.T, strict=True)]
    return {
        "r2": 1 - error.sum() / total.sum(),
        "axes": 1 - error / total,
        "rmse": np.sqrt(np.mean(np.linalg.norm(truth - guess, axis=1) ** 2)),
        "rmse_axes": np.sqrt(((truth - guess) ** 2).mean(0)),
        "correlation": np.mean(r),
        "correlation_axes": np.array(r),
    }


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_scores_are_those_of_the_textbook(offset: float) -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((300, 3)) * [1.0, 5.0, 0.2] + offset
    guess = 0.7 * (truth - offset) + offset + random.standard_normal((300, 3)) + [0.0, 0.4, 0.0]
    scores = score(truth, guess)
    assert list(scores) == [metric.key for metric in BEHAVIOR]
    for key, expected in textbook(truth, guess).items():
        np.testing.assert_allclose(scores[key], expected, rtol=1e-8)


def test_a_constant_axis_has_neither_r2_nor_correlation() -> None:
    truth, guess, _ = reaches(np.random.default_rng(0), 5)
    truth[:, 1] = 0.1  # whose mean is not exactly 0.1
    both = score(truth, guess)
    first = score(truth[:, :1], guess[:, :1])
    assert both["axes"][0] == pytest.approx(float(first["r2"]))
    assert both["correlation"] == both["correlation_axes"][0]
    assert both["correlation"] == pytest.approx(float(first["correlation"]))
    assert np.isnan([both["axes"][1], both["correlation_axes"][1]]).all()
    assert np.isfinite(both["rmse_axes"]).all()
    constant_guess = score(truth, np.full_like(guess, 0.3))
    assert np.isnan(constant_guess["correlation"])
    assert constant_guess["axes"][0] < 0


def test_no_samples_have_no_scores() -> None:
    scores = score(np.zeros((0, 2)), np.zeros((0, 2)))
    assert all(np.isnan(values).all() for values in scores.values())
    assert scores["correlation_axes"].shape == (2,)


def test_accuracy_is_compared_with_the_most_frequent_class() -> None:
    truth = np.array([0, 1, 1, 1, -1, 2])  # -1: a class that training has not seen
    right = np.array([True, False, True, False, False, True])
    scores = score_classes(truth, right)
    assert list(scores) == [metric.key for metric in CLASSES]
    assert scores["accuracy"] == scores["guessing"] == 0.5
    none = score_classes(truth[:0], right[:0])
    assert np.isnan([none["accuracy"], none["guessing"]]).all()


def test_r2_by_hand() -> None:
    truth = np.array([[0.0, 10.0], [2.0, 10.0], [4.0, 40.0]])
    guess = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 40.0]])
    decoded = Decoded(np.arange(3.0), truth, guess)
    assert decoded.r2_axes == pytest.approx([1 - 2 / 8, 1 - 100 / 600])
    assert decoded.r2 == pytest.approx(1 - 102 / 608)
    constant = Decoded(np.arange(3.0), np.ones((3, 1)), np.ones((3, 1)))
    assert np.isnan(constant.r2)
    empty = Decoded(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)))
    assert np.isnan(empty.r2)
    assert np.isnan(empty.r2_axes).all()
    assert mean_r2([decoded, constant, empty]) == decoded.r2
    assert np.isnan(mean_r2([empty]))


@pytest.mark.parametrize("key", METRICS)
def test_the_scale_of_a_metric_leads_back_to_it(key: str) -> None:
    scale = METRICS[key].scale
    values = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(scale.backward(scale.forward(values)), values)
    assert np.isfinite(scale.forward(np.array([0.0, 1.0]))).all()  # a perfect score, or none


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_writes_its_scores(key: str) -> None:
    metric = METRICS[key]
    assert metric.text(0.0123456) in ("0.012", "0.0123")
    assert metric.text(float("nan")) == metric.text(None) == "–"
    assert metric.heading("m/s") in (metric.label, f"{metric.label} (m/s)")
