"""Rates, optimizers and averages against their definitions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import ModelSettings, TrainingSettings
from neurobrick_model.training.optimization.optimizers import (
    averaged,
    learning_rate,
    make_optimizers,
)
from neurobrick_model.training.optimization.row_adam import RowAdam


def rates(**settings: Any) -> list[float]:
    training = TrainingSettings(steps=100, learning_rate=1.0, **settings)
    return [learning_rate(step, training) for step in range(100)]


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    values = rates(warmup=0.1)
    np.testing.assert_allclose(values[:10], np.arange(1, 11) / 10)
    assert values[10] == 1.0
    assert abs(values[55] - 0.5) < 1e-9
    assert all(a > b for a, b in pairwise(values[10:]))
    assert values[-1] < 1e-3


def test_the_papers_rate_is_flat_for_half_of_the_run() -> None:
    values = rates(warmup=0.0, hold=0.5)
    assert values[:51] == [1.0] * 51
    assert abs(values[75] - 0.5) < 1e-9


def test_a_line_and_a_constant() -> None:
    np.testing.assert_allclose(rates(warmup=0.0, schedule="linear"), 1 - np.arange(100) / 100)
    assert rates(warmup=0.0, schedule="constant") == [1.0] * 100


@pytest.fixture
def model() -> Perceiver:
    torch.manual_seed(0)
    return Perceiver(ModelSettings(dim=16, depth=2, head_dim=8), 30, 3, 2)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_every_parameter_has_one_optimizer_and_matrices_alone_decay(
    model: Perceiver, name: str
) -> None:
    settings = TrainingSettings.model_validate({"optimizer": name, "weight_decay": 0.1})
    decay = {}
    for optimizer in make_optimizers(model, settings):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert id(parameter) not in decay
                decay[id(parameter)] = group.get("weight_decay", 0.0)
    assert set(decay) == {id(parameter) for parameter in model.parameters()}
    for parameter_name, parameter in model.named_parameters():
        matrix = parameter.ndim > 1 and "embedding" not in parameter_name
        if name != "muon" or parameter_name != "readout.weight":
            assert decay[id(parameter)] == (0.1 if matrix else 0.0), parameter_name


def test_a_touched_row_moves_as_adam_would_move_it_alone() -> None:
    """Rows are touched at different steps; each goes as if it were the only parameter there is, and
    had only the steps at which it was touched."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    alone = [torch.nn.Parameter(row.detach().clone()) for row in weight]
    rows = RowAdam([weight], lr=0.01)
    singles = [torch.optim.Adam([row], lr=0.01) for row in alone]
    for step in range(20):
        gradient = torch.randn(5, 3)
        touched = torch.rand(5) < 0.4
        touched[4] = False
        weight.grad = gradient * touched[:, None]
        rows.step()
        for k in range(5):
            if touched[k]:
                alone[k].grad = gradient[k]
                singles[k].step()
        torch.testing.assert_close(weight.detach(), torch.stack([a.detach() for a in alone]))
        assert step < 3 or bool((weight != 0).all())


def test_with_trust_a_row_moves_by_its_own_norm() -> None:
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [1.0, 1.0]]))
    before = weight.detach().clone()
    weight.grad = torch.tensor([[1.0, -2.0], [50.0, 1.0], [0.0, 0.0]])
    RowAdam([weight], lr=0.1, trust=True).step()
    moved = (weight.detach() - before).norm(dim=1)
    torch.testing.assert_close(moved, torch.tensor([0.5, 0.05, 0.0]))


def test_averaged_weights_start_with_the_first_step_and_settle_at_the_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.5)
    seen = []
    for value in (1.0, 2.0, 3.0):
        torch.nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        seen.append(float(average.module.weight.detach()))
    second = 2 / 12 * 1 + (1 - 2 / 12) * 2
    third = 3 / 13 * second + (1 - 3 / 13) * 3
    np.testing.assert_allclose(seen, [1.0, second, third], rtol=1e-6)
