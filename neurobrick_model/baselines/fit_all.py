"""Baselines: the decoders of binned spikes that everyone compares with, each fitted to one session.

They are trained on the same samples as the decoder, with the same weights, tuned on its validation
samples, and scored on the same as it. Ridge, MLP and GRU read spikes before and after a sample,
as the decoder does; the Kalman filter all those before it, and up to a bin and a half after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from neurobrick_model.baselines import kalman, network_training, ridge
from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess
from neurobrick_model.baselines.networks import GRU, MLP
from neurobrick_model.compute.cpu_threads import CpuThreads
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.evaluation.decoded import Decoded, by_session
from neurobrick_model.recipe.settings import BaselineSettings


class Method(Protocol):
    """Fits a decoder to one session and decodes its reported samples."""

    def __call__(
        self, recording: BinnedSession, settings: BaselineSettings, seed: int
    ) -> Guess: ...


METHODS: Mapping[str, Method] = {
    "ridge": ridge.decode,
    "kalman": kalman.decode,
    "mlp": partial(network_training.decode, MLP),
    "gru": partial(network_training.decode, GRU),
}


@dataclass(frozen=True)
class Baseline:
    """What a baseline decodes of the reported samples, and the settings that validated best, by
    session id."""

    decoded: Mapping[str, Decoded]
    chosen: Mapping[str, Mapping[str, float]]


def baselines(corpus: Corpus, settings: BaselineSettings, seed: int) -> dict[str, Baseline]:
    """Fit those that `settings.which` names to every session. On a CPU, each core takes sessions of
    its own; the numbers do not depend on how many there are."""
    team = CpuThreads(torch.get_num_threads() if corpus.device.type == "cpu" else 1)
    ids = corpus.vocabulary.sessions

    def fit(session: int) -> dict[str, Guess]:
        recording = BinnedSession.of(corpus, session)
        return {name: METHODS[name](recording, settings, seed) for name in settings.which}

    found = list(team.map(fit, range(len(ids))))
    return {
        name: Baseline(
            by_session(
                corpus, corpus.targets.reported, torch.cat([one[name].value for one in found])
            ),
            {id: one[name].chosen for id, one in zip(ids, found, strict=True)},
        )
        for name in settings.which
    }
