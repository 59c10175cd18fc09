"""A run that learns nothing gives warnings."""

from __future__ import annotations

import pytest
import torch

from neurobrick import NeurobrickError, Progress
from neurobrick_model import Recipe, Trainer
from neurobrick_model.training.health import Health
from neurobrick_model.training.optimization.loss import Scores
from tests.support.model.fakes import FakeDataset

GOOD, USELESS = Scores(0.3, 1.0, 0.7), Scores(1.0, 1.0, 0.05)


def health(steps: int = 1000) -> tuple[Health, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    return Health([weight], steps, warmup=50), weight


def test_a_good_run_has_no_warnings() -> None:
    watch, _ = health()
    assert [watch.look(step, GOOD) for step in range(20, 1000, 20)] == [[]] * 49


def test_a_loss_that_never_falls_is_one_warning() -> None:
    watch, _ = health()
    looks = [(step, watch.look(step, USELESS)) for step in range(20, 1000, 20)]
    warned = [(step, lines) for step, lines in looks if lines]
    assert len(warned) == 1
    step, lines = warned[0]
    assert 250 <= step <= 280
    assert "not fallen below that of always predicting the mean" in lines[0]


def test_a_collapse_after_a_good_start_is_a_warning() -> None:
    watch, _ = health()
    for step in range(20, 200, 20):
        assert watch.look(step, GOOD) == []
    warnings = [line for step in range(200, 700, 20) for line in watch.look(step, USELESS)]
    assert len(warnings) == 1
    assert "risen back to that of always predicting the mean" in warnings[0]


def test_predictions_and_weights_that_vanish_are_warnings() -> None:
    watch, weight = health()
    for step in range(20, 400, 20):
        watch.look(step, GOOD)
    assert "collapsed" in watch.look(400, Scores(0.9, 1.0, 1e-5))[0]
    with torch.no_grad():
        weight.mul_(0.01)
    assert "shrunk to 1%" in watch.look(420, GOOD)[0]


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    watch, _ = health()
    with pytest.raises(NeurobrickError, match=r"the loss is nan at step 20; lower"):
        watch.look(20, Scores(float("nan"), 1.0, 0.0))


@pytest.mark.slow
def test_a_run_that_stalls_warns_on_the_console_in_metrics_and_report(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    class Recorded(Progress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    settings = recipe.training.model_copy(
        update={"steps": 260, "batch": 2, "learning_rate": 1e-12, "validate_every": 260}
    )
    stalled = recipe.model_copy(update={"training": settings})
    progress = Recorded()
    metrics = Trainer(stalled, dataset, progress).fit()  # type: ignore[arg-type]
    assert any(line.startswith("warning: the loss has not fallen") for line in progress.lines)
    assert "nothing is learned" in metrics["training"]["warnings"][0]
    assert "the loss has not fallen" in (stalled.folder / "report.html").read_text()
