"""The program that test_ranks starts by torchrun: trains on fake sessions, writes the losses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from neurobrick_model import Recipe, Trainer
from neurobrick_model.training.optimization.loss import Scores
from tests.support.model.fakes import FakeDataset, fake_session


def losses(recipe: Recipe, steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The loss of each step over all ranks, then the validation R² of each session; and the weights
    after the last step. Both are empty on all ranks but the first."""
    torch.set_num_threads(1)
    dataset = FakeDataset(
        fake_session("sim/a", 1, n_units=12), fake_session("sim/b", 2, n_units=9, start=1000.5)
    )
    trainer = Trainer(recipe, dataset)  # type: ignore[arg-type]
    with trainer.joined():
        values = [
            Scores.of(trainer.ranks.sum(trainer.train_step(step))[0]).loss for step in range(steps)
        ]
        r2 = [decoded.r2 for decoded in trainer.decode("valid").values()]
    if trainer.ranks.first:
        weights = dict(trainer.weights.state_dict())
        return [*values, *r2], weights
    return [], {}


if __name__ == "__main__":
    recipe = Recipe.from_yaml(sys.argv[1])
    values, weights = losses(recipe, int(sys.argv[2]))
    if values:
        Path(sys.argv[3]).write_text(json.dumps(values))
        torch.save(weights, Path(sys.argv[3]).with_suffix(".pt"))
