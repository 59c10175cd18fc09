"""The corpus: every session's spikes and target samples as flat tensors, from which training cuts
its windows by arithmetic on the device.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Dataset, Session
from neurobrick_model.compute import memory
from neurobrick_model.data import placement, targets
from neurobrick_model.data.anatomy import Anatomy
from neurobrick_model.data.choices import (
    check_alike,
    check_rules,
    choose_readout,
    choose_target,
    select_sessions,
)
from neurobrick_model.data.label_budget import choose
from neurobrick_model.data.readouts import NOTHING_INHERITED, Inherited
from neurobrick_model.data.scored_parts import read_scoring_request, say_missing
from neurobrick_model.data.targets import (
    SessionSamples,
    Targets,
    axes,
    read_samples,
    sampling_rate,
    unit_of,
)
from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, SpikeStore, Vocabulary, ticks
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings

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
    spikes: PackedSpikes
    targets: Targets
    train: Spans
    anatomies: tuple[Anatomy, ...]  # of each session
    trials: tuple[NDArray[np.float64], ...]  # (k, 2) s of each session, on its own clock

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        settings: DataSettings,
        device: torch.device | str = "cpu",
        say: Say = lambda line: None,
        seed: int = 0,
        inherited: Inherited = NOTHING_INHERITED,
        evaluation: EvaluationSettings | None = None,
    ) -> Corpus:
        """Read every session that `settings.sessions` selects, with what `evaluation` scores of it;
        `say` is told what goes where, and what is missing. Where only some labels are wanted,
        `seed` chooses them. What is to be decoded is told in `inherited`, where they are given, and
        otherwise in those of the sessions.

        Raises RecipeError when there is none, when one lacks the target or has no units, when the
        targets differ in unit or number of axes from each other or from `inherited`, when there is
        nothing to train on, or when there is not enough memory, which is estimated before any of it
        is taken.
        """
        device = torch.device(device)
        ids = select_sessions(dataset, settings.sessions)
        sessions = [dataset[id] for id in ids]
        names = [choose_target(session, settings.target) for session in sessions]
        check_alike(sessions, names, settings, inherited)
        check_rules(sessions, settings, evaluation or EvaluationSettings())
        home = _home(sessions, names, settings, device, say)
        asked = [
            read_scoring_request(session, evaluation or EvaluationSettings())
            for session in sessions
        ]
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
            name: (choose_readout(sessions, name, own, inherited), own.weight)
            for name, own in settings.readouts.items()
        }
        by_session = settings.normalize == "session"
        gathered = targets.gather(parts, store.base, by_session, device, others, inherited)
        return cls(
            vocabulary=Vocabulary(tuple(ids), tuple(session.n_units for session in sessions)),
            target=" or ".join(dict.fromkeys(names)),
            unit=unit_of(sessions[0].behavior[names[0]], settings),
            axes=axes(sessions[0].behavior[names[0]]),
            rate=max(sampling_rate(part.times) for part in parts),
            spikes=store.finish(home),
            targets=gathered,
            train=_training_spans(parts, store, device),
            anatomies=tuple(map(Anatomy.of, sessions)),
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


def _checksum(x: Tensor) -> int:
    return zlib.crc32(x.cpu().contiguous().numpy().reshape(-1).view("uint8").data)


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
    free = memory.free_bytes(device)
    home = placement.choose_device_for_spikes(
        settings.place, spikes, others, device, free, memory.free_bytes(torch.device("cpu"))
    )
    seconds = sum(last - first for first, last in (session.span for session in sessions))
    say(
        f"corpus: {len(sessions)} sessions, {seconds / 3600:.1f} h, "
        f"{sum(session.n_spikes for session in sessions):,} spikes, "
        f"about {memory.gigabytes(spikes + others)} of {memory.gigabytes(free)} free "
        f"on {device}"
    )
    if home != device:
        say("its spikes stay in main memory; each batch is sent while the one before is trained on")
    return home


def _labelled(
    part: SessionSamples, settings: DataSettings, seed: int, session: Session
) -> SessionSamples:
    """`part` with as many labels as are wanted, to train on and to validate with."""
    if settings.labels is None:
        return part
    rate, domain = sampling_rate(part.times), session.domain
    wanted = partial(choose, seconds=settings.labels, rate=rate, seed=seed, id=session.id)
    train = wanted(part.train, part.times[part.trained])
    return part.labelled(train, valid=wanted(domain, part.times[part.scored["valid"]]))


def _training_spans(
    parts: Sequence[SessionSamples], store: SpikeStore, device: torch.device
) -> Spans:
    spans = []
    for row, part in enumerate(parts):
        useful = part.useful()
        base = store.base[row]
        spans.append((row, ticks(useful.start) + base, ticks(useful.stop) + base))
    return Spans.gather(spans, device)
