"""Readouts: what else a decoder says at the moments of its target's samples.

A continuous readout is another behavior, taken at those moments. A discrete one is the value that a
column of an interval table has there, such as the direction of the reach under way; classes are the
values that training has seen. Each has weights and scored samples of its own: a session may lack
any of them.
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

from neurobrick import HarmonizeError, Intervals, RecipeError, Session
from neurobrick_model.data.normalization import Moments, moments, zscores
from neurobrick_model.data.timeline import flat, true_rows
from neurobrick_model.recipe.settings import ReadoutSettings

MOST_CLASSES = 256
NEAR = 1.5  # sample intervals that a behavior is interpolated across
NO_CLASS = -1  # the class of a sample that has none

Scalar = bool | int | float | str


class Readout(BaseModel):
    """One readout of a decoder: what its columns of the output are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str = Field("", description="SI unit of a continuous one")
    axes: tuple[str, ...] = Field((), description="names of a continuous one's columns")
    classes: tuple[Scalar, ...] = Field((), description="what a discrete one tells apart")

    @property
    def width(self) -> int:
        """Columns of the output."""
        return len(self.classes or self.axes)


@dataclass(frozen=True)
class Inherited:
    """What a decoder that is trained already tells things in: its other `readouts` by name, and the
    mean and deviation (d,) of its `target` and of the other `behaviors` among them."""

    target: Moments | None = None
    behaviors: Mapping[str, Moments] = field(default_factory=dict)
    readouts: Mapping[str, Readout] = field(default_factory=dict)


NOTHING_INHERITED = Inherited()


@dataclass(frozen=True)
class ReadoutTargets:
    """The samples of one readout, beside those of `Targets`: `value` (m, d) float32, z-scored, or
    (m,) int64 classes, NONE where there is none or one that training has not seen; `weight` (m,)
    float32 in its loss; `share`, what its loss counts; `scored`, rows by split; `mean` and `std`
    (sessions, d) float64 in SI. What training has not seen is scored all the same: it is wrong."""

    readout: Readout
    value: Tensor
    weight: Tensor
    share: float
    scored: Mapping[str, Tensor]
    mean: Tensor
    std: Tensor

    def restore(self, value: Tensor, session: int) -> Tensor:
        """z-scored values (n, d) of one session back in SI, float64."""
        return value.double() * self.std[session] + self.mean[session]


