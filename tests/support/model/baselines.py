"""What tests of baselines share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurobrick_model.baselines.fit_all import METHODS, baselines
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.recipe.settings import BaselineSettings, DataSettings
from tests.support.model.fakes import FakeDataset, FakeSession

Array = NDArray[np.float64]

ALL = tuple(METHODS)
QUICK = BaselineSettings(
    which=ALL, bins=(0.1,), lags=5, alphas=(0.01,), hidden=(16,), dropout=(0.1,)
)


def corpus_of(*sessions: FakeSession, rate: float = 100.0) -> Corpus:
    settings = DataSettings(target_rate=rate)
    return Corpus.from_dataset(FakeDataset(*sessions), settings)  # type: ignore[arg-type]


def decoded(session: FakeSession, settings: BaselineSettings, seed: int = 0) -> dict[str, Decoded]:
    """What each baseline decodes of a session, at 20 Hz."""
    fitted = baselines(corpus_of(session, rate=20), settings, seed)
    return {name: baseline.decoded[session.id] for name, baseline in fitted.items()}


def poisson(rates: Array, step: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int32]]:
    """Times and units of the spikes of units with `rates` (t, n) Hz in steps of `step` seconds."""
    counts = rng.poisson(rates * step)
    row, unit = np.nonzero(counts)
    times = (row + rng.uniform(size=len(row))) * step
    order = np.argsort(times)
    return times[order], unit[order].astype(np.int32)
