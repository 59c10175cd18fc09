"""The corpus: every session's spikes and target samples as flat tensors, from which training cuts
its windows by arithmetic on the device.
"""

from __future__ import annotations

import fnmatch
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Dataset, RecipeError, Session
from neurobrick_model.data import placement, targets
from neurobrick_model.data.label_budget import choose
from neurobrick_model.data.readouts import NO_TERMS, Readout, Terms
from neurobrick_model.data.scored_parts import read_asked, say_missing
from neurobrick_model.data.targets import (
    Samples,
    Targets,
    axes,
    read_samples,
    sampling_rate,
    unit_of,
)
from neurobrick_model.data.timeline import TICKS, Spans, Spikes, SpikeStore, Vocabulary, ticks
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings, ReadoutSettings
from neurobrick_model.report.embedding_maps import Origin

Say = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """Sessions ready for training: vocabulary, spikes, targets, and where windows may lie.

    Spikes may lie on another device than the rest: in the host's memory, where they are too many.
    """

    vocabulary: Vocabulary
    target: str
    unit: str  # SI unit of the target
    axes: tuple[str, ...]  # names of its columns
    rate: float  # Hz of the fastest session's samples, after decimation
    spikes: Spikes
    targets: Targets
    train: Spans
    origins: tuple[Origin, ...]  # of each session
    trials: tuple[NDArray[np.float64], ...]  # (k, 2) s of each session, on its own clock

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        settings: DataSettings,
        device: torch.device | str = "cpu",
        say: Say = lambda line: None,
        seed: int = 0,
        terms: Terms = NO_TERMS,
        evaluation: EvaluationSettings | None = None,
    ) -> Corpus:
        """Read every session that `settings.sessions` selects, with what `evaluation` scores of it;
        `say` is told what goes where, and what is missing. Where only some labels are wanted,
        `seed` chooses them. What is to be decoded is told in `terms`, where they are given, and
        otherwise in those of the sessions.

        Raises RecipeError when there is none, when one lacks the target or has no units, when the
        targets differ in unit or number of axes from each other or from `terms`, when there is
        nothing to train on, or when there is not enough memory, which is estimated before any of it
        is taken.
        """
        device = torch.device(device)
        ids = select_sessions(dataset, settings.sessions)
        sessions = [dataset[id] for id in ids]
        names = [_target(session, settings.target) for session in sessions]
        _check_alike(sessions, names, settings, terms)
        home = _home(sessions, names, settings, device, say)
        asked = [read_asked(session, evaluation or EvaluationSettings()) for session in sessions]
        say_missing(ids, [one.missing for one in asked], say)
        store = SpikeStore(len(sessions), sum(session.n_spikes for session in sessions))
        parts = []
        for row, (session, name) in enumerate(zip(sessions, names, strict=True)):
            spikes = session.slice(*session.span).spikes
            store.add(row, spikes.times, spikes.units, session.domain)
            samples = read_samples(session, name, settings, asked[row])
            parts.append(_labelled(samples, settings, seed, session))
        say_missing(ids, [part.missing for part in parts], say)
        others = {
            name: (_readout(sessions, name, own, terms), own.weight)
            for name, own in settings.readouts.items()
        }
        by_session = settings.normalize == "session"
        gathered = targets.gather(parts, store.base, by_session, device, others, terms)
        return cls(
            vocabulary=Vocabulary(tuple(ids), tuple(session.n_units for session in sessions)),
            target=" or ".join(dict.fromkeys(names)),
            unit=unit_of(sessions[0].behavior[names[0]], settings),
            axes=axes(sessions[0].behavior[names[0]]),
            rate=max(sampling_rate(part.times) for part in parts),
            spikes=store.finish(home),
            targets=gathered,
            train=_training_spans(parts, store, device),
            origins=tuple(map(Origin.of, sessions)),
            trials=tuple(one.trials for one in asked),
        )

    @property
    def device(self) -> torch.device:
        """Where windows are put together."""
        return self.targets.time.device

    @property
    def columns(self) -> int:
        """Columns of a decoder's output: the target's axes, then those of each further readout."""
        return len(self.axes) + sum(one.readout.width for one in self.targets.readouts)

    @property
    def label_seconds(self) -> tuple[float, ...]:
        """Seconds of labelled behavior that each session trains on."""
        targets = self.targets
        seconds = []
        for row in range(len(self.vocabulary.sessions)):
            mine = targets.session == row
            rate = sampling_rate(targets.time[mine].cpu().numpy() / TICKS)
            seconds.append(int(targets.train[mine].sum()) / rate if rate else 0.0)
        return tuple(seconds)

    def fingerprint(self) -> str:
        """A checksum of all that training sees: ids, units, spikes, samples, weights, splits."""
        names = json.dumps([self.vocabulary.sessions, self.vocabulary.units, self.unit])
        parts = (
            *(self.spikes.tick, self.spikes.unit, self.spikes.before),
            *(self.targets.time, self.targets.value, self.targets.weight),
            *(self.train.start, self.train.stop, self.targets.scored["valid"]),
            *(tensor for one in self.targets.readouts for tensor in (one.value, one.weight)),
        )
        sums = [zlib.crc32(names.encode()), *(_checksum(part) for part in parts)]
        return "".join(f"{value:08x}" for value in sums)


