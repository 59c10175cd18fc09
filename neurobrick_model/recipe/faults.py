"""What is wrong with a recipe, as one line: the key, the fault, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from neurobrick import IntervalRule
from neurobrick.errors import listed
from neurobrick_model.recipe.fields import names_at

# pydantic speaks of tuples and dictionaries; a recipe has lists and groups of settings.
WORDS = {
    "missing": "is required",
    "string_type": "must be text; put it in quotes, as in '{text}'",
    "path_type": "must be text; put it in quotes, as in '{text}'",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list, as in [{text}]",
    "list_type": "must be a list, as in [{text}]",
    "dict_type": "must be a group of settings, as in {{key: value}}",
    "mapping_type": "must be a group of settings, as in {{key: value}}",
    "model_type": "must be a group of settings, as in {{key: value}}",
    "model_attributes_type": "must be a group of settings, as in {{key: value}}",
    "invalid_key": "must have keys that are text; put the key in quotes",
    "too_short": "is too short, must have at least {min_length}",
    "too_long": "is too long, must have at most {max_length}",
    "string_pattern_mismatch": (
        "must begin with a letter or digit, and have only letters, digits, . _ - after it"
    ),
}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a recipe that does not validate. An unknown key gets close matches."""
    fault = min(error.errors(include_url=False), key=_wrong_branch)
    keys = [str(part) for part in fault["loc"]]
    shown = [key for key in keys if "[" not in key and key != IntervalRule.__name__]
    name = ".".join(shown) or "the recipe"
    if fault["type"] == "extra_forbidden":
        known = names_at(model, keys[:-1])
        close = difflib.get_close_matches(keys[-1], known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there is: {listed(known)}"
        return f"unknown key {name}; {hint}"
    text = _as_yaml(fault["input"])
    words = WORDS.get(fault["type"])
    if fault["input"] is None and fault["type"] != "missing":
        message = "must have a value"
    elif words is not None:
        message = words.format_map({**fault.get("ctx", {}), "text": text})
    else:
        message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
        message = f"{message[:1].lower()}{message[1:]}"
    got = "" if fault["type"] == "missing" or isinstance(fault["input"], Mapping) else f" ({text})"
    return f"{name}: {message}{got}"


def _wrong_branch(fault: Mapping[str, Any]) -> bool:
    """Whether this fault says that a group is not a word: the setting may be either, and the
    faults inside the group are the ones to name."""
    return fault["type"] == "literal_error" and isinstance(fault["input"], Mapping)


def _as_yaml(value: Any) -> str:
    """`value` as a recipe would have it, at most 60 characters."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1e6)
    except yaml.YAMLError:
        text = str(value)
    text = text.removesuffix("\n").removesuffix("\n...").removesuffix("\n").strip("'\"")
    return text if len(text) <= 60 else f"{text[:59]}…"
