"""Recipe: everything that one training run depends on, as one YAML file.

Unknown keys are errors. Every setting but the name has a default. Every error is one line that
names the key. Rules over interval tables, and the division into train, valid and test, are written
as in the dataset registry.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from neurobrick import RecipeError
from neurobrick_model.recipe.faults import explain
from neurobrick_model.recipe.overrides import override
from neurobrick_model.recipe.settings import (
    AdaptSettings,
    BaselineSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)

RECIPE = "recipe.yaml"  # the recipe in a run's folder, with every setting
NAME = r"^[^\W_][\w.-]*$"  # a letter or digit first: `..` would be the folder above `runs`


class Recipe(Settings):
    """One training run."""

    name: str = Field(
        pattern=NAME,
        description="the run's folder in `runs`: letters, digits, and . _ - after the first",
    )
    runs: Path = Field(Path("runs"), description="the folder of all runs")
    data: DataSettings = Field(DataSettings(), description="sessions, target, splits, weights")
    model: ModelSettings = Field(ModelSettings(), description="the size of the decoder")
    training: TrainingSettings = Field(TrainingSettings(), description="the optimization")
    adapt: AdaptSettings | None = Field(
        None, description="the trained decoder that is taken to new sessions; none by default"
    )
    evaluation: EvaluationSettings = Field(
        EvaluationSettings(), description="what is scored, and how windows are stitched"
    )
    baseline: BaselineSettings = Field(
        BaselineSettings(), description="the simpler decoders to compare with"
    )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / self.name

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe. Each of `overrides` is `key=value`, with a dotted key and a YAML value.

        Raises RecipeError with one line that names the key, and keys that are spelled alike.
        """
        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise RecipeError(f"{path} is no recipe: it must hold keys and values, such as name: x")
        return cls.from_settings(settings, overrides, source=str(path))

    @classmethod
    def from_settings(
        cls, settings: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "the recipe"
    ) -> Recipe:
        """A recipe of nested `settings`. `overrides` are as in `from_yaml`; an error names
        `source`. Raises RecipeError."""
        settings = copy.deepcopy(settings)
        for text in overrides:
            override(settings, text, Recipe)
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise RecipeError(f"{source}: {explain(error, Recipe)}") from error

    def to_yaml(self) -> str:
        """Every setting, defaults included, as YAML that `from_yaml` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class ResolvedRecipe(Recipe):
    """A recipe that leaves nothing open: what it inherits from the decoder that it adapts is filled
    in. `adaptation.recipes.resolve` makes one of a Recipe.

    A copy with changes is a plain Recipe, since the changes may contradict that decoder.
    """

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any:
        """A copy; with an `update`, a Recipe that is to be resolved again."""
        copied = super().model_copy(update=update, deep=deep)
        if not update:
            return copied
        values = {name: getattr(copied, name) for name in Recipe.model_fields}
        return Recipe.model_construct(set(copied.model_fields_set), **values)