def select_sessions(dataset: Dataset, globs: Sequence[str]) -> list[str]:
    """The session ids that match any of `globs`, in the dataset's order.

    Raises RecipeError for a glob that matches nothing.
    """
    for glob in globs:
        if not fnmatch.filter(dataset.sessions, glob):
            there = ", ".join(dataset.sessions[:5]) or "none"
            raise RecipeError(f"no session matches {glob!r}; the store has: {there}")
    return [id for id in dataset.sessions if any(fnmatch.fnmatch(id, glob) for glob in globs)]


def _checksum(x: Tensor) -> int:
    return zlib.crc32(x.cpu().contiguous().numpy().reshape(-1).view("uint8").data)


def _target(session: Session, wanted: str | None) -> str:
    """The behavior to decode: the recipe's, or the one that the session itself names."""
    target = wanted or session.target
    if target is None:
        raise RecipeError(
            f"{session.id} names no behavior to decode; set data.target to one of: "
            f"{', '.join(session.behavior) or 'none'}"
        )
    if target not in session.behavior:
        there = ", ".join(session.behavior) or "none"
        raise RecipeError(f"{session.id} has no behavior {target!r}; there is: {there}")
    return target


def _readout(
    sessions: Sequence[Session], name: str, settings: ReadoutSettings, terms: Terms
) -> Readout:
    """A further readout, of a behavior's unit and axes, as `terms` have it where no session does; a
    discrete one finds its classes later.

    Raises RecipeError when no session has it, or when it is another thing in one of them than in
    the others or in `terms`.
    """
    if settings.column is not None:
        return Readout(name=name)
    behavior = settings.behavior or name
    found = {
        Readout(name=name, unit=info.unit, axes=axes(info)): session.id
        for session in sessions
        if (info := session.behavior.get(behavior)) is not None
    }
    if not found and name in terms.readouts:
        return terms.readouts[name]
    if not found:
        there = ", ".join(sessions[0].behavior) or "none"
        raise RecipeError(
            f"data.readouts.{name}: no session has a behavior {behavior!r}; {sessions[0].id} has: "
            f"{there}; for a column of an interval table, set column and during"
        )
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {one.width} axes in {one.unit} in {first}, and "
            f"{other.width} axes in {other.unit} in {second}; train them apart"
        )
    readout, id = next(iter(found.items()))
    settled = terms.readouts.get(name, readout)
    if settled.axes and (settled.width, settled.unit) != (readout.width, readout.unit):
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {readout.width} axes in {readout.unit} in "
            f"{id}, but {settled.width} in {settled.unit} in the decoder that is adapted; set its "
            "behavior to one that is alike, or leave that session out"
        )
    return readout


def _check_alike(
    sessions: Sequence[Session], names: Sequence[str], settings: DataSettings, terms: Terms
) -> None:
    first, name = sessions[0].behavior[names[0]], names[0]
    unit = unit_of(first, settings)
    for session, target in zip(sessions, names, strict=True):
        if not session.n_units:
            raise RecipeError(f"{session.id} has no units to decode from; leave it out")
        mine = session.behavior[target]
        if (unit_of(mine, settings), mine.shape[1:]) != (unit, first.shape[1:]):
            raise RecipeError(
                f"{target!r} has {mine.shape[1]} axes in {mine.unit} in {session.id}, but {name!r} "
                f"{first.shape[1]} in {first.unit} in {sessions[0].id}; train them apart, or set "
                "data.velocity if one is a position and the other a velocity"
            )
    if terms.target is not None and len(terms.target[0]) != first.shape[1]:
        raise RecipeError(
            f"{name!r} has {first.shape[1]} axes in {sessions[0].id}, but the decoder that is "
            f"adapted tells {len(terms.target[0])}: set data.target to a behavior that has as many"
        )


def _home(
    sessions: Sequence[Session],
    names: Sequence[str],
    settings: DataSettings,
    device: torch.device,
    say: Say,
) -> torch.device:
    """Where the spikes go, by an estimate of what they take."""
    spikes = placement.spike_bytes(sessions)
    others = placement.target_bytes(sessions, names, settings.readouts)
    free = placement.free_bytes(device)
    home = placement.place(
        settings.place, spikes, others, device, free, placement.free_bytes(torch.device("cpu"))
    )
    seconds = sum(last - first for first, last in (session.span for session in sessions))
    say(
        f"corpus: {len(sessions)} sessions, {seconds / 3600:.1f} h, "
        f"{sum(session.n_spikes for session in sessions):,} spikes, "
        f"about {placement.gigabytes(spikes + others)} of {placement.gigabytes(free)} free "
        f"on {device}"
    )
    if home != device:
        say("its spikes stay in main memory; each batch is sent while the one before is trained on")
    return home


def _labelled(part: Samples, settings: DataSettings, seed: int, session: Session) -> Samples:
    """`part` with as many labels as are wanted, to train on and to validate with."""
    if settings.labels is None:
        return part
    rate, domain = sampling_rate(part.times), session.domain
    wanted = partial(choose, seconds=settings.labels, rate=rate, seed=seed, id=session.id)
    train = wanted(part.train, part.times[part.trained])
    return part.labelled(train, valid=wanted(domain, part.times[part.scored["valid"]]))


def _training_spans(parts: Sequence[Samples], store: SpikeStore, device: torch.device) -> Spans:
    spans = []
    for row, part in enumerate(parts):
        useful = part.useful()
        base = store.base[row]
        spans.append((row, ticks(useful.start) + base, ticks(useful.stop) + base))
    return Spans.gather(spans, device)
