"""Targets: the behavior samples of all sessions, for training and evaluation.

Splits, weights and normalization are computed here on each session's own clock, before anything
becomes a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import (
    BehaviorInfo,
    HarmonizeError,
    IntervalRule,
    Intervals,
    RecipeError,
    Session,
    SplitSpec,
    matching,
    split,
)
from neurobrick_model.data import readouts
from neurobrick_model.data.normalization import check_varies, far_samples, moments, zscores
from neurobrick_model.data.readouts import Inherited, Readout, ReadoutSamples, ReadoutTargets
from neurobrick_model.data.sampling import decimation, derivative
from neurobrick_model.data.scored_parts import Part, ScoringRequest
from neurobrick_model.data.timeline import flat, ticks, true_rows
from neurobrick_model.recipe.settings import DataSettings, Weights

SPLITS = ("train", "valid", "test")
NOTHING_SCORED = ScoringRequest()


@dataclass(frozen=True)
class Targets:
    """The m behavior samples of all sessions, sorted by time, with d axes each."""

    time: Tensor  # (m,) int64, corpus ticks
    value: Tensor  # (m, d) float32, z-scored; 0 where the source has NaN
    weight: Tensor  # (m,) float32, in the loss; 0 where the source has NaN
    session: Tensor  # (m,) int32, vocabulary row
    train: Tensor  # (m,) bool, in the train split with a weight above 0
    scored: Mapping[str, Tensor]  # by split, (k,) int64 rows that evaluation scores
    parts: Mapping[Part, Tensor]  # (k,) int64 rows of each part that a report scores
    mean: Tensor  # (sessions, d) float64, SI
    std: Tensor  # (sessions, d) float64, SI
    readouts: tuple[ReadoutTargets, ...] = ()  # decoded at the same samples, beside the target

    @cached_property
    def reported(self) -> Tensor:
        """The rows (k,) of all parts together: those that are decoded for a report."""
        return torch.unique(torch.cat(list(self.parts.values())))

    def restore(self, value: Tensor, session: int) -> Tensor:
        """z-scored values (n, d) of one session back in SI, float64."""
        return value.double() * self.std[session] + self.mean[session]


@dataclass(frozen=True)
class SessionSamples:
    """The m samples of one session, on its own clock, with d axes each."""

    times: NDArray[np.float64]  # (m,) s
    values: NDArray[np.float64]  # (m, d) SI
    weights: NDArray[np.float32]  # (m,) in the loss
    train: Intervals  # the training split
    trained: NDArray[np.bool_]  # (m,) in the training split with a weight above 0
    scored: Mapping[str, NDArray[np.bool_]]  # (m,) by split
    parts: Mapping[Part, NDArray[np.bool_]]  # (m,)
    readouts: Mapping[str, ReadoutSamples]  # by name
    warning: str | None = None  # about values that are absurdly far from the others

    def labelled(self, train: Intervals, valid: Intervals) -> SessionSamples:
        """The same samples, trained on inside `train` only and validated inside `valid` only."""
        in_train, in_valid = train.contains(self.times), valid.contains(self.times)
        return replace(
            self,
            train=self.train & train,
            trained=self.trained & in_train,
            scored=_within(self.scored, in_valid),
            readouts={
                name: replace(
                    samples,
                    trained=samples.trained & in_train,
                    scored=_within(samples.scored, in_valid),
                )
                for name, samples in self.readouts.items()
            },
        )

    @property
    def missing(self) -> dict[str, str]:
        """By setting, why the session has no samples of a readout."""
        return {
            f"data.readouts.{name}": samples.missing
            for name, samples in self.readouts.items()
            if samples.missing
        }

    def useful(self) -> Intervals:
        """The training intervals that hold a sample with a weight: the others teach nothing."""
        start, stop = self.train.start, self.train.stop
        times = self.times[self.trained]
        useful = np.searchsorted(times, stop) > np.searchsorted(times, start)
        return Intervals(start[useful], stop[useful])


def _within(
    scored: Mapping[str, NDArray[np.bool_]], valid: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    return {**scored, "valid": scored["valid"] & valid}


def read_samples(
    session: Session, target: str, settings: DataSettings, request: ScoringRequest = NOTHING_SCORED
) -> SessionSamples:
    """The samples of `target`, decimated to the recipe's rate; velocities where it wants these.

    Raises RecipeError when no sample of the train split has a weight, when these samples do not
    vary, and when weights or splits need a table or column that the session lacks.
    """
    series = session.slice(*session.span).behavior[target]
    stride = decimation(series.timestamps, settings.target_rate)
    times = np.asarray(series.timestamps[::stride], dtype=np.float64)
    values = np.asarray(series.values[::stride], dtype=np.float64)
    recorded = values
    if settings.velocity and session.behavior[target].unit == "m":
        values = derivative(times, values)
    splits = _splits(settings.splits, session)
    finite = np.isfinite(values).all(1)
    weights = np.where(finite, _weights(settings.weights, session, times), 0)
    trained = (weights > 0) & splits["train"].contains(times)
    if not trained.any():
        raise RecipeError(
            f"{session.id} has no sample of {target!r} with any weight in its train split"
        )
    about = (session.id, target, unit_of(session.behavior[target], settings))
    check_varies(values[trained], *about)
    # The velocity of a position that does not vary is not 0, because of rounding.
    position = recorded[trained & np.isfinite(recorded).all(1)]
    if len(position):
        check_varies(position, session.id, target, session.behavior[target].unit)
    divided = {name: splits.get(name, Intervals()) for name in SPLITS}
    inside = {name: spans.contains(times) for name, spans in divided.items()}
    scored = {
        name: finite & (spans & session.evaluation).contains(times)
        for name, spans in divided.items()
    }
    samples = readouts.TargetSamples(times, weights, inside["train"], inside, scored)
    return SessionSamples(
        times=times,
        values=values,
        weights=weights,
        train=splits["train"] & session.domain,
        trained=trained,
        scored=scored,
        parts={
            Part(name, during): finite & (divided[name] & spans).contains(times)
            for name in request.splits
            for during, spans in request.during.items()
        },
        readouts={
            name: readouts.read(session, name, readout, samples)
            for name, readout in settings.readouts.items()
        },
        warning=far_samples(values[finite], *about),
    )


def gather(
    parts: Sequence[SessionSamples],
    base: NDArray[np.int64],
    by_session: bool,
    device: torch.device,
    others: Mapping[str, tuple[Readout, float]],
    inherited: Inherited,
) -> Targets:
    """The samples of all sessions, normalized.

    `parts` are the samples of each session. `base` (sessions,) is added to each session's ticks.
    Sessions are normalized each `by_session`, or all together, or as `inherited`. `others` are the
    further readouts by name, each with the weight of its loss.
    """
    pools = [part.values[part.trained] for part in parts]
    mean, std = moments(pools, by_session, inherited.target)
    values = [zscores(part.values, *row) for part, *row in zip(parts, mean, std, strict=True)]
    session = [np.full(len(part.times), row, dtype=np.int32) for row, part in enumerate(parts)]
    return Targets(
        time=flat([ticks(p.times) + shift for p, shift in zip(parts, base, strict=True)], device),
        value=flat(values, device),
        weight=flat([part.weights for part in parts], device, np.float32),
        session=flat(session, device),
        train=flat([part.trained for part in parts], device),
        scored={name: true_rows([part.scored[name] for part in parts], device) for name in SPLITS},
        parts={
            name: true_rows([part.parts[name] for part in parts], device) for name in parts[0].parts
        },
        mean=torch.from_numpy(mean).to(device),
        std=torch.from_numpy(std).to(device),
        readouts=tuple(
            readouts.gather(readout, share, [part.readouts[name] for part in parts], by_session,
                            device, inherited)
            for name, (readout, share) in others.items()
        ),
    )  # fmt: skip


def axes(info: BehaviorInfo) -> tuple[str, ...]:
    """Names of a behavior's columns: its own, or x, y, z, or numbers where there are more."""
    d = info.shape[1]
    names = "xyz" if d <= 3 else [str(axis) for axis in range(d)]
    return tuple(info.columns) or tuple(names[:d])


