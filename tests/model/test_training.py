"""Training learns, goes on where it stopped, and leaves what it says."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurobrick import NeurobrickError, RecipeError, StoreError
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.checkpoint import load_state, replacing
from neurobrick_model.decoder import UnknownSession
from neurobrick_model.optim import Average, learning_rate, make_optimizer
from neurobrick_model.recipe import TrainingSettings
from neurobrick_model.trainer import step_seeds
from tests.model.fakes import FakeDataset, fake_session


def trainer(recipe: Recipe, dataset: FakeDataset, **training: Any) -> Trainer:
    settings = recipe.training.model_copy(update=training)
    return Trainer(recipe.model_copy(update={"training": settings}), dataset)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(dataset: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    from tests.model.conftest import TINY

    runs = tmp_path_factory.mktemp("runs")
    recipe = Recipe.model_validate({"name": "done", "runs": runs, **TINY})
    trainer(recipe, dataset, ema=0.9).fit()
    return runs / "done"


def test_a_tiny_batch_is_learned_by_heart(recipe: Recipe, dataset: FakeDataset) -> None:
    model = recipe.model.model_copy(
        update={"dim": 32, "residual_dropout": 0.0, "feedforward_dropout": 0.0}
    )
    recipe = recipe.model_copy(update={"model": model})
    train = trainer(
        recipe, dataset, batch=2, steps=10**6, learning_rate=5e-3, warmup=0.0, unit_dropout=None
    )
    losses = []
    for _ in range(150):
        loss = train.loss(0)  # the same batch every time
        train.optimizer.zero_grad()
        loss.backward()
        train.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resuming_gives_the_weights_of_an_unbroken_run(
    recipe: Recipe, dataset: FakeDataset, ema: float
) -> None:
    unbroken = trainer(recipe, dataset, ema=ema)
    unbroken.fit()
    log = (recipe.folder / "log.jsonl").read_text().splitlines()

    class Killed(Exception):
        pass

    broken = trainer(recipe, dataset, ema=ema)
    step = broken.train_step

    def dies(number: int) -> torch.Tensor:
        if number == 5:
            raise Killed
        return step(number)

    broken.train_step = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        broken.fit()
    resumed = trainer(recipe, dataset, ema=ema)
    metrics = resumed.fit(resume=True)
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    last = load_state(recipe.folder / "checkpoint.pt", torch.device("cpu"))
    assert last["progress"]["step"] == 6
    losses = [[json.loads(line).get("loss") for line in lines] for lines in (log, _log(recipe))]
    assert losses[0] == losses[1]
    assert metrics["training"]["steps"] == 6


def _log(recipe: Recipe) -> list[str]:
    return (recipe.folder / "log.jsonl").read_text().splitlines()


def test_resuming_another_recipe_is_refused(recipe: Recipe, dataset: FakeDataset) -> None:
    trainer(recipe, dataset, steps=1).fit()
    with pytest.raises(RecipeError, match=r"differs in training\.batch \(8, now 4\)"):
        trainer(recipe, dataset, steps=1, batch=4).fit(resume=True)


def test_resuming_a_damaged_checkpoint_is_an_error(recipe: Recipe, dataset: FakeDataset) -> None:
    recipe.folder.mkdir(parents=True)
    (recipe.folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(StoreError, match="cannot read the checkpoint"):
        trainer(recipe, dataset, steps=1).fit(resume=True)


def test_a_loss_that_is_not_finite_ends_the_run(recipe: Recipe, dataset: FakeDataset) -> None:
    with pytest.raises(NeurobrickError, match=r"lower training\.learning_rate"):
        trainer(recipe, dataset, learning_rate=1e30, warmup=0.0).fit()


def test_training_leaves_the_callers_random_state_alone(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trainer(recipe, dataset, steps=2).fit()
    assert torch.equal(torch.rand(3), expected)


def test_steps_have_seeds_of_their_own() -> None:
    seeds = {seed for step in range(1000) for seed in step_seeds(0, step)}
    assert len(seeds) == 2000
    assert step_seeds(0, 1) != step_seeds(1, 0)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainingSettings(steps=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(step, settings) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1.0
    assert abs(rates[55] - 0.5) < 1e-9
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3


def test_matrices_decay_and_embeddings_do_not(recipe: Recipe, dataset: FakeDataset) -> None:
    model = trainer(recipe, dataset).model
    decayed, free = make_optimizer(model, TrainingSettings(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert any(p is model.unit_embedding.weight for p in free["params"])
    assert any(p is model.readout.weight for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_averaged_weights_start_with_the_first_step_and_settle_at_the_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    seen = []
    for step, value in enumerate([1.0, 2.0, 3.0], 1):
        torch.nn.init.constant_(model.weight, value)
        average.update(model, step)
        seen.append(float(average.weights["weight"]))
    first = float(seen[0])
    decay = [2 / 12, 3 / 13]
    second = decay[0] * first + (1 - decay[0]) * 2
    np.testing.assert_allclose(
        seen[1:], [second, decay[1] * second + (1 - decay[1]) * 3], rtol=1e-6
    )


def test_a_run_leaves_its_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "recipe.yaml",
        "decoder.json",
        "weights.safetensors",
        "checkpoint.pt",
        "log.jsonl",
        "metrics.json",
        "report.html",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert [s["id"] for s in metrics["sessions"]] == ["sim/a", "sim/b"]
    for session in metrics["sessions"]:
        assert session["samples"] == 200  # 2 of 6 s are evaluated, at 100 Hz
        for name in ("decoder", "ridge"):
            assert len(session[name]["axes"]) == 2
    assert metrics["mean"]["ridge"] > 0.3
    assert Recipe.from_yaml(run / "recipe.yaml").training.steps == 6


def test_the_report_needs_nothing_but_itself(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "://" not in page
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == page.count("</svg>") == 6  # scores, 2 × traces, 2 × paths, curves
    for text in ("sim/a", "sim/b", "hand_vel", "m/s", "R²", "ridge"):
        assert text in page
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert references <= set(re.findall(r'\bid="([^"]+)"', page))


def test_predict_gives_si_values_on_a_grid(run: Path, dataset: FakeDataset) -> None:
    decoder = Decoder.load(run)
    times, values = decoder.predict(dataset, "sim/b", 1010.0, 1012.5)  # type: ignore[arg-type]
    np.testing.assert_allclose(times, 1010.0 + np.arange(250) / 100)
    assert values.shape == (250, 2)
    longer = decoder.predict(dataset, "sim/b", 1009.0, 1015.0)[1]  # type: ignore[arg-type]
    # Within rounding, but for a sample on a window's edge, which counts for 1e-3 in it or not.
    np.testing.assert_allclose(longer[100:350], values, atol=2e-4)
    outside = decoder.predict(dataset, "sim/b", 1059.5, 1070.0)  # type: ignore[arg-type]
    assert len(outside[0]) == 100  # recorded until 1060.5 s
    assert np.isfinite(outside[1]).all()
    nothing = decoder.predict(dataset, "sim/b", 0.0, 1.0)  # type: ignore[arg-type]
    assert nothing[1].shape == (0, 2)


def test_predict_refuses_what_it_was_not_trained_on(run: Path, dataset: FakeDataset) -> None:
    decoder = Decoder.load(run)
    stranger = fake_session("sim/c", 3)
    with pytest.raises(UnknownSession, match=r"does not know session 'sim/c'.*sim/a, sim/b"):
        decoder.predict(FakeDataset(stranger), "sim/c", 0.0, 1.0)  # type: ignore[arg-type]
    changed = FakeDataset(fake_session("sim/a", 1, n_units=5))
    with pytest.raises(StoreError, match="5 units, the decoder was trained on 12"):
        decoder.predict(changed, "sim/a", 0.0, 1.0)  # type: ignore[arg-type]


def test_loading_what_is_no_decoder_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no decoder"):
        Decoder.load(tmp_path)
    (tmp_path / "decoder.json").write_text((run / "decoder.json").read_text())
    with pytest.raises(StoreError, match="cannot read the weights"):
        Decoder.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes()[:-9])
    with pytest.raises(StoreError, match="cannot read the weights"):
        Decoder.load(tmp_path)
    (tmp_path / "decoder.json").write_text('{"format": 1}')
    with pytest.raises(StoreError, match="not a decoder of this version"):
        Decoder.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fails() -> None:
        with replacing(path) as aside:
            aside.write_text("new, but not wh")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
