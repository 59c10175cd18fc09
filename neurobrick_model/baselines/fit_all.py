"""Baselines: decoders of binned spikes that everyone compares with, each fitted to one session.

They are trained on the same samples as the decoder, with the same weights, tuned on its validation
samples, and scored on the same samples. Ridge, MLP and GRU read spikes before and after a sample,
as the decoder does. The Kalman filter reads all spikes before it, and up to a bin and a half after.

A baseline that would not fit into memory, or that fails, is left out with a reason. The others and
the decoder are reported all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from neurobrick import Progress
from neurobrick_model.baselines import kalman, network_training, ridge
from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess, SessionSize
from neurobrick_model.baselines.networks import GRU, MLP
from neurobrick_model.compute.cpu_threads import CpuThreads
from neurobrick_model.compute.memory import free_bytes, gigabytes
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.evaluation.decoded import Decoded, by_session
from neurobrick_model.recipe.settings import BaselineSettings

STAGE = "fitting baselines"  # the stage of its progress; counts settings that were tried
USABLE = 0.8  # share of the free memory that baselines may take


class Decode(Protocol):
    """Fits a decoder to one session and decodes its reported samples. Calls `tried` for each
    setting that it has tried."""

    def __call__(
        self,
        recording: BinnedSession,
        settings: BaselineSettings,
        seed: int,
        tried: Callable[[], None],
    ) -> Guess: ...


@dataclass(frozen=True)
class Method:
    """A baseline: how it is fitted, and what that costs."""

    decode: Decode
    settings_tried: Callable[[BaselineSettings], int]
    # Why fitting would take hours, and what to set instead; empty if it would not.
    too_large: Callable[[SessionSize, BaselineSettings], str]
    bytes_needed: Callable[[SessionSize, BaselineSettings], int]
    # What of a session is left out of training, to save time; empty if nothing.
    shortened: Callable[[SessionSize, BaselineSettings], str] = lambda size, settings: ""


def _bins(settings: BaselineSettings) -> int:
    return len(settings.bins)


def _networks(settings: BaselineSettings) -> int:
    return len(settings.bins) + len(settings.hidden) - 1 + len(settings.dropout) - 1


METHODS: Mapping[str, Method] = {
    "ridge": Method(ridge.decode, _bins, ridge.too_large, ridge.bytes_needed),
    "kalman": Method(kalman.decode, _bins, kalman.too_large, kalman.bytes_needed),
    **{
        name: Method(
            partial(network_training.decode, kind),
            _networks,
            partial(network_training.too_large, kind),
            partial(network_training.bytes_needed, kind),
            partial(network_training.shortened, kind),
        )
        for name, kind in {"mlp": MLP, "gru": GRU}.items()
    },
}


@dataclass(frozen=True)
class Baseline:
    """One baseline, fitted to every session."""

    decoded: Mapping[str, Decoded]  # the reported samples, by session id
    chosen: Mapping[str, Mapping[str, float]]  # the settings that validated best, by session id


class Baselines(dict[str, Baseline]):
    """The fitted baselines by name, and why others are not among them."""

    left_out: Mapping[str, str]  # reason by name

    def __init__(self, fitted: Mapping[str, Baseline], left_out: Mapping[str, str]) -> None:
        super().__init__(fitted)
        self.left_out = left_out


@dataclass(frozen=True)
class Plan:
    """Which baselines can be fitted here, and how many sessions at a time."""

    names: tuple[str, ...]
    left_out: Mapping[str, str]  # reason by name
    sessions_at_once: int
    notices: tuple[str, ...]  # what is left out to save time

    @classmethod
    def of(cls, corpus: Corpus, settings: BaselineSettings) -> Plan:
        """The plan for a corpus, by the memory that is free on its device now."""
        sizes = [SessionSize.of(corpus, row) for row in range(len(corpus.vocabulary.sessions))]
        cores = torch.get_num_threads() if corpus.device.type == "cpu" else 1
        return cls.for_sizes(sizes, settings, free_bytes(corpus.device), cores)

    @classmethod
    def for_sizes(
        cls, sizes: Sequence[SessionSize], settings: BaselineSettings, free: int, cores: int
    ) -> Plan:
        """The plan for sessions of these sizes, with so many bytes free and so many cores."""
        left_out: dict[str, str] = {
            name: reason
            for name in settings.which
            if (reason := _obstacle(METHODS[name], sizes, settings, free))
        }
        names = tuple(name for name in settings.which if name not in left_out)
        needs = sorted(
            (max((METHODS[n].bytes_needed(size, settings) for n in names), default=0)
             for size in sizes),
            reverse=True,
        )  # fmt: skip
        at_once = max(1, min(cores, len(sizes)))
        while at_once > 1 and sum(needs[:at_once]) > USABLE * free:
            at_once -= 1
        notices = [
            f"{name}: {notice}"
            for name in names
            if (notice := _first(METHODS[name].shortened(size, settings) for size in sizes))
        ]
        return cls(names, left_out, at_once, tuple(notices))

    def lines(self) -> list[str]:
        """What is left out, a line each."""
        return [
            *(f"baseline {name} is left out: {reason}" for name, reason in self.left_out.items()),
            *(f"baseline {notice}" for notice in self.notices),
        ]


def check_baselines(corpus: Corpus, settings: BaselineSettings, say: Callable[[str], None]) -> None:
    """Say, before training, which baselines will be left out or shortened, and why."""
    for line in Plan.of(corpus, settings).lines():
        say(line)


def baselines(
    corpus: Corpus, settings: BaselineSettings, seed: int, progress: Progress | None = None
) -> Baselines:
    """Fit the baselines that `settings.which` names to every session.

    On a CPU, each core fits sessions of its own, as many at a time as memory allows. The numbers do
    not depend on how many. `progress` gets the stage `fitting baselines`, and a line for each
    baseline that is left out. No exception of a baseline is raised: it is a reason in `left_out`.
    """
    progress = progress or Progress()
    plan = Plan.of(corpus, settings)
    for line in plan.lines():
        progress.say(line)
    ids = corpus.vocabulary.sessions
    failed: dict[str, str] = {}
    lock = threading.Lock()
    tries = sum(METHODS[name].settings_tried(settings) for name in plan.names)
    progress.total(STAGE, tries * len(ids))

    def fit(session: int) -> dict[str, Guess]:
        guesses: dict[str, Guess] = {}
        recording = None
        for name in plan.names:
            if name in failed:
                continue
            tried = partial(progress.advance, STAGE, 1, f"{name} of {ids[session]}")
            try:
                recording = recording or BinnedSession.of(corpus, session)
                guesses[name] = METHODS[name].decode(recording, settings, seed, tried)
            except Exception as error:  # the run is trained: nothing here may lose it
                with lock:
                    failed.setdefault(name, f"it failed on {ids[session]}: {_described(error)}")
        return guesses

    guesses = list(CpuThreads(plan.sessions_at_once).map(fit, range(len(ids))))
    for name, reason in failed.items():
        progress.say(f"baseline {name} is left out: {reason}")
    fitted = {
        name: _baseline(corpus, [of_session[name] for of_session in guesses])
        for name in plan.names
        if name not in failed
    }
    return Baselines(fitted, {**plan.left_out, **failed})


def _baseline(corpus: Corpus, guesses: Sequence[Guess]) -> Baseline:
    """From what a baseline decodes of each session, in order."""
    values = torch.cat([guess.value for guess in guesses])
    ids = corpus.vocabulary.sessions
    return Baseline(
        by_session(corpus, corpus.targets.reported, values),
        {id: guess.chosen for id, guess in zip(ids, guesses, strict=True)},
    )


def _obstacle(
    method: Method, sizes: Sequence[SessionSize], settings: BaselineSettings, free: int
) -> str:
    """Why a baseline cannot be fitted to all sessions; empty if it can."""
    for size in sizes:
        if reason := method.too_large(size, settings):
            return f"{size.id}: {reason}"
    largest = max(sizes, key=lambda size: method.bytes_needed(size, settings))
    need = method.bytes_needed(largest, settings)
    if need <= USABLE * free:
        return ""
    return (
        f"{largest.id} ({largest.units:,} units, {largest.train:,} training samples) needs about "
        f"{gigabytes(need)} of memory, {gigabytes(free)} are free: take longer baseline.bins, "
        "lower baseline.lags, or select fewer units"
    )


def _first(texts: Iterable[str]) -> str:
    """The first text that is not empty."""
    return next((text for text in texts if text), "")


def _described(error: Exception) -> str:
    """The first line of an error, with its type."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
