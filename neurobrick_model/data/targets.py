"""Targets: the behavior samples of every session that training and evaluation look at.

Splits, weights and normalization are settled here, on each session's own clock, before anything
becomes a tensor.
"""

from __future__ import annotations

import fnmatch
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
    split,
)
from neurobrick_model.data import readouts
from neurobrick_model.data.normalization import moments, zscores
from neurobrick_model.data.readouts import Inherited, Readout, ReadoutSamples, ReadoutTargets
from neurobrick_model.data.scored_parts import Part, ScoringRequest
from neurobrick_model.data.timeline import flat, ticks, true_rows
from neurobrick_model.recipe.settings import DataSettings, Weights

SPLITS = ("train", "valid", "test")
NOTHING = ScoringRequest()
GAP = 1.5  # sample intervals without a sample that a derivative does not reach across


@dataclass(frozen=True)
class Targets:
    """Samples of the behavior to decode, over all sessions: `time` (m,) int64 corpus ticks, sorted;
    `value` (m, d) float32, z-scored, 0 where the source has NaN; `weight` (m,) float32 in the loss,
    0 there too; `session` (m,) int32; `train` (m,) bool, in the train split with some weight;
    `scored`, for each split the rows (k,) int64 that evaluation looks at; `parts`, the rows of each
    part that a report scores; `mean` and `std` (sessions, d) float64 in SI; `readouts`, what else
    is decoded at the same samples."""

    time: Tensor
    value: Tensor
    weight: Tensor
    session: Tensor
    train: Tensor
    scored: Mapping[str, Tensor]
    parts: Mapping[Part, Tensor]
    mean: Tensor
    std: Tensor
    readouts: tuple[ReadoutTargets, ...] = ()

    @cached_property
    def reported(self) -> Tensor:
        """The rows (k,) of all parts together: what is decoded for a report."""
        return torch.unique(torch.cat(list(self.parts.values())))

    def restore(self, value: Tensor, session: int) -> Tensor:
        """z-scored values (n, d) of one session back in SI, float64."""
        return value.double() * self.std[session] + self.mean[session]


@dataclass(frozen=True)
class SessionSamples:
    """The samples (m,) of d axes of one session, on its own clock; `train`, its training split;
    `trained`, those samples inside it that have any weight; `readouts`, by name."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float32]
    train: Intervals
    trained: NDArray[np.bool_]
    scored: Mapping[str, NDArray[np.bool_]]
    parts: Mapping[Part, NDArray[np.bool_]]
    readouts: Mapping[str, ReadoutSamples]

    def labelled(self, train: Intervals, valid: Intervals) -> SessionSamples:
        """The same, trained on inside `train` only and validated inside `valid` only."""
        taught, held = train.contains(self.times), valid.contains(self.times)
        return replace(
            self,
            train=self.train & train,
            trained=self.trained & taught,
            scored=_within(self.scored, held),
            readouts={
                name: replace(own, trained=own.trained & taught, scored=_within(own.scored, held))
                for name, own in self.readouts.items()
            },
        )

    @property
    def missing(self) -> dict[str, str]:
        """Why it lacks what it lacks, by the setting that asks for that."""
        return {
            f"data.readouts.{name}": own.missing
            for name, own in self.readouts.items()
            if own.missing
        }

    def useful(self) -> Intervals:
        """The training intervals that hold a sample with any weight: others teach nothing."""
        start, stop = self.train.start, self.train.stop
        times = self.times[self.trained]
        held = np.searchsorted(times, stop) > np.searchsorted(times, start)
        return Intervals(start[held], stop[held])


def _within(
    scored: Mapping[str, NDArray[np.bool_]], valid: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    return {**scored, "valid": scored["valid"] & valid}


def read_samples(
    session: Session, target: str, settings: DataSettings, asked: ScoringRequest = NOTHING
) -> SessionSamples:
    """The samples of `target`, thinned out to the wanted rate, as velocities where asked.

    Raises RecipeError when none of them has any weight in the train split, and when weights or
    splits ask for a table or column that the session lacks.
    """
    series = session.slice(*session.span).behavior[target]
    stride = decimation(series.timestamps, settings.target_rate)
    times = np.asarray(series.timestamps[::stride], dtype=np.float64)
    values = np.asarray(series.values[::stride], dtype=np.float64)
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
    divided = {name: splits.get(name, Intervals()) for name in SPLITS}
    inside = {name: spans.contains(times) for name, spans in divided.items()}
    scored = {
        name: finite & (spans & session.evaluation).contains(times)
        for name, spans in divided.items()
    }
    frame = readouts.TargetSamples(times, weights, inside["train"], inside, scored)
    return SessionSamples(
        times=times,
        values=values,
        weights=weights,
        train=splits["train"] & session.domain,
        trained=trained,
        scored=scored,
        parts={
            Part(name, during): finite & (divided[name] & spans).contains(times)
            for name in asked.splits
            for during, spans in asked.during.items()
        },
        readouts={
            name: readouts.read(session, name, own, frame)
            for name, own in settings.readouts.items()
        },
    )


def gather(
    parts: Sequence[SessionSamples],
    base: NDArray[np.int64],
    by_session: bool,
    device: torch.device,
    others: Mapping[str, tuple[Readout, float]],
    inherited: Inherited,
) -> Targets:
    """The samples of all sessions, normalized together or each on its own, but for what `inherited`
    settle; `base` (sessions,) is what corpus time adds to the ticks of each, `others` describes
    further readouts and says what their losses count."""
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
    """Names of the columns: the series' own, or x, y, z, or numbers where there are more."""
    d = info.shape[1]
    names = "xyz" if d <= 3 else [str(axis) for axis in range(d)]
    return tuple(info.columns) or tuple(names[:d])


def unit_of(info: BehaviorInfo, settings: DataSettings) -> str:
    """The SI unit of what is decoded."""
    return "m/s" if settings.velocity and info.unit == "m" else info.unit


def sampling_rate(times: NDArray[np.float64]) -> float:
    """Samples a second, from the median interval, which gaps do not move, and to six digits, as
    timestamps are rounded; 0 for a lone sample."""
    return float(f"{1 / np.median(np.diff(times)):.6g}") if len(times) > 1 else 0.0


def decimation(times: NDArray[np.float64], rate: float) -> int:
    """Every how many samples to keep so that there are at most `rate` a second."""
    return max(1, int(np.ceil(sampling_rate(times) / rate - 1e-3)))  # clocks are not exact


def derivative(times: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The change a second of `values` (m, d): central differences, one-sided at the edges of a
    stretch without gaps, and NaN for a sample alone in its stretch."""
    rate = sampling_rate(times)
    edges = np.flatnonzero(np.diff(times) * rate > GAP) + 1
    change = np.full_like(values, np.nan)
    for own in np.split(np.arange(len(times)), edges):
        if len(own) > 1:
            change[own] = np.gradient(values[own], times[own], axis=0)
    return change


def _splits(settings: SplitSpec | None, session: Session) -> Mapping[str, Intervals]:
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
    weights = np.full(len(times), settings.elsewhere, dtype=np.float32)
    for number, rule in enumerate(settings.rules):
        if not any(fnmatch.fnmatch(session.id, glob) for glob in rule.sessions):
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
