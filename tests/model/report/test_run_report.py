"""The report shows every metric of the table, and says why a score or an interval is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from neurobrick_model.evaluation import metrics
from neurobrick_model.evaluation.bootstrap import ONE_GROUP
from neurobrick_model.evaluation.metrics import BEHAVIOR, LOG, Metric, Shown, Sums, rmse, score
from tests.support.model.reaches import reaches
from tests.support.model.reports import report


@pytest.mark.slow
@pytest.mark.parametrize("metric", BEHAVIOR, ids=lambda metric: metric.key)
def test_a_report_shows_every_metric_that_the_table_shows(metric: Metric[Sums]) -> None:
    truth, guess, trial = reaches(np.random.default_rng(0), 20)
    page = report(truth, guess, trial)
    texts = [metric.text(value) for value in score(truth, guess)[metric.key].flat]
    if metric.shown is not Shown.NOWHERE:
        assert metric.label in page
        assert all(f">{text}<" in page for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("where", [Shown.SESSIONS, Shown.DETAILS])
def test_a_metric_that_is_added_to_the_table_is_computed_and_shown(
    where: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relative_error(sums: Sums) -> metrics.Floats:
        variance = (sums.truth_variation / sums.n).sum(-1)
        return rmse(sums) / np.sqrt(variance)

    added = Metric(
        "nrmse", "relative error", relative_error, shown=where, undefined="no variance", scale=LOG
    )
    monkeypatch.setattr(metrics, "BEHAVIOR", (*BEHAVIOR, added))
    monkeypatch.setitem(metrics.METRICS, "nrmse", added)
    truth, guess, trial = reaches(np.random.default_rng(0), 20)
    page = report(truth, guess, trial)
    expected = np.sqrt(1 - score(truth, guess)["r2"])
    shown = re.findall(rf"{expected:.3f}<span class=\"ci\">0\.\d+ to 0\.\d+</span>", page)
    assert len(shown) == 2 + 4  # by session, and the means of two parts, of two decoders
    assert "relative error" in page


EVERYWHERE = "of sim/a decoder, sim/a ridge, mean decoder, mean ridge: no interval"


@pytest.mark.slow
def test_a_report_says_why_an_interval_is_missing() -> None:
    truth, guess, trial = reaches(np.random.default_rng(0), 4, missed=0.6)
    page = report(truth, guess, trial)
    r2 = score(truth, guess)["r2"]
    assert f'<td><b>{r2:.3f}<span class="ci">–</span></b></td>' in page
    assert f"R² {EVERYWHERE}: it would be wider than 1 and hold 0" in page
    single = report(*reaches(np.random.default_rng(0), 1))
    assert f"correlation {EVERYWHERE}: {ONE_GROUP}" in single


@pytest.mark.slow
def test_a_report_says_why_a_score_is_missing() -> None:
    truth, guess, trial = reaches(np.random.default_rng(0), 20)
    page = report(np.zeros_like(truth), guess, trial)
    assert "<td><b>–</b></td>" in page
    assert re.search("R² of sim/a decoder.*: no score: the recorded behavior is constant", page)