@dataclass(frozen=True)
class ReadoutSamples:
    """One session's, at the m samples of its target: `values` (m, d) in SI, NaN where there is
    none, of a continuous readout; `labels` (m,), each a row of `classes`, of a discrete one; or
    neither, where the session lacks it, and `missing` says why. `weights` (m,) in its loss;
    `trained` (m,), which count in training; `scored` (m,), by split."""

    weights: NDArray[np.float32]
    trained: NDArray[np.bool_]
    scored: Mapping[str, NDArray[np.bool_]]
    values: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    classes: tuple[Scalar, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class TargetSamples:
    """What a session's target says of its m samples: `times` (m,) s, `weights` (m,) in the loss,
    and masks (m,) of the `train` split, of each split, and of what is scored of it."""

    times: NDArray[np.float64]
    weights: NDArray[np.float32]
    train: NDArray[np.bool_]
    splits: Mapping[str, NDArray[np.bool_]]
    scored: Mapping[str, NDArray[np.bool_]]


def read(
    session: Session, name: str, settings: ReadoutSettings, frame: TargetSamples
) -> ReadoutSamples:
    """A readout of a session.

    A behavior has the weights of the target, and is scored where the target is. A column counts
    alike, and is scored, wherever it has a value.

    Raises RecipeError for a column of too many values.
    """
    missing = ""
    if settings.column is not None:
        try:
            labels, classes = _labels(session, settings, frame.times)
        except HarmonizeError as error:
            labels, classes, missing = np.full(len(frame.times), NO_CLASS), (), str(error)
        there = labels != NO_CLASS
        return ReadoutSamples(
            weights=there.astype(np.float32),
            trained=there & frame.train,
            scored={split: there & mask for split, mask in frame.splits.items()},
            labels=labels,
            classes=classes,
            missing=missing,
        )
    behavior = settings.behavior or name
    values = _values(session, behavior, frame.times)
    if values is None:
        there, missing = np.zeros(len(frame.times), np.bool_), f"it has no behavior {behavior!r}"
    else:
        there = np.isfinite(values).all(1)
    weights = np.where(there, frame.weights, np.float32(0))
    return ReadoutSamples(
        weights=weights,
        trained=(weights > 0) & frame.train,
        scored={split: there & mask for split, mask in frame.scored.items()},
        values=values,
        missing=missing,
    )


def _values(session: Session, name: str, times: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A behavior (m, d) at `times` (m,): interpolated, NaN in its gaps; None if there is none."""
    if name not in session.behavior:
        return None
    series = session.slice(*session.span).behavior[name]
    stamps = np.asarray(series.timestamps, dtype=np.float64)
    values = np.asarray(series.values, dtype=np.float64)
    if len(stamps) < 2:
        return np.full((len(times), values.shape[1]), np.nan)
    found = np.stack([np.interp(times, stamps, axis, np.nan, np.nan) for axis in values.T], axis=1)
    after = np.searchsorted(stamps, times).clip(1, len(stamps) - 1)
    far = stamps[after] - stamps[after - 1] > NEAR * np.median(np.diff(stamps))
    exact = (stamps[after] == times) | (stamps[after - 1] == times)
    found[far & ~exact] = np.nan
    return found


def _labels(
    session: Session, settings: ReadoutSettings, times: NDArray[np.float64]
) -> tuple[NDArray[np.int64], tuple[Scalar, ...]]:
    """The class (m,) at `times` (m,), and what the classes are.

    Raises HarmonizeError when the session lacks the table or one of its columns that are asked for.
    """
    rule, column = settings.during, settings.column
    assert rule is not None
    assert column is not None

    def having(*values: Scalar) -> Intervals:
        where = {**rule.where, column: list(values)}
        return rule.model_copy(update={"where": where}).intervals(session.intervals)

    having()  # raises also where no row has a value
    wanted = rule.where.get(column)
    classes = _sorted(
        value
        for value in session.intervals[rule.table][column].to_pylist()
        if _is_class(value) and (wanted is None or value in wanted)
    )
    if len(classes) > MOST_CLASSES:
        raise RecipeError(
            f"column {column!r} of {rule.table!r} has {len(classes)} values in {session.id}, more "
            f"than the {MOST_CLASSES} that a readout tells apart"
        )
    labels = np.full(len(times), NO_CLASS)
    for number, value in enumerate(classes):
        labels[having(value).contains(times)] = number
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
    """The samples of all sessions, from those of each. A readout without axes is a discrete one;
    its classes are those of `inherited`, else those that training sees.

    Raises RecipeError when there is nothing to train on.
    """
    settled = inherited.readouts.get(readout.name)
    if settled is None and not any(part.trained.any() for part in parts):
        why = next((f": {part.missing}" for part in parts if part.missing), "")
        raise RecipeError(
            f"data.readouts.{readout.name}: no session has a sample of it in its train split{why}"
        )
    weights = [part.weights for part in parts]
    mean = std = np.zeros((len(parts), 0))
    if readout.axes:
        values = [_or_nan(part, readout.width) for part in parts]
        pools = [x[part.trained] for x, part in zip(values, parts, strict=True)]
        mean, std = moments(pools, by_session, inherited.behaviors.get(readout.name))
        value = flat([zscores(x, *row) for x, *row in zip(values, mean, std, strict=True)], device)
    else:
        classes = settled.classes if settled else _seen(parts)
        readout = readout.model_copy(update={"classes": classes})
        labels = [_renumbered(part, readout.classes) for part in parts]
        weights = [own * (label != NO_CLASS) for own, label in zip(weights, labels, strict=True)]
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
    return np.full((len(part.weights), d), np.nan) if part.values is None else part.values


def _seen(parts: Sequence[ReadoutSamples]) -> tuple[Scalar, ...]:
    """The classes of all samples that are trained on."""
    return _sorted(
        part.classes[label]
        for part in parts
        if part.labels is not None
        for label in np.unique(part.labels[part.trained])
    )


def _renumbered(part: ReadoutSamples, classes: tuple[Scalar, ...]) -> NDArray[np.int64]:
    """Its labels (m,) as rows of `classes`; NONE for one that training has not seen."""
    if part.labels is None:
        return np.full(len(part.weights), NO_CLASS)
    number = {value: row for row, value in enumerate(classes)}
    table = np.array([*(number.get(value, NO_CLASS) for value in part.classes), NO_CLASS])
    return table[part.labels]
