"""Adaptation: recipes that take a trained decoder to new sessions.

The ways are those of Azabou et al. 2023. *Unit identification* learns the embeddings of new units
and sessions and nothing else: the new neurons are placed among those that the decoder knows.
*Gradual unfreezing* does that first and then lets all weights learn. *Full finetuning* lets them
learn from the start, and *from scratch* is there to compare with.

Such a recipe says what it changes. The rest is as in the run that it starts from, but for the
optimization, which has defaults of its own for each way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurobrick import RecipeError
from neurobrick_model.decoding.spec import DecoderSpec
from neurobrick_model.recipe.recipe import RECIPE, Recipe
from neurobrick_model.recipe.settings import Way

Settings = dict[str, Any]

# Chosen on simulated sessions, by 30 s to 5 min of labels.
_COMMON = {"steps": 300, "batch": 16, "validate_every": 50, "patience": 4}
TRAINING: Mapping[Way, Mapping[str, Any]] = {
    "identify": {**_COMMON, "learning_rate": 5e-3},
    # Its second part may pay late: it has all its steps. The rate has fallen by then.
    "unfreeze": {**_COMMON, "learning_rate": 5e-3, "patience": None},
    "finetune": {**_COMMON, "learning_rate": 5e-4},
    # What it is compared with must have learned what it can: as long as it helps.
    "scratch": {
        **_COMMON,
        "learning_rate": 2e-3,
        "steps": 3000,
        "validate_every": 150,
        "patience": 5,
    },
}
# Of the optimization, what is the machine's and the recording's, and not the way's.
INHERITED = ("queries", "unit_dropout", "precision", "compile", "device")
# Mappings whose keys are one's own: what a recipe says of one stands for all of it, so that it can
# also say less than the base does.
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
) -> Recipe:
    """The recipe that takes the decoder in `base`, a run's folder or a decoder's, to the `sessions`
    that these globs select of the store at `root` (that of the base by default), by at most
    `labels` of each, seconds or text such as "60s". `overrides` are `key=value`, as for a recipe.

    `Trainer(adapt(…)).fit()` makes a run of it called `name`, by default after base, way and
    labels. Raises RecipeError for what makes no recipe and StoreError when there is no decoder.
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


def resolve(recipe: Recipe) -> Recipe:
    """`recipe` with all that it leaves open settled; itself where it adapts nothing.

    Raises StoreError when its base holds no decoder, and RecipeError when it contradicts the base.
    """
    if recipe.adapt is None:
        return recipe
    base, way = recipe.adapt.base, recipe.adapt.way
    spec = DecoderSpec.read(base)
    own = recipe.model_dump(mode="json", exclude_unset=True)
    settled = _inherited(base, spec)
    settled["training"] |= TRAINING[way]
    found = Recipe.from_settings(_merged(settled, own))
    if found.folder.resolve() == base.resolve():
        raise RecipeError(f"adapting {base} would write over it: give the new run another name")
    _check_sizes(found, spec, base)
    return found


def _inherited(base: Path, spec: DecoderSpec) -> Settings:
    """What is as in the base: its recipe, where it left one, without what is its own; and what its
    decoder itself tells."""
    known: Settings = {
        "data": {"target_rate": spec.rate},
        "evaluation": {"step": spec.step},
        "training": {},
    }
    if (base / RECIPE).exists():
        known = Recipe.from_yaml(base / RECIPE).model_dump(mode="json", exclude={"name", "adapt"})
        known["data"] = {
            key: value for key, value in known["data"].items() if key not in ("sessions", "labels")
        }
        known["training"] = {key: known["training"][key] for key in INHERITED}
    known["model"] = spec.model.model_dump(mode="json")
    return known


def _merged(settings: Settings, changes: Settings) -> Settings:
    """`settings` with the values of `changes`, group by group, and what is `WHOLE` as a whole."""
    inner = {
        key: _merged(settings[key], value)
        for key, value in changes.items()
        if key not in WHOLE and isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return {**settings, **changes, **inner}


def _check_sizes(recipe: Recipe, spec: DecoderSpec, base: Path) -> None:
    theirs = spec.model.model_dump()
    for key, value in recipe.model.model_dump(exclude=CHANGEABLE).items():
        if value != theirs[key]:
            raise RecipeError(
                f"model.{key} is {value}, but {theirs[key]} in {base}: leave the model's sizes "
                "out, they are the base's"
            )
