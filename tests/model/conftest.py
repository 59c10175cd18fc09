"""Two small sessions, and a recipe that trains on them in a second or two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neurobrick_model import Recipe
from tests.support.model.fakes import FakeDataset, fake_session

TINY = {
    "model": {"dim": 16, "head_dim": 8, "depth": 1, "latent_step": 0.25, "latents_per_step": 2},
    "training": {
        "steps": 6,
        "batch": 8,
        "queries": 8,
        "validate_every": 3,
        "unit_dropout": {"least": 4, "mode": 8, "most": 16},
        "device": "cpu",
    },
    "baseline": {"bins": [0.1], "lags": 5},
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset() -> FakeDataset:
    return FakeDataset(
        fake_session("sim/a", 1, n_units=12), fake_session("sim/b", 2, n_units=9, start=1000.5)
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.model_validate({"name": "tiny", "runs": tmp_path / "runs", **TINY})
