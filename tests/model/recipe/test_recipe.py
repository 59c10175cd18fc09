"""A recipe says what is wrong with it, by key, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from neurobrick import RecipeError
from neurobrick_model import Recipe

SHIPPED = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntraning: {steps: 5}", "unknown key traning; did you mean training?"),
        ("name: x\ntraining: {step: 5}", "unknown key training.step; did you mean steps?"),
        ("name: x\nmodel: {zzz: 5}", "unknown key model.zzz; there is: preset, window, dim,"),
        ("name: x\ntraining: {steps: many}", "training.steps: must be a whole number (many)"),
        ("name: x\ntraining: {steps: 0}", "training.steps: must be greater than or equal to 1 (0)"),
        ("name: x\nmodel: {window: 1.0, latent_step: 0.3}", "multiple of latent_step"),
        ("name: x\ntraining: {unit_dropout: {least: 9, mode: 3}}", "must rise"),
        ("name: x\nbaseline: {lags: 4}", "lags must be odd"),
        ("name: x\nevaluation: {splits: [valid]}", "splits must hold test"),
        ("name: x\nevaluation: {during: {evaluation: {table: trials}}}", "is scored anyhow"),
        ("name: x\nevaluation: {during: {a: {table: trials, stopp: go}}}", "mean stop"),
        ("name: x\ndata: {splits: {block: 5}}", "data.splits.block; did you mean blocks?"),
        ("training: {steps: 5}", "name: is required"),
        ("name: a/b", "name: must begin with a letter or digit"),
        ("name: 2024-05-06", "name: must be text; put it in quotes, as in '2024-05-06'"),
        ("name: x\ndata: {target: no}", "data.target: must not be true or false; YAML reads yes,"),
        ("name: x\ndata: {sessions: a/b}", "data.sessions: must be a list, as in [a/b]"),
        ("name: x\ntraining: 5", "training: must be a group of settings"),
        ("name: x\ntraining: {steps: yes}", "training.steps: must not be true or false"),
        ("name: x\ntraining: {clip: .inf}", "training.clip: must be a finite number"),
        (
            "name: x\ndata: {weights: {rules: [{weight: 1, during: {table: t, stopp: x}}]}}",
            "unknown key data.weights.rules.0.during.stopp; did you mean stop?",
        ),
        ("- 1", "is no recipe"),
        ("name: 2024-13-45", "is not YAML: month must be in 1..12"),
        ("name: [", "is not YAML"),
    ],
)
def test_a_fault_is_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(written(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in ("tuple", "dictionary", "datetime", "None", "instance"):
        assert word not in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "-x", "_x", "a/b", "../x", "/x", "", "a\n"])
def test_a_name_is_a_folder_in_runs_and_nowhere_else(name: str) -> None:
    with pytest.raises(RecipeError, match="name: must begin with a letter or digit"):
        Recipe.from_settings({"name": name})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name: \xe9\n", "name: é".encode()])
def test_a_recipe_is_utf8_whatever_the_locale(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    if content.isascii() or content.endswith("é".encode()):
        assert Recipe.from_yaml(path).name == "é"
        return
    with pytest.raises(RecipeError, match="is not YAML"):
        Recipe.from_yaml(path)


def test_an_absent_file_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        Recipe.from_yaml(tmp_path / "none.yaml")


def test_overrides_are_dotted_keys_and_yaml_values(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\ntraining: {steps: 5}")
    recipe = Recipe.from_yaml(
        path, ["training.steps=100", "data.sessions=['a/*', b]", "training.unit_dropout.least=3"]
    )
    assert recipe.training.steps == 100
    assert recipe.data.sessions == ("a/*", "b")
    assert recipe.training.unit_dropout is not None
    assert recipe.training.unit_dropout.least == 3
    for wrong, message in [
        ("training.steps", "write key=value"),
        ("training.stepz=3", "did you mean steps"),
        ("name.x=3", "name is a value"),
        ("name=[", "not a YAML value"),
    ]:
        with pytest.raises(RecipeError, match=message):
            Recipe.from_yaml(path, [wrong])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=20240501", "20240501"),
        ("name=007", "007"),
        ("name=2024-05-01", "2024-05-01"),
        ("name=2024-13-45", "2024-13-45"),
        ("name=no", "no"),
        ("data.target=no", "no"),
        ("data.target=1e3", "1e3"),
        ("data.target=null", None),
        ("data.sessions=local/rec", ("local/rec",)),
        ("data.sessions=2024", ("2024",)),
        ("data.root=2024-05-01", "2024-05-01"),
        ("data.labels=60", 60.0),
        ("data.labels=5min", 300.0),
        ("training.steps=1e3", 1000),
        ("training.learning_rate=1e-3", 1e-3),
        ("training.compile=no", False),
        ("baseline.bins=5e-2", (0.05,)),
        ("baseline.which=kalman", ("kalman",)),
        ("evaluation.splits=test", ("test",)),
        ("adapt.base=2024", Path("2024")),
        ("data.readouts.aim.weight=2e0", 2.0),
    ],
)
def test_a_value_that_yaml_reads_as_something_else_is_taken_as_meant(
    override: str, value: Any
) -> None:
    recipe = Recipe.from_settings({"name": "x"}, [override])
    setting: Any = recipe
    for key in override.partition("=")[0].split("."):
        setting = setting[key] if isinstance(setting, dict) else getattr(setting, key)
    assert setting == value
    assert type(setting) is type(value) or isinstance(setting, Path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.steps=yes", "training.steps: must not be true or false"),
        ("training.steps=1.5", "training.steps: must be a whole number (1.5)"),
        ("training.steps=", "training.steps: must have a value"),
        ("training.clip=none", "training.clip: must be a number (none)"),
        ("baseline.which=rid", "baseline.which.0: must be 'ridge', 'kalman'"),
        ("data.velocity=7", "data.velocity: must be true or false (7)"),
        ("training.unit_dropout=3", "training.unit_dropout: must be a group of settings"),
    ],
)
def test_a_value_that_does_not_fit_is_said_in_yamls_words(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_settings({"name": "x"}, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(path)
    assert recipe.name == path.stem
    assert Recipe.from_yaml(written(tmp_path, recipe.to_yaml())) == recipe


def test_every_setting_is_described() -> None:
    def check(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"

    from neurobrick_model.recipe import settings

    for value in vars(settings).values():
        if isinstance(value, type) and issubclass(value, settings.Settings):
            check(value)
