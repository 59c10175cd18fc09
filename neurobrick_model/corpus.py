"""The corpus: every session's spikes and target samples as flat tensors on one device.

Splits, weights and normalization are settled here, on each session's own clock, before anything
becomes a tensor; training cuts its windows out of what is left by arithmetic on the device.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import BehaviorInfo, Dataset, IntervalRule, Intervals, RecipeError, Session, split
from neurobrick_model.recipe import DataSettings, Weights
from neurobrick_model.timeline import Spans, Spikes, Vocabulary, flat

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Targets:
    """Samples of the behavior to decode, over all sessions: `time` (m,) float64 corpus seconds,
    sorted; `value` (m, d) float32, z-scored, 0 where the source has NaN; `weight` (m,) float32 in
    the loss, 0 there too; `session` (m,) int64; `train` (m,) bool, in the train split with some
    weight; `scored`, for each split the rows (k,) int64 that evaluation looks at; `mean` and
    `std` (sessions, d) float64 in SI."""

    time: Tensor
    value: Tensor
    weight: Tensor
    session: Tensor
    train: Tensor
    scored: Mapping[str, Tensor]
    mean: Tensor
    std: Tensor

    def restore(self, value: Tensor, session: int) -> Tensor:
        """z-scored values (n, d) of one session back in SI, float64."""
        return value.double() * self.std[session] + self.mean[session]


@dataclass(frozen=True)
class Corpus:
    """Sessions ready for training: vocabulary, spikes, targets, and where windows may lie."""

    vocabulary: Vocabulary
    target: str
    unit: str  # SI unit of the target
    axes: tuple[str, ...]  # names of its columns
    rate: float  # Hz of the fastest session's samples, after decimation
    spikes: Spikes
    targets: Targets
    train: Spans

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, settings: DataSettings, device: torch.device | str = "cpu"
    ) -> Corpus:
        """Read every session that `settings.sessions` selects.

        Raises RecipeError when there is none, when one lacks the target or has no units, when the
        targets differ in unit or number of axes, or when there is nothing to train on.
        """
        device = torch.device(device)
        ids = select_sessions(dataset, settings.sessions)
        sessions = [dataset[id] for id in ids]
        target = _agreed_target(sessions, settings.target)
        for session in sessions:
            _check_session(session, target, sessions[0])
        parts = [_read(session, target, settings) for session in sessions]
        vocabulary = Vocabulary(tuple(ids), tuple(session.n_units for session in sessions))
        spikes = Spikes.gather(
            [(row, p.spike_times, p.spike_units, p.domain) for row, p in enumerate(parts)],
            vocabulary,
            device,
        )
        base = spikes.base.cpu().numpy()
        targets = _targets(parts, base, settings.normalize == "session", device)
        return cls(
            vocabulary=vocabulary,
            target=target,
            unit=sessions[0].behavior[target].unit,
            axes=_axes(sessions[0].behavior[target]),
            rate=max(sampling_rate(part.times) for part in parts),
            spikes=spikes,
            targets=targets,
            train=_training_spans(parts, base, device),
        )


def select_sessions(dataset: Dataset, globs: Sequence[str]) -> list[str]:
    """The session ids that match any of `globs`, in the dataset's order.

    Raises RecipeError for a glob that matches nothing.
    """
    for glob in globs:
        if not fnmatch.filter(dataset.sessions, glob):
            there = ", ".join(dataset.sessions[:5]) or "none"
            raise RecipeError(f"no session matches {glob!r}; the store has: {there}")
    return [id for id in dataset.sessions if any(fnmatch.fnmatch(id, glob) for glob in globs)]


@dataclass(frozen=True)
class _Part:
    """What is read of one session, on its own clock. Spikes (n,), samples (m,) of d axes."""

    spike_times: NDArray[np.float64]
    spike_units: NDArray[np.integer]
    domain: Intervals
    train: Intervals
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float32]
    trained: NDArray[np.bool_]  # samples inside the train split that have any weight
    scored: Mapping[str, NDArray[np.bool_]]

    def normalized(
        self, mean: NDArray[np.float64], std: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """z-scores, 0 where the source has NaN."""
        return np.nan_to_num((self.values - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)


def _agreed_target(sessions: Sequence[Session], wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    named = {session.target for session in sessions}
    target = named.pop()
    if named or target is None:
        raise RecipeError(
            "the sessions do not agree on a behavior to decode "
            f"({', '.join(sorted(str(name) for name in {target, *named}))}); set data.target"
        )
    return target


def _axes(info: BehaviorInfo) -> tuple[str, ...]:
    """Names of the columns: the series' own, or x, y, z, or numbers where there are more."""
    d = info.shape[1]
    names = "xyz" if d <= 3 else [str(axis) for axis in range(d)]
    return tuple(info.columns) or tuple(names[:d])


