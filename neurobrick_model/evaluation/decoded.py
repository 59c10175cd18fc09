"""Decoded samples: behavior that was decoded from a split, beside what was recorded, in SI.

Overlapping windows are stitched into one trace. A window may read spikes from outside the scored
split, since spikes are input and not labels, but never from outside the recording. Only samples
inside the split and inside the session's evaluation intervals are scored, and those of the parts
that the recipe scores separately.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.readouts import ReadoutTargets
from neurobrick_model.data.scored_parts import Part
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.decoding.stitching import stitch
from neurobrick_model.evaluation.metrics import score
from neurobrick_model.model.perceiver import Perceiver


@dataclass(frozen=True)
class Decoded:
    """One session's scored samples of continuous behavior."""

    time: NDArray[np.float64]  # (n,) s on the session's clock
    truth: NDArray[np.float64]  # (n, d) recorded, SI
    guess: NDArray[np.float64]  # (n, d) decoded, SI

    def __getitem__(self, rows: NDArray[np.bool_]) -> Decoded:
        return Decoded(self.time[rows], self.truth[rows], self.guess[rows])

    @property
    def r2_axes(self) -> list[float]:
        """Coefficient of determination of each axis, NaN for a constant axis."""
        axes: list[float] = score(self.truth, self.guess)["axes"].tolist()
        return axes

    @property
    def r2(self) -> float:
        """Variance-weighted R² over the axes."""
        return float(score(self.truth, self.guess)["r2"])


@dataclass(frozen=True)
class Classified:
    """One session's scored samples of a discrete readout."""

    time: NDArray[np.float64]  # (n,) s on the session's clock
    truth: NDArray[np.int64]  # (n,) row of the class; NO_CLASS for a class not seen in training
    chances: NDArray[np.float64]  # (n, classes) decoded probability of each class

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the likeliest class of a sample is its true one."""
        right: NDArray[np.bool_] = self.chances.argmax(1) == self.truth
        return right


def decode_rows(
    model: Perceiver,
    corpus: Corpus,
    rows: Tensor,
    window: float,
    step: float,
    ranks: Ranks | None = None,
) -> dict[str, Decoded]:
    """Decode the corpus's target samples at sorted `rows` (k,), by session id. Windows of `window`
    s start every `step` s."""
    time = corpus.targets.time[rows]
    guess = stitch(model, corpus.vocabulary, corpus.spikes, time, window, step, ranks)
    return by_session(corpus, rows, guess[:, : len(corpus.axes)])


def decode_readouts(
    model: Perceiver,
    corpus: Corpus,
    split: str,
    window: float,
    step: float,
    ranks: Ranks | None = None,
) -> dict[str, dict[str, Decoded | Classified]]:
    """Decode the scored samples of every further readout in `split`: by readout, then by session
    id."""
    decoded: dict[str, dict[str, Decoded | Classified]] = {}
    first = len(corpus.axes)
    for readout in corpus.targets.readouts:
        rows = readout.scored[split]
        time = corpus.targets.time[rows]
        guess = stitch(model, corpus.vocabulary, corpus.spikes, time, window, step, ranks)
        guess = guess[:, first : first + readout.readout.width]
        first += readout.readout.width
        decoded[readout.readout.name] = dict(_of_readout(corpus, readout, rows, guess))
    return decoded


def by_session(corpus: Corpus, rows: Tensor, guess: Tensor) -> dict[str, Decoded]:
    """Split the z-scored `guess` (k, d) at sample rows (k,) by session id, and convert it to SI."""
    targets, decoded = corpus.targets, {}
    for session, (id, time, inside) in enumerate(_sessions(corpus, rows)):
        values = (targets.value[rows[inside]], guess[inside])
        decoded[id] = Decoded(time, *(targets.restore(x, session).cpu().numpy() for x in values))
    return decoded


def _of_readout(
    corpus: Corpus, readout: ReadoutTargets, rows: Tensor, guess: Tensor
) -> Iterator[tuple[str, Decoded | Classified]]:
    """The same for the `guess` (k, columns) of a further readout."""
    for session, (id, time, inside) in enumerate(_sessions(corpus, rows)):
        truth = readout.value[rows[inside]]
        if readout.readout.classes:
            chances = guess[inside].double().softmax(-1)
            yield id, Classified(time, truth.cpu().numpy(), chances.cpu().numpy())
        else:
            values = (readout.restore(x, session).cpu().numpy() for x in (truth, guess[inside]))
            yield id, Decoded(time, *values)


def _sessions(corpus: Corpus, rows: Tensor) -> Iterator[tuple[str, NDArray[np.float64], Tensor]]:
    """For each session in order: its id, the times (s, its own clock) of its samples among `rows`
    (k,), and a mask (k,) of these."""
    targets = corpus.targets
    for session, id in enumerate(corpus.vocabulary.sessions):
        inside = targets.session[rows] == session
        ticks = targets.time[rows[inside]] - corpus.spikes.base[session].to(rows.device)
        yield id, ticks.cpu().numpy() / TICKS, inside


def of_part(corpus: Corpus, decoded: Mapping[str, Decoded], part: Part) -> dict[str, Decoded]:
    """The samples of one part, by session id, of samples `decoded` at all reported rows."""
    targets = corpus.targets
    session = targets.session[targets.reported]
    inside = torch.isin(targets.reported, targets.parts[part])
    return {
        id: decoded[id][inside[session == row].cpu().numpy()]
        for row, id in enumerate(corpus.vocabulary.sessions)
    }
