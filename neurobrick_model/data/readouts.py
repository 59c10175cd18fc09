"""Readouts: what a decoder decodes beside its target, at the times of the target's samples.

A continuous readout is another behavior, interpolated at those times. A discrete readout is the
value of a column of an interval table at those times, such as the direction of the current reach.
Its classes are the values in the training samples. Each readout has weights and scored samples of
its own, because a session may lack it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from neurobrick import HarmonizeError, RecipeError, Session
from neurobrick.errors import listed
from neurobrick_model.data.normalization import Moments, moments, varies, zscores
from neurobrick_model.data.sampling import interpolated
from neurobrick_model.data.timeline import flat, true_rows
from neurobrick_model.recipe.settings import ReadoutSettings

MOST_CLASSES = 256
NO_CLASS = -1  # the class of a sample that has none

Scalar = bool | int | float | str


class Readout(BaseModel):
    """One readout of a decoder: the names of its columns of the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str = Field("", description="SI unit of a continuous readout")
    axes: tuple[str, ...] = Field((), description="names of a continuous readout's columns")
    classes: tuple[Scalar, ...] = Field((), description="classes of a discrete readout")

    @property
    def width(self) -> int:
        """Columns of the output."""
        return len(self.classes or self.axes)


@dataclass(frozen=True)
class Inherited:
    """Normalization and readouts that an adapted run inherits from its base decoder."""

    target: Moments | None = None  # mean and deviation (d,) of the target, SI
    behaviors: Mapping[str, Moments] = field(default_factory=dict)  # of continuous readouts
    readouts: Mapping[str, Readout] = field(default_factory=dict)  # by name


NOTHING_INHERITED = Inherited()


@dataclass(frozen=True)
class ReadoutTargets:
    """The samples of one readout, at the m samples of `Targets`, of all sessions."""

    readout: Readout
    value: Tensor  # (m, d) float32, z-scored; or (m,) int64 classes, NO_CLASS for no known class
    weight: Tensor  # (m,) float32, in the readout's loss
    share: float  # weight of the readout's loss in the whole loss
    scored: Mapping[str, Tensor]  # by split, (k,) int64 rows; unknown classes too, as errors
    mean: Tensor  # (sessions, d) float64, SI
    std: Tensor  # (sessions, d) float64, SI

    def restore(self, value: Tensor, session: int) -> Tensor:
        """z-scored values (n, d) of one session back in SI, float64."""
        return value.double() * self.std[session] + self.mean[session]


