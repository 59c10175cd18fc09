"""Adaptation: recipes that take a trained decoder to new sessions.

The ways are those of Azabou et al. 2023:

- `identify`, *unit identification*: only the embeddings of new units and sessions learn. The new
  units find their place among those that the decoder knows.
- `unfreeze`, *gradual unfreezing*: the embeddings learn first, then all weights.
- `finetune`, *full finetuning*: all weights learn from the start.
- `scratch`: all weights are new, to compare with.

A recipe that adapts names only what it changes. Everything else is as in the run of its base,
except the optimization, for which each way has its own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurobrick import RecipeError
from neurobrick_model.decoding.spec import DecoderSpec
from neurobrick_model.recipe.recipe import RECIPE, Recipe, ResolvedRecipe
from neurobrick_model.recipe.settings import Way

Settings = dict[str, Any]

# Chosen on simulated sessions, with 30 s to 5 min of labels.
_COMMON = {"steps": 300, "batch": 16, "validate_every": 50, "patience": 4}
TRAINING: Mapping[Way, Mapping[str, Any]] = {
    "identify": {**_COMMON, "learning_rate": 5e-3},
    # All steps are taken, because the gain of the second part may come late. By then the learning
    # rate has fallen.
    "unfreeze": {**_COMMON, "learning_rate": 5e-3, "patience": None},
    "finetune": {**_COMMON, "learning_rate": 5e-4},
    # Trained until it improves no more, so that the comparison is fair.
    "scratch": {
        **_COMMON,
        "learning_rate": 2e-3,
        "steps": 3000,
        "validate_every": 150,
        "patience": 5,
    },
}
# Settings of `training` that depend on the machine and the recording, not on the way of adapting.
INHERITED = ("queries", "unit_dropout", "precision", "compile", "device")
# These mappings have user-chosen keys. A recipe replaces them as a whole; they are not merged key
# by key, so that a recipe can also name less than the base does.
WHOLE = {"readouts", "during", "where", "test"}
CHANGEABLE = {"feedforward_dropout", "residual_dropout", "preset"}  # of the model: no sizes


def adapt(
    base: str | Path,
    sessions: Sequence[str] = ("*",),
    *,
    way: Way = "identify",
    labels: float | str | None = None,
    root: str | Path | None = None,
    name: str | None = None,
    overrides: Sequence[str] = (),
) -> ResolvedRecipe:
    """The recipe that takes the decoder in `base` to new sessions.

    `Trainer(adapt(…)).fit()` runs it.

    Args:
        base: the folder of a run or of a decoder.
        sessions: globs of the new sessions' ids.
        way: how to adapt: identify, unfreeze, finetune or scratch.
        labels: at most this much labelled behavior of each session is used: seconds, or text such
            as "60s". All of it by default.
        root: where the new sessions are; the root of the base by default.
        name: the run's folder; by default after base, way and labels.
        overrides: `key=value`, as for any recipe.

    Raises RecipeError for settings that make no recipe or contradict the base, and StoreError when
    `base` holds no decoder.
    """
    data: Settings = {"sessions": list(sessions), "labels": labels}
    if root is not None:
        data["root"] = str(root)
    plain = "-".join([Path(base).resolve().name, way])
    settings = {
        "name": name or plain,
        "data": data,
        "adapt": {"base": str(base), "way": way},
    }
    recipe = Recipe.from_settings(settings, overrides)
    if recipe.name == plain and recipe.data.labels:
        recipe = recipe.model_copy(update={"name": f"{plain}-{recipe.data.labels:g}s"})
    return resolve(recipe)


def resolve(recipe: Recipe) -> ResolvedRecipe:
    """`recipe` with everything filled in that it inherits from its base.

    A ResolvedRecipe is returned as it is. Of a recipe that adapts, the base's `decoder.json` and
    `recipe.yaml` are read.

    Raises StoreError when its base holds no decoder, and RecipeError when it contradicts the base.
    """
    if isinstance(recipe, ResolvedRecipe):
        return recipe
    if recipe.adapt is None:
        values = {name: getattr(recipe, name) for name in Recipe.model_fields}
        return ResolvedRecipe.model_construct(set(recipe.model_fields_set), **values)
    base, way = recipe.adapt.base, recipe.adapt.way
    spec = DecoderSpec.read(base)
    settings = _inherited(base, spec)
    settings["training"] |= TRAINING[way]
    changes = recipe.model_dump(mode="json", exclude_unset=True)
    resolved = ResolvedRecipe.from_settings(_merged(settings, changes))
    assert isinstance(resolved, ResolvedRecipe)
    if resolved.folder.resolve() == base.resolve():
        raise RecipeError(f"adapting {base} would write over it: give the new run another name")
    _check_sizes(resolved, spec, base)
    return resolved


def _inherited(base: Path, spec: DecoderSpec) -> Settings:
    """The settings of the base, from its recipe if its folder has one, else from its decoder. The
    base's name, sessions, labels and way of adapting are left out."""
    settings: Settings = {
        "data": {"target_rate": spec.rate},
        "evaluation": {"step": spec.step},
        "training": {},
    }
    if (base / RECIPE).exists():
        recipe = Recipe.from_yaml(base / RECIPE)
        settings = recipe.model_dump(mode="json", exclude={"name", "adapt"})
        settings["data"] = {
            key: value
            for key, value in settings["data"].items()
            if key not in ("sessions", "labels")
        }
        settings["training"] = {key: settings["training"][key] for key in INHERITED}
    settings["model"] = spec.model.model_dump(mode="json")
    return settings


def _merged(settings: Settings, changes: Settings) -> Settings:
    """`settings` with the values of `changes`, group by group; those in `WHOLE` as a whole."""
    inner = {
        key: _merged(settings[key], value)
        for key, value in changes.items()
        if key not in WHOLE and isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return {**settings, **changes, **inner}


def _check_sizes(recipe: Recipe, spec: DecoderSpec, base: Path) -> None:
    """Raises RecipeError when `recipe` sets a size of the model that is not the base's."""
    sizes = spec.model.model_dump()
    for key, value in recipe.model.model_dump(exclude=CHANGEABLE).items():
        if value != sizes[key]:
            raise RecipeError(
                f"model.{key} is {value}, but {sizes[key]} in {base}: leave the model's sizes out, "
                "they are inherited from the base"
            )
