"""A recipe says what is wrong with it, by key, in one line."""

from __future__ import annotations

from pathlib import Path

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
        ("name: x\ntraining: {steps: many}", "training.steps: input should be a valid integer"),
        ("name: x\ntraining: {steps: 0}", "training.steps: input should be greater than or equal"),
        ("name: x\nmodel: {window: 1.0, latent_step: 0.3}", "multiple of latent_step"),
        ("name: x\ntraining: {unit_dropout: {least: 9, mode: 3}}", "must rise"),
        ("name: x\nbaseline: {lags: 4}", "lags must be odd"),
        ("name: x\nevaluation: {splits: [valid]}", "splits must hold test"),
        ("name: x\nevaluation: {during: {evaluation: {table: trials}}}", "is scored anyhow"),
        ("name: x\nevaluation: {during: {a: {table: trials, stopp: go}}}", "mean stop"),
        ("name: x\ndata: {splits: {block: 5}}", "data.splits.block; did you mean blocks?"),
        ("training: {steps: 5}", "name: field required"),
        ("name: a/b", "name: string should match"),
        ("- 1", "is no recipe"),
        ("name: [", "is not YAML"),
    ],
)
def test_a_fault_is_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(written(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
