"""The fields of nested pydantic models, found by the dotted keys that a recipe uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type such as `Weights | None` or `dict[str, ReadoutSettings]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def type_at(model: type[BaseModel], keys: Sequence[str]) -> Any | None:
    """The type of the setting at `keys`, with its bounds; None where the models name no setting."""
    current: Any = model
    for key in keys:
        current = _type_inside(current, key)
        if current is None:
            return None
    return current


def names_at(model: type[BaseModel], keys: Sequence[str]) -> list[str]:
    """The names of the settings in the group at `keys`. Keys that name no setting, such as the
    number of a list's item or a name of the user's, are skipped."""
    for key in keys:
        if key in model.model_fields:
            model = next(models_in(model.model_fields[key].annotation), model)
        else:
            tags = {inner.__name__: inner for inner in _direct(model)}
            model = tags.get(key, model)
    return list(model.model_fields)


def _direct(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        yield from models_in(field.annotation)


def _type_inside(annotation: Any, key: str) -> Any | None:
    """The type of `key` inside a value of type `annotation`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(key)
        if field is None:
            return None
        return (
            Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        )
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return get_args(annotation)[1]
    for inner in get_args(annotation):
        if (setting := _type_inside(inner, key)) is not None:
            return setting
    return None
