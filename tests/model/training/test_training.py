"""Training learns, resumes exactly, and writes the files that it promises."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neurobrick import NeurobrickError, RecipeError, StoreError
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.decoding.spec import WEIGHTS
from neurobrick_model.errors import Stopped, UnknownSession
from neurobrick_model.files import load_weights, replacing
from neurobrick_model.training.optimization.loss import Scores
from neurobrick_model.training.output.run_folder import exclusive
from neurobrick_model.training.stopping import out_of_memory
from tests.support.model.fakes import FakeDataset, fake_session


def trainer(recipe: Recipe, dataset: FakeDataset, **training: Any) -> Trainer:
    settings = recipe.training.model_copy(update=training)
    return Trainer(recipe.model_copy(update={"training": settings}), dataset)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(dataset: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    from tests.model.conftest import TINY

    runs = tmp_path_factory.mktemp("runs")
    settings = {"name": "done", "runs": runs, "evaluation": {"splits": ["test", "valid"]}, **TINY}
    recipe = Recipe.model_validate(settings)
    trainer(recipe, dataset, ema=0.9).fit()
    return runs / "done"


@pytest.mark.slow
def test_a_tiny_batch_is_learned_by_heart(recipe: Recipe, dataset: FakeDataset) -> None:
    model = recipe.model.model_copy(
        update={"dim": 32, "residual_dropout": 0.0, "feedforward_dropout": 0.0}
    )
    recipe = recipe.model_copy(update={"model": model})
    train = trainer(
        recipe, dataset, batch=2, steps=10**6, learning_rate=5e-3, warmup=0.0, unit_dropout=None
    )
    batch = train.gradients.prefetcher.take(0)
    train.gradients.prefetcher = SimpleNamespace(
        take=lambda step: batch, look_ahead=lambda step: None
    )  # type: ignore[assignment]
    losses = [Scores.of(train.train_step(step)[0]).loss for step in range(150)]
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"ema": 0.9}, {"optimizer": "muon"}, {"optimizer": "lamb", "ema": 0.9}]
)
def test_resuming_gives_the_weights_of_an_unbroken_run(
    recipe: Recipe, dataset: FakeDataset, settings: dict[str, Any]
) -> None:
    unbroken = trainer(recipe, dataset, **settings)
    unbroken.fit()
    log = _log(recipe)

    class Killed(Exception):
        pass

    broken = trainer(recipe, dataset, **settings)
    step = broken.train_step

    def dies(number: int) -> torch.Tensor:
        if number == 5:
            raise Killed
        return step(number)

    broken.train_step = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        broken.fit(force=True)
    resumed = trainer(recipe, dataset, **settings)
    metrics = resumed.fit(resume=True)
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert [r.get("loss") for r in log] == [r.get("loss") for r in _log(recipe)]
    assert [r.get("valid_r2") for r in log] == [r.get("valid_r2") for r in _log(recipe)]
    assert metrics["training"]["steps"] == 6


def _log(recipe: Recipe) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (recipe.folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "muon"])
def test_microbatches_add_up_to_the_batch(
    recipe: Recipe, dataset: FakeDataset, optimizer: str
) -> None:
    whole = trainer(recipe, dataset, optimizer=optimizer)
    parts = trainer(recipe, dataset, optimizer=optimizer, microbatch=3)
    for step in range(4):
        sums = [t.train_step(step) for t in (whole, parts)]
        torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_threads_that_share_a_batch_give_the_same_weights_every_time(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    alone = trainer(recipe, dataset)
    assert alone.gradients.threads is None
    torch.set_num_threads(3)
    try:
        twice = [trainer(recipe, dataset, microbatch=2) for _ in range(2)]
        assert twice[0].gradients.threads
        assert len(twice[0].gradients.shares) == 4
        for step in range(6):
            sums = [t.train_step(step) for t in (alone, *twice)]
            torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4)
            assert torch.equal(sums[1], sums[2])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    for name, value in twice[0].model.state_dict().items():
        assert torch.equal(value, twice[1].model.state_dict()[name]), name


@pytest.mark.slow
def test_a_signal_makes_a_checkpoint_and_the_run_resumes_from_it(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    unbroken = trainer(recipe, dataset)
    unbroken.fit()
    stopped = trainer(recipe, dataset)
    step = stopped.train_step

    def asked(number: int) -> torch.Tensor:
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(number)

    stopped.train_step = asked  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped at step 4 of 6; --resume goes on there"):
        stopped.fit(force=True)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = trainer(recipe, dataset)
    resumed.fit(resume=True)
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_device_that_is_too_small_is_an_error_that_says_what_helps() -> None:
    with (
        pytest.raises(NeurobrickError, match=r"training\.microbatch.*tried 2 GiB"),
        out_of_memory(),
    ):
        raise torch.OutOfMemoryError("tried 2 GiB\nand much more to say")


@pytest.mark.slow
def test_a_run_is_deleted_only_by_force(recipe: Recipe, dataset: FakeDataset) -> None:
    trainer(recipe, dataset).fit()
    before = {path: path.read_bytes() for path in recipe.folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=r"tiny holds a run already: --resume .* --force .* name"):
        trainer(recipe, dataset, seed=1).fit()
    assert before == {p: p.read_bytes() for p in recipe.folder.rglob("*") if p.is_file()}
    metrics = trainer(recipe, dataset, seed=1).fit(force=True)
    assert metrics["training"]["seed"] == 1


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_kept(recipe: Recipe, dataset: FakeDataset) -> None:
    """Training may diverge after the loss was last looked at, and just before a validation."""
    breaks = trainer(recipe, dataset, steps=9)
    step = breaks.train_step

    def diverges(number: int) -> torch.Tensor:
        sums = step(number)
        if number == 4:
            with torch.no_grad():
                breaks.model.readout.bias.fill_(float("nan"))
        return sums

    breaks.train_step = diverges  # type: ignore[method-assign]
    with pytest.raises(NeurobrickError, match="the loss is nan at step 6"):
        breaks.fit()
    assert all(torch.isfinite(x).all() for x in load_weights(recipe.folder / WEIGHTS).values())
    resumed = trainer(recipe, dataset, steps=9).fit(resume=True)
    assert np.isfinite(resumed["mean"]["decoder"])


@pytest.mark.slow
def test_training_may_end_before_its_first_log_record(recipe: Recipe, dataset: FakeDataset) -> None:
    early = trainer(recipe, dataset, steps=400, validate_every=1, patience=2, learning_rate=1e-9)
    metrics = early.fit()
    assert metrics["training"]["steps"] == metrics["training"]["best_step"] + 2 < 20
    assert metrics["training"]["windows_per_second"] > 0


@pytest.mark.slow
def test_training_ends_early_when_validation_gets_no_better(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    early = trainer(recipe, dataset, steps=400, validate_every=2, patience=3, learning_rate=1e-9)
    metrics = early.fit()
    best = metrics["training"]["best_step"]
    assert metrics["training"]["steps"] == best + 6 < 400


@pytest.mark.slow
def test_a_resume_notices_another_corpus(recipe: Recipe, dataset: FakeDataset) -> None:
    trainer(recipe, dataset, steps=1).fit()
    moved = dataset["sim/a"].with_(spike_times=dataset["sim/a"].spike_times + 0.001)
    other = FakeDataset(moved, dataset["sim/b"])
    with pytest.raises(RecipeError, match="have been prepared anew"):
        trainer(recipe, other, steps=1).fit(resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["tensor", "step"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    recipe: Recipe, dataset: FakeDataset, where: str
) -> None:
    unbroken = trainer(recipe, dataset)
    unbroken.fit()
    one, two = (recipe.folder / f"checkpoints/step-00000000{k}.safetensors" for k in (3, 6))
    damaged = bytearray(two.read_bytes())
    if where == "tensor":
        damaged[-5] ^= 1  # safetensors itself would read it
    else:
        damaged[damaged.index(b'step\\": 6') + 8] ^= 1  # which is 7 then
    two.write_bytes(damaged)
    lines: list[str] = []
    resumed = trainer(recipe, dataset)
    resumed.progress.say = lines.append  # type: ignore[method-assign]
    resumed.fit(resume=True)
    assert any("is damaged" in line and "going back" in line for line in lines)
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    one.write_bytes(b"nonsense")
    two.write_bytes(b"")
    with pytest.raises(StoreError, match=r"every checkpoint in .* is damaged"):
        trainer(recipe, dataset).fit(resume=True)


def test_two_runs_do_not_write_to_one_folder(recipe: Recipe, dataset: FakeDataset) -> None:
    with exclusive(recipe.folder), pytest.raises(NeurobrickError, match="another neurobrick-train"):
        trainer(recipe, dataset, steps=1).fit()


@pytest.mark.slow
def test_resuming_another_recipe_is_refused(recipe: Recipe, dataset: FakeDataset) -> None:
    trainer(recipe, dataset, steps=1).fit()
    with pytest.raises(RecipeError, match=r"differs in training\.batch \(8, now 4\)"):
        trainer(recipe, dataset, steps=1, batch=4).fit(resume=True)


def test_a_loss_that_is_not_finite_ends_the_run(recipe: Recipe, dataset: FakeDataset) -> None:
    with pytest.raises(NeurobrickError, match=r"lower training\.learning_rate"):
        trainer(recipe, dataset, learning_rate=1e30, warmup=0.0).fit()


@pytest.mark.slow
def test_training_leaves_the_callers_random_state_alone(
    recipe: Recipe, dataset: FakeDataset
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trainer(recipe, dataset, steps=2).fit()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_a_run_leaves_its_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "recipe.yaml",
        "decoder.json",
        "weights.safetensors",
        "checkpoints",
        "tensorboard",
        "run.json",
        ".lock",
        "log.jsonl",
        "metrics.json",
        "report.html",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert [s["id"] for s in metrics["sessions"]] == ["sim/a", "sim/b"]
    for session in metrics["sessions"]:
        assert session["samples"] == 200  # 2 of 6 s are evaluated, at 100 Hz
        for scores in (session["decoder"], session["baselines"]["ridge"]):
            assert len(scores["axes"]) == 2
            low, high = scores["ci95"]["r2"]
            assert low < scores["r2"] < high
    mean, summary = metrics["mean"], metrics["summary"]
    assert mean["baselines"]["ridge"] > 0.3
    assert summary["baselines"]["ridge"]["r2"] == pytest.approx(mean["baselines"]["ridge"])
    assert summary["decoder"]["r2"] == pytest.approx(mean["decoder"])
    assert [(p["split"], p["during"]) for p in metrics["parts"]] == [("valid", "evaluation")]
    assert Recipe.from_yaml(run / "recipe.yaml").training.steps == 6


def test_the_report_needs_nothing_but_itself(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "://" not in page
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == page.count("</svg>") == 7
    # scores, 2 × traces, 2 × movements, units, curves
    for text in ("sim/a", "sim/b", "hand_vel", "m/s", "R²", "ridge", "RMSE", "valid"):
        assert text in page
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert references <= set(re.findall(r'\bid="([^"]+)"', page))


def test_predict_gives_si_values_on_a_grid(run: Path, dataset: FakeDataset) -> None:
    decoder = Decoder.load(run)
    times, values = decoder.predict(dataset, "sim/b", 1010.0, 1012.5)  # type: ignore[arg-type]
    np.testing.assert_allclose(times, 1010.0 + np.arange(250) / 100)
    assert values.shape == (250, 2)
    longer = decoder.predict(dataset, "sim/b", 1009.0, 1015.0)[1]  # type: ignore[arg-type]
    # Equal but for rounding; a sample on a window's edge has a weight of 1e-3 or 0 in it.
    np.testing.assert_allclose(longer[100:350], values, atol=2e-4)
    outside = decoder.predict(dataset, "sim/b", 1059.5, 1070.0)  # type: ignore[arg-type]
    assert len(outside[0]) == 100  # recorded until 1060.5 s
    assert np.isfinite(outside[1]).all()
    nothing = decoder.predict(dataset, "sim/b", 0.0, 1.0)  # type: ignore[arg-type]
    assert nothing[1].shape == (0, 2)


def test_predict_refuses_sessions_and_units_that_it_was_not_trained_on(
    run: Path, dataset: FakeDataset
) -> None:
    decoder = Decoder.load(run)
    stranger = fake_session("sim/c", 3)
    with pytest.raises(UnknownSession, match=r"does not know session 'sim/c'.*sim/a, sim/b"):
        decoder.predict(FakeDataset(stranger), "sim/c", 0.0, 1.0)  # type: ignore[arg-type]
    changed = FakeDataset(fake_session("sim/a", 1, n_units=5))
    with pytest.raises(StoreError, match="5 units, the decoder was trained on 12"):
        decoder.predict(changed, "sim/a", 0.0, 1.0)  # type: ignore[arg-type]


def test_loading_a_folder_without_a_sound_decoder_is_an_error(run: Path, tmp_path: Path) -> None:
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


def test_curves_are_there_for_tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert {"loss", "valid_r2", "learning_rate", "windows_per_second", "utilization"} <= set(
        events.Tags()["scalars"]
    )
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    logged = [(r["step"], r["valid_r2"]) for r in log if "valid_r2" in r]
    assert [e.step for e in events.Scalars("valid_r2")] == [step for step, _ in logged]
    np.testing.assert_allclose(
        [e.value for e in events.Scalars("valid_r2")], [value for _, value in logged], rtol=1e-6
    )


def test_run_json_has_the_versions_and_the_corpus(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    assert facts["corpus"] == json.loads((run / "metrics.json").read_text())["training"]["corpus"]
    assert {"neurobrick", "torch", "numpy", "python"} == set(facts["versions"])


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
