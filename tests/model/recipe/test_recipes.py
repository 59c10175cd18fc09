"""The shipped recipes are what their comments say: the paper's sizes and rates, on sessions that
the registry knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from neurobrick import Intervals, Manifest
from neurobrick_model import Recipe
from neurobrick_model.data.targets import read_samples
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import PRESETS, ModelSettings
from neurobrick_model.training.optimization.optimizers import learning_rate
from tests.support.model.fakes import FakeSession, fake_session

FOLDER = Path(__file__).parents[3] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PUBLISHED = ("mc_maze", "poyo_1", "poyo_mp")  # those that follow the paper
every_recipe = pytest.mark.parametrize("name", NAMES)
published = pytest.mark.parametrize("name", PUBLISHED)


def shipped(name: str, overrides: Sequence[str] = ()) -> Recipe:
    return Recipe.from_yaml(FOLDER / f"{name}.yaml", overrides)


def datasets(recipe: Recipe) -> set[str]:
    """What the session ids begin with."""
    return {glob.partition("/")[0] for glob in recipe.data.sessions}


@every_recipe
def test_a_recipe_is_called_as_its_file(name: str) -> None:
    assert shipped(name).name == name


@every_recipe
def test_a_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = shipped(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.from_yaml(path) == recipe


@every_recipe
def test_sessions_are_of_datasets_that_the_registry_or_the_demo_has(name: str) -> None:
    recipe = shipped(name)
    if recipe.data.sessions == ("*",):  # all that `make demo` has prepared
        assert recipe.data.root == "demo_data/corpus"
        return
    listed = {spec.source.dataset for spec in Manifest.load().datasets if spec.source}
    assert datasets(recipe) <= listed | {"local"}  # local is what `prepare nwb` makes


def test_the_corpus_of_poyo_1_is_the_papers_but_for_flint() -> None:
    recipe = shipped("poyo_1")
    assert datasets(recipe) == {"000688", "000070", "zenodo-3854034", "000128", "000129"}
    assert recipe.data.target is None
    assert recipe.data.velocity  # O'Doherty's and Churchland's targets are positions


@published
def test_the_target_is_what_the_registry_says(name: str) -> None:
    recipe = shipped(name)
    for dataset in datasets(recipe):
        for spec in Manifest.load().for_dataset(dataset):
            assert spec.target
            assert recipe.data.target in (None, spec.target)


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("poyo-1.3m", {"dim": 64, "depth": 6, "cross_heads": 2, "latents_per_step": 16}),
        ("poyo-11.8m", {"dim": 128, "depth": 24, "cross_heads": 4, "latents_per_step": 32}),
    ],
)
def test_presets_are_the_papers_models(preset: str, sizes: dict[str, Any]) -> None:
    both = {
        "window": 1.0,
        "latent_step": 0.125,
        "steps": 8,
        "head_dim": 64,
        "self_heads": 8,
        "feedforward": 4,
        "rotary_periods": (1e-4, 2.0627),
        "feedforward_dropout": 0.2,
        "residual_dropout": 0.4,
    }
    settings = ModelSettings.model_validate({"preset": preset})
    assert {key: getattr(settings, key) for key in both | sizes} == both | sizes
    assert len(PRESETS) == 2


@pytest.mark.parametrize(
    ("name", "preset"),
    [("mc_maze", "poyo-1.3m"), ("poyo_mp", "poyo-11.8m"), ("poyo_1", "poyo-11.8m")],
)
def test_a_published_recipe_changes_nothing_of_its_preset(name: str, preset: str) -> None:
    assert shipped(name).model == ModelSettings.model_validate({"preset": preset})


@pytest.mark.parametrize(
    ("name", "units", "sessions", "millions"),
    [("mc_maze", 182, 1, 1.3), ("poyo_mp", 10410, 111, 11.8), ("poyo_1", 27373, 158, 11.8)],
)
def test_sizes_are_as_published(name: str, units: int, sessions: int, millions: float) -> None:
    """Millions of parameters, without the embeddings of units and sessions."""
    with torch.device("meta"):
        model = Perceiver(shipped(name).model, units, sessions, 2)
    tables = (model.unit_embedding.weight, model.session_embedding.weight)
    assert [len(table) for table in tables] == [units, sessions]
    count = sum(p.numel() for p in model.parameters()) - sum(table.numel() for table in tables)
    assert count / 1e6 == pytest.approx(millions, rel=0.04)


@published
def test_training_is_as_published(name: str) -> None:
    training = shipped(name).training
    single = name == "mc_maze"
    assert training.optimizer == "lamb"
    assert training.batch == (128 if single else 1024)
    assert training.learning_rate == pytest.approx(3.125e-5 * training.batch, rel=1e-12)
    assert training.weight_decay == 1e-4
    assert training.unit_dropout is not None
    kept = training.unit_dropout
    assert (kept.least, kept.mode, kept.most) == ((60, 300, 1000) if single else (30, 100, 300))


@published
def test_the_rate_is_flat_for_half_of_the_run_then_half_a_cosine(name: str) -> None:
    training = shipped(name).training
    peak, steps = training.learning_rate, training.steps
    assert learning_rate(0, training) == peak
    assert learning_rate(steps // 2, training) == peak
    assert learning_rate(steps * 3 // 4, training) == pytest.approx(peak / 2, rel=1e-3)
    assert learning_rate(steps - 1, training) < 1e-6 * peak


@every_recipe
def test_settings_can_be_overridden_and_nothing_else_changes(name: str) -> None:
    changed = shipped(
        name,
        [
            "training.steps=7",
            "training.batch=6",
            "data.sessions=[a/b, 'c/*']",
            "training.unit_dropout.least=1",
            "baseline.lags=3",
        ],
    )
    assert (changed.training.steps, changed.training.batch) == (7, 6)
    assert changed.data.sessions == ("a/b", "c/*")
    before, after = shipped(name).model_dump(), changed.model_dump()
    for group, key in [("training", "steps"), ("training", "batch"), ("data", "sessions"),
                       ("baseline", "lags")]:  # fmt: skip
        del before[group][key], after[group][key]
    kept, was = (settings["training"].pop("unit_dropout") for settings in (after, before))
    assert kept["least"] == 1
    if was:  # else it is open, as it is the base's
        assert was.pop("least") != 1
        del kept["least"]
        assert kept == was
    assert after == before


@every_recipe
def test_another_preset_can_be_set(name: str) -> None:
    model = shipped(name, ["model.preset=poyo-11.8m"]).model
    assert (model.dim, model.depth, model.latents_per_step) == (128, 24, 32)


# The columns of Perich & Miller's trials differ by task; these are as in the real files.
CENTER_OUT = pa.table(
    {
        "start": [10.0, 20.0, 30.0],
        "stop": [14.0, 22.0, 34.0],
        "result": ["R", "A", "R"],
        "target_on_time": [11.0, np.nan, 31.0],
        "go_cue_time": [12.0, np.nan, 32.0],
    }
)
RANDOM_TARGET = pa.table(
    {
        "start": [10.0, 20.0, 30.0],
        "stop": [14.0, 22.0, 34.0],
        "result": ["R", "F", "R"],
        "go_cue_time_array": [[11.0] * 4, [21.0] * 4, [31.0] * 4],
        "num_attempted": [4.0, 2.0, 4.0],
    }
)
TASKS = {
    "perich_miller_center_out": ("000688/sub-C_ses-CO-20160909", CENTER_OUT),
    "perich_miller_random_target": ("000688/sub-C_ses-RT-20150316", RANDOM_TARGET),
}


def perich(spec_id: str) -> FakeSession:
    """A session with the trials of one task, scored as its entry in the registry says."""
    (spec,) = Manifest.load().named([spec_id])
    id, table = TASKS[spec_id]
    trials = {"trials": table}
    assert spec.evaluation
    times = np.arange(0, 40, 0.01)
    whole = Intervals(0.0, 40.0)
    return fake_session(id, 1, n_units=3).with_(
        timestamps=times,
        values=np.random.default_rng(0).normal(size=(len(times), 2)),
        domain=whole,
        splits={"train": whole},
        evaluation=spec.evaluation.intervals(trials),
        intervals=trials,
    )


@pytest.mark.parametrize("name", ["poyo_mp", "poyo_1"])
@pytest.mark.parametrize(
    ("task", "moments"),
    [
        # (time, weight): between trials; before the target; hold; reach; an aborted trial; reach
        (
            "perich_miller_center_out",
            [(5, 1), (10.5, 1), (11.5, 0.1), (13, 5), (21, 0.1), (33, 5)],
        ),
        ("perich_miller_random_target", [(5, 1), (13, 1), (21, 1), (33, 1)]),
    ],
)
def test_reaches_weigh_most(name: str, task: str, moments: list[tuple[float, float]]) -> None:
    samples = read_samples(perich(task), "hand_vel", shipped(name).data)  # type: ignore[arg-type]
    for time, weight in moments:
        nearest = np.abs(samples.times - time).argmin()
        assert samples.weights[nearest] == pytest.approx(weight), time


def test_poyo_1_asks_other_datasets_for_no_table() -> None:
    session = perich("perich_miller_center_out").with_(id="zenodo-3854034/x", intervals={})
    samples = read_samples(session, "hand_vel", shipped("poyo_1").data)  # type: ignore[arg-type]
    assert set(samples.weights) == {1.0}


def test_mc_maze_weighs_every_sample_the_same() -> None:
    weights = shipped("mc_maze").data.weights
    assert (weights.elsewhere, weights.rules) == (1.0, ())
