"""Recipe: everything that one training run depends on, as one YAML file.

Unknown keys are errors, every value has a default but the name, and every message is one line that
names the key. Rules over interval tables and the division into train, valid and test are written
as in the dataset registry.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from neurobrick import IntervalRule, RecipeError
from neurobrick_model.recipe.settings import (
    AdaptSettings,
    BaselineSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)

RECIPE = "recipe.yaml"  # in a run's folder, every setting of it


class Recipe(Settings):
    """One training run."""

    name: str = Field(pattern=r"^[\w.-]+$", description="the run's folder under `runs`")
    runs: Path = Field(Path("runs"), description="where run folders are made")
    data: DataSettings = Field(DataSettings(), description="sessions, target, splits, weights")
    model: ModelSettings = Field(ModelSettings(), description="the decoder")
    training: TrainingSettings = Field(TrainingSettings(), description="the optimization")
    adapt: AdaptSettings | None = Field(
        None, description="the trained decoder that it takes to new sessions; none by default"
    )
    evaluation: EvaluationSettings = Field(
        EvaluationSettings(), description="stitching, and what is scored"
    )
    baseline: BaselineSettings = Field(BaselineSettings(), description="what to compare with")

    @property
    def folder(self) -> Path:
        """Where the run leaves its files."""
        return self.runs / self.name

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe; each of `overrides` is `key=value` with a dotted key and a YAML value.

        Raises RecipeError with one line that names the key, and those that come close.
        """
        try:
            settings = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise RecipeError(f"{path} is no recipe: it must hold keys and values, such as name: x")
        return cls.from_settings(settings, overrides, source=str(path))

    @classmethod
    def from_settings(
        cls, settings: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "the recipe"
    ) -> Recipe:
        """A recipe of nested `settings`; `overrides` are as in `from_yaml`, `source` is what an
        error is to name. Raises RecipeError."""
        settings = copy.deepcopy(settings)
        for override in overrides:
            _override(settings, override)
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise RecipeError(f"{source}: {_explain(error)}") from error

    def to_yaml(self) -> str:
        """Every setting, defaults included, as YAML that `from_yaml` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _override(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"cannot set {override!r}: write key=value, as in training.steps=100")
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = settings.setdefault(parent, {})
        if inner is None:
            inner = settings[parent] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {key}: {parent} is a value, not a group of settings")
        settings = inner
    try:
        settings[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"cannot set {key}: {text!r} is not a YAML value") from error


def _explain(error: ValidationError) -> str:
    """The first fault as one line: key, what is wrong, close matches for an unknown key."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "recipe"
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message[0].lower()}{message[1:]} (got {first['input']!r:.60})"
    known = _fields(Recipe, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(known)}"
    return f"unknown key {key}; {hint}"


def _fields(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """Names of the settings in the group at `path`; parts that name no field are stepped over."""
    for part in path:
        if part in model.model_fields:
            model = next(_models(model.model_fields[part].annotation), model)
        elif part == IntervalRule.__name__:
            model = IntervalRule
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
