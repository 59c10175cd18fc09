"""The corpus: the spikes and target samples of all sessions as flat tensors.

Training cuts its windows out of them, by arithmetic on the device.
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
from neurobrick_model.data.sampling import sampling_rate
from neurobrick_model.data.scored_parts import ScoringRequest, read_scoring_request, say_missing
from neurobrick_model.data.targets import SessionSamples, Targets, axes, read_samples, unit_of
from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, SpikeStore, Vocabulary, ticks
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """Sessions ready for training."""

    vocabulary: Vocabulary
    target: str  # name of the decoded behavior; several, joined by "or", where sessions differ
    unit: str  # SI unit of the target
    axes: tuple[str, ...]  # names of its columns
    rate: float  # Hz of the fastest session's samples, after decimation
    spikes: PackedSpikes  # on the device, or in the host's memory where they are too many
    targets: Targets  # on the device
    train: Spans  # where training windows may lie
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
        """Read every session that `settings.sessions` selects.

        Args:
            dataset: the prepared sessions.
            settings: the recipe's group `data`.
            device: where the tensors go; the spikes may stay on the host.
            say: called with lines about the corpus's size, and about missing or odd data.
            seed: chooses the labels, where the recipe limits them.
            inherited: normalization and classes of the base decoder, used instead of the sessions'
                own.
            evaluation: what is scored; the defaults if None.

        Raises RecipeError when there is no session, when one lacks the target, has no units or a
        target that does not vary, when targets differ in unit or number of axes from each other or
        from the inherited one, when there is nothing to train on, and when memory does not suffice,
        which is estimated before anything is read.
        """
        device = torch.device(device)
        ids = select_sessions(dataset, settings.sessions)
        sessions = [dataset[id] for id in ids]
        names = [choose_target(session, settings.target) for session in sessions]
        check_alike(sessions, names, settings, inherited)
        check_rules(sessions, settings, evaluation or EvaluationSettings())
        home = _choose_home(sessions, names, settings, device, say)
        requests = [
            read_scoring_request(session, evaluation or EvaluationSettings())
            for session in sessions
        ]
        say_missing(ids, [request.missing for request in requests], say)
        store, parts = _read(sessions, names, requests, settings, seed)
        for part in parts:
            if part.warning:
                say(part.warning)
        say_missing(ids, [part.missing for part in parts], say)
        others = {
            name: (choose_readout(sessions, name, readout, inherited), readout.weight)
            for name, readout in settings.readouts.items()
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
            trials=tuple(request.trials for request in requests),
        )

    @property
    def device(self) -> torch.device:
        """The device that windows are put together on."""
        return self.targets.time.device

    @property
    def columns(self) -> int:
        """Columns of a decoder's output: the target's axes, then those of each readout."""
        return len(self.axes) + sum(targets.readout.width for targets in self.targets.readouts)

    @property
    def label_seconds(self) -> tuple[float, ...]:
        """Seconds of labelled behavior that each session trains on."""
        targets = self.targets
        seconds = []
        for row in range(len(self.vocabulary.sessions)):
            of_session = targets.session == row
            rate = sampling_rate(targets.time[of_session].cpu().numpy() / TICKS)
            seconds.append(int(targets.train[of_session].sum()) / rate if rate else 0.0)
        return tuple(seconds)

    def fingerprint(self) -> str:
        """Checksums of everything that training reads: ids, units, spikes, samples, weights,
        splits."""
        names = json.dumps([self.vocabulary.sessions, self.vocabulary.units, self.unit])
        parts = (
            *(self.spikes.tick, self.spikes.unit, self.spikes.before),
            *(self.targets.time, self.targets.value, self.targets.weight),
            *(self.train.start, self.train.stop, self.targets.scored["valid"]),
            *(x for readout in self.targets.readouts for x in (readout.value, readout.weight)),
        )
        sums = [zlib.crc32(names.encode()), *(_checksum(part) for part in parts)]
        return "".join(f"{value:08x}" for value in sums)


def _checksum(x: Tensor) -> int:
    return zlib.crc32(x.cpu().contiguous().numpy().reshape(-1).view("uint8").data)


def _read(
    sessions: Sequence[Session],
    names: Sequence[str],
    requests: Sequence[ScoringRequest],
    settings: DataSettings,
    seed: int,
) -> tuple[SpikeStore, list[SessionSamples]]:
    """The spikes of all sessions, and the samples of each: one session is in memory at a time."""
    store = SpikeStore(len(sessions), sum(session.n_spikes for session in sessions))
    parts = []
    for row, (session, name) in enumerate(zip(sessions, names, strict=True)):
        spikes = session.slice(*session.span).spikes
        store.add(row, spikes.times, spikes.units, session.domain)
        samples = read_samples(session, name, settings, requests[row])
        parts.append(_labelled(samples, settings, seed, session))
    return store, parts


def _choose_home(
    sessions: Sequence[Session],
    names: Sequence[str],
    settings: DataSettings,
    device: torch.device,
    say: Say,
) -> torch.device:
    """The device that holds the spikes, by an estimate of their size, which is said."""
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
    """`part` with at most the recipe's labels, to train on and to validate with."""
    if settings.labels is None:
        return part
    rate, domain = sampling_rate(part.times), session.domain
    choice = partial(choose, seconds=settings.labels, rate=rate, seed=seed, id=session.id)
    train = choice(part.train, part.times[part.trained])
    return part.labelled(train, valid=choice(domain, part.times[part.scored["valid"]]))


def _training_spans(
    parts: Sequence[SessionSamples], store: SpikeStore, device: torch.device
) -> Spans:
    """The training intervals of all sessions that hold a sample with a weight."""
    spans = []
    for row, part in enumerate(parts):
        useful = part.useful()
        base = store.base[row]
        spans.append((row, ticks(useful.start) + base, ticks(useful.stop) + base))
    return Spans.gather(spans, device)