def _check_session(session: Session, target: str, first: Session) -> None:
    if target not in session.behavior:
        there = ", ".join(session.behavior) or "none"
        raise RecipeError(f"{session.id} has no behavior {target!r}; there is: {there}")
    if not session.n_units:
        raise RecipeError(f"{session.id} has no units to decode from; leave it out of the recipe")
    mine, theirs = session.behavior[target], first.behavior[target]
    if (mine.unit, mine.shape[1:]) != (theirs.unit, theirs.shape[1:]):
        raise RecipeError(
            f"{target!r} has {mine.shape[1]} axes in {mine.unit} in {session.id}, but "
            f"{theirs.shape[1]} in {theirs.unit} in {first.id}; train them apart"
        )


def _read(session: Session, target: str, settings: DataSettings) -> _Part:
    whole = session.slice(*session.span)
    series = whole.behavior[target]
    stride = decimation(series.timestamps, settings.target_rate)
    times = np.asarray(series.timestamps[::stride], dtype=np.float64)
    values = np.asarray(series.values[::stride], dtype=np.float64)
    splits = session.splits
    if settings.splits is not None:
        splits = split(settings.splits, session.id, session.domain, session.intervals)
    finite = np.isfinite(values).all(1)
    weights = np.where(finite, _weights(settings.weights, session, times), 0)
    trained = (weights > 0) & splits["train"].contains(times)
    if not trained.any():
        raise RecipeError(
            f"{session.id} has no sample of {target!r} with any weight in its train split"
        )
    return _Part(
        spike_times=whole.spikes.times,
        spike_units=whole.spikes.units,
        domain=session.domain,
        train=splits["train"] & session.domain,
        times=times,
        values=values,
        weights=weights,
        trained=trained,
        scored={
            name: finite & (splits[name] & session.evaluation).contains(times) for name in SPLITS
        },
    )


def sampling_rate(times: NDArray[np.float64]) -> float:
    """Samples a second, from the median interval, which gaps do not move, and to six digits, as
    timestamps are rounded; 0 for a lone sample."""
    return float(f"{1 / np.median(np.diff(times)):.6g}") if len(times) > 1 else 0.0


def decimation(times: NDArray[np.float64], rate: float) -> int:
    """Every how many samples to keep so that there are at most `rate` a second."""
    return max(1, int(np.ceil(sampling_rate(times) / rate - 1e-3)))  # clocks are not exact


def _weights(
    settings: Weights, session: Session, times: NDArray[np.float64]
) -> NDArray[np.float32]:
    weights = np.full(len(times), settings.elsewhere, dtype=np.float32)
    for rule in settings.rules:
        if isinstance(rule.during, IntervalRule):
            inside = rule.during.intervals(session.intervals)
        else:
            inside = session.evaluation
        weights[inside.contains(times)] = rule.weight
    return weights


def _targets(
    parts: Sequence[_Part], base: NDArray[np.float64], by_session: bool, device: torch.device
) -> Targets:
    pools = [part.values[part.trained] for part in parts]
    if not by_session:
        pools = [np.concatenate(pools)] * len(parts)
    mean = np.stack([pool.mean(0) for pool in pools])
    std = np.stack([pool.std(0) for pool in pools])
    std[std == 0] = 1  # an axis that never moves stays at 0
    values = [part.normalized(*row) for part, *row in zip(parts, mean, std, strict=True)]
    scored = {
        name: np.flatnonzero(np.concatenate([part.scored[name] for part in parts]))
        for name in SPLITS
    }
    return Targets(
        time=flat([part.times + shift for part, shift in zip(parts, base, strict=True)], device),
        value=flat(values, device, np.float32),
        weight=flat([part.weights for part in parts], device, np.float32),
        session=flat([np.full(len(p.times), row) for row, p in enumerate(parts)], device),
        train=flat([part.trained for part in parts], device),
        scored={name: torch.from_numpy(rows).to(device) for name, rows in scored.items()},
        mean=torch.from_numpy(mean).to(device),
        std=torch.from_numpy(std).to(device),
    )


def _training_spans(
    parts: Sequence[_Part], base: NDArray[np.float64], device: torch.device
) -> Spans:
    """The train intervals that hold a sample with any weight: others teach nothing."""
    spans = []
    for row, part in enumerate(parts):
        useful = part.times[part.trained]
        start, stop = part.train.start, part.train.stop
        held = np.searchsorted(useful, stop) > np.searchsorted(useful, start)
        spans.append((row, start[held] + base[row], stop[held] + base[row]))
    return Spans.gather(spans, device)
