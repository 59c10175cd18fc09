"""`key=value`, as `--set` takes it: one setting of a recipe, changed.

The value is YAML. YAML takes `20240501` for a number, `2024-05-01` for a date and `no` for false,
and `1e3` for text. So a value that does not fit its setting is tried again as text, as a number,
and as a list with one item.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from neurobrick import RecipeError
from neurobrick_model.recipe.fields import type_at


def override(settings: dict[str, Any], text: str, model: type[BaseModel]) -> None:
    """Change `settings`, in place, as `text` says: a dotted key, `=`, and a YAML value.

    `model` knows which value a setting may have. Raises RecipeError when there is no `=`, the value
    is not YAML, or the key leads into a value.
    """
    key, equals, value = text.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise RecipeError(f"cannot set {text!r}: write key=value, as in training.steps=100")
    group = settings
    for parent in keys[:-1]:
        inner = group.setdefault(parent, {})
        if inner is None:
            inner = group[parent] = {}
        if not isinstance(inner, dict):
            raise RecipeError(
                f"cannot set {key.strip()}: {parent} is a value, not a group of settings"
            )
        group = inner
    group[keys[-1]] = _fitting(key.strip(), value.strip(), type_at(model, keys))


def _fitting(key: str, text: str, wanted: Any) -> Any:
    """The first reading of `text` that is of the type `wanted`. If none is, the reading whose fault
    lies deepest, so that the recipe's error is about an item and not about its list."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"cannot set {key}: {text!r} is not a YAML value") from error
    except ValueError:  # such as 2024-13-45, which looks like a date
        value = text
    if wanted is None or value is None or isinstance(value, dict | list):
        return value
    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    best, deepest = value, 0
    for reading in _readings(value, text):
        try:
            adapter.validate_python(reading)
        except ValidationError as error:
            depth = len(error.errors()[0]["loc"])
            best, deepest = (reading, depth) if depth > deepest else (best, deepest)
        else:
            return reading
    return best


def _readings(value: Any, text: str) -> Iterator[Any]:
    if not isinstance(value, bool):
        yield value
    yield text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        yield number
    if isinstance(value, bool):
        yield value
    else:
        yield [value]
    yield [text]