@dataclass(frozen=True)
class ReadoutSamples:
    """One session's samples of a readout, at the m samples of its target.

    A session that lacks the readout has neither values nor classes, and a reason in `missing`.
    """

    weights: NDArray[np.float32]  # (m,) in the readout's loss
    trained: NDArray[np.bool_]  # (m,) in the training split with a weight above 0
    scored: Mapping[str, NDArray[np.bool_]]  # (m,) by split
    values: NDArray[np.float64] | None = None  # (m, d) SI, NaN for none; of a continuous readout
    labels: NDArray[np.int64] | None = None  # (m,) rows of `classes`; of a discrete readout
    classes: tuple[Scalar, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class TargetSamples:
    """The m samples of a session's target, which its readouts are taken at."""

    times: NDArray[np.float64]  # (m,) s
    weights: NDArray[np.float32]  # (m,) in the target's loss
    train: NDArray[np.bool_]  # (m,) in the train split
    splits: Mapping[str, NDArray[np.bool_]]  # (m,) in each split
    scored: Mapping[str, NDArray[np.bool_]]  # (m,) scored, by split


def read(
    session: Session, name: str, settings: ReadoutSettings, target: TargetSamples
) -> ReadoutSamples:
    """A readout of a session.

    A behavior has the weights of the target, and is scored where the target is. A column has the
    weight 1 and is scored wherever it has a value.

    Raises RecipeError for a column of too many values.
    """
    if settings.column is not None:
        return _read_column(session, settings, target)
    behavior = settings.behavior or name
    known: NDArray[np.bool_] = np.zeros(len(target.times), np.bool_)
    values, missing = None, f"it has no behavior {behavior!r}"
    if behavior in session.behavior:
        series = session.slice(*session.span).behavior[behavior]
        stamps = np.asarray(series.timestamps, dtype=np.float64)
        values = interpolated(target.times, stamps, np.asarray(series.values, dtype=np.float64))
        known, missing = np.asarray(np.isfinite(values).all(axis=1)), ""
    weights = np.where(known, target.weights, np.float32(0))
    return ReadoutSamples(
        weights=weights,
        trained=(weights > 0) & target.train,
        scored={split: known & mask for split, mask in target.scored.items()},
        values=values,
        missing=missing,
    )


def _read_column(
    session: Session, settings: ReadoutSettings, target: TargetSamples
) -> ReadoutSamples:
    missing = ""
    try:
        labels, classes = _labels(session, settings, target.times)
    except HarmonizeError as error:
        labels, classes, missing = np.full(len(target.times), NO_CLASS), (), str(error)
    known = labels != NO_CLASS
    return ReadoutSamples(
        weights=known.astype(np.float32),
        trained=known & target.train,
        scored={split: known & mask for split, mask in target.splits.items()},
        labels=labels,
        classes=classes,
        missing=missing,
    )


def _labels(
    session: Session, settings: ReadoutSettings, times: NDArray[np.float64]
) -> tuple[NDArray[np.int64], tuple[Scalar, ...]]:
    """The labels (m,) at `times` (m,), rows of the classes, and the classes.

    Raises HarmonizeError when the session lacks the table or one of the columns.
    """
    rule, column = settings.during, settings.column
    assert rule is not None
    assert column is not None

    rule.intervals(session.intervals)  # raises where the rule does not fit the session's tables
    table = session.intervals[rule.table]
    if column not in table.column_names:
        raise HarmonizeError(
            f"table {rule.table!r} has no column {column!r}; "
            f"there is: {listed(sorted(table.column_names))}"
        )
    wanted = rule.where.get(column)
    classes = _sorted(
        value
        for value in table[column].to_pylist()
        if _is_class(value) and (wanted is None or value in wanted)
    )
    if len(classes) > MOST_CLASSES:
        raise RecipeError(
            f"column {column!r} of {rule.table!r} has {len(classes)} values in {session.id}, more "
            f"than the {MOST_CLASSES} that a readout tells apart"
        )
    labels = np.full(len(times), NO_CLASS)
    for number, value in enumerate(classes):
        where = {**rule.where, column: [value]}
        try:
            inside = rule.model_copy(update={"where": where}).intervals(session.intervals)
        except HarmonizeError:  # no row of this value is among those of the rule
            continue
        labels[inside.contains(times)] = number
    return labels, classes


def _is_class(value: Any) -> bool:
    return isinstance(value, Scalar) and not (isinstance(value, float) and math.isnan(value))


def _sorted(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    return tuple(sorted(dict.fromkeys(values), key=lambda value: (isinstance(value, str), value)))


def gather(
    readout: Readout,
    share: float,
    parts: Sequence[ReadoutSamples],
    by_session: bool,
    device: torch.device,
    inherited: Inherited,
) -> ReadoutTargets:
    """The samples of a readout of all sessions; `parts` are those of each session.

    `share` is the weight of its loss. Behaviors are normalized `by_session`, or all together, or as
    inherited. A readout without axes is discrete: its classes are the inherited ones, else those of
    the training samples.

    Raises RecipeError when there is nothing to train on, and when a behavior varies in no session.
    """
    base = inherited.readouts.get(readout.name)
    if base is None and not any(part.trained.any() for part in parts):
        why = next((f": {part.missing}" for part in parts if part.missing), "")
        raise RecipeError(
            f"data.readouts.{readout.name}: no session has a sample of it in its train split{why}"
        )
    weights = [part.weights for part in parts]
    mean = std = np.zeros((len(parts), 0))
    if readout.axes:
        values = [_or_nan(part, readout.width) for part in parts]
        pools = [x[part.trained] for x, part in zip(values, parts, strict=True)]
        if base is None and not any(varies(pool) for pool in pools):
            raise RecipeError(
                f"data.readouts.{readout.name}: it does not vary in the train split of any session"
            )
        mean, std = moments(pools, by_session, inherited.behaviors.get(readout.name))
        value = flat([zscores(x, *row) for x, *row in zip(values, mean, std, strict=True)], device)
    else:
        classes = base.classes if base else _seen(parts)
        readout = readout.model_copy(update={"classes": classes})
        labels = [_renumbered(part, readout.classes) for part in parts]
        weights = [w * (label != NO_CLASS) for w, label in zip(weights, labels, strict=True)]
        value = flat(labels, device)
    return ReadoutTargets(
        readout=readout,
        value=value,
        weight=flat(weights, device, np.float32),
        share=share,
        scored={
            split: true_rows([part.scored[split] for part in parts], device)
            for split in parts[0].scored
        },
        mean=torch.from_numpy(mean).to(device),
        std=torch.from_numpy(std).to(device),
    )


def _or_nan(part: ReadoutSamples, d: int) -> NDArray[np.float64]:
    """The values (m, d); NaN for a session that lacks the readout."""
    return np.full((len(part.weights), d), np.nan) if part.values is None else part.values


def _seen(parts: Sequence[ReadoutSamples]) -> tuple[Scalar, ...]:
    """The classes of the training samples of all sessions."""
    return _sorted(
        part.classes[label]
        for part in parts
        if part.labels is not None
        for label in np.unique(part.labels[part.trained])
    )


def _renumbered(part: ReadoutSamples, classes: tuple[Scalar, ...]) -> NDArray[np.int64]:
    """The labels (m,) of a session as rows of `classes`; NO_CLASS for a value not among them."""
    if part.labels is None:
        return np.full(len(part.weights), NO_CLASS)
    number = {value: row for row, value in enumerate(classes)}
    table = np.array([*(number.get(value, NO_CLASS) for value in part.classes), NO_CLASS])
    return table[part.labels]