def unit_of(info: BehaviorInfo, settings: DataSettings) -> str:
    """The SI unit of a behavior as it is decoded: m/s where a position becomes a velocity."""
    return "m/s" if settings.velocity and info.unit == "m" else info.unit


def _splits(settings: SplitSpec | None, session: Session) -> Mapping[str, Intervals]:
    """The session's splits, or those of the recipe. Raises RecipeError where these do not fit."""
    if settings is None:
        return session.splits
    try:
        return split(settings, session.id, session.domain, session.intervals)
    except HarmonizeError as error:
        raise RecipeError(
            f"data.splits: {session.id} cannot be divided so: {error}; change them, or leave the "
            "session out"
        ) from error


def _weights(
    settings: Weights, session: Session, times: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The weight (m,) in the loss of the samples at `times` (m,). Raises RecipeError for a rule
    that the session's tables do not fit."""
    weights = np.full(len(times), settings.elsewhere, dtype=np.float32)
    for number, rule in enumerate(settings.rules):
        if not matching([session.id], rule.sessions, may_be_none=True):
            continue
        inside = session.evaluation
        if isinstance(rule.during, IntervalRule):
            try:
                inside = rule.during.intervals(session.intervals)
            except HarmonizeError as error:
                raise RecipeError(
                    f"data.weights.rules.{number}: it cannot be followed in {session.id}: {error}; "
                    "list under its sessions those that it is for"
                ) from error
        weights[inside.contains(times)] = rule.weight
    return weights
