"""Evaluation: overlapping windows stitched into one decoded trace, and its R² in SI.

A window may read spikes from outside the split that is scored, as they are input and no labels,
but never from outside the recording. Only samples inside the split and inside the session's
evaluation intervals are scored, and those of parts that are scored by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.readouts import NO_CLASS, ReadoutTargets
from neurobrick_model.data.scored_parts import Part
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.decoding.stitching import stitch
from neurobrick_model.evaluation.metrics import score
from neurobrick_model.model.perceiver import Perceiver


@dataclass(frozen=True)
class Decoded:
    """One session's scored samples: `time` (n,) s on its own clock, `truth` and `guess` (n, d)
    float64 in SI."""

    time: NDArray[np.float64]
    truth: NDArray[np.float64]
    guess: NDArray[np.float64]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Decoded:
        return Decoded(self.time[rows], self.truth[rows], self.guess[rows])

    @property
    def r2_axes(self) -> list[float]:
        """Coefficient of determination of each axis, NaN for an axis that does not move."""
        axes: list[float] = score(self.truth, self.guess).r2_axes.tolist()
        return axes

    @property
    def r2(self) -> float:
        """Variance-weighted R² over the axes."""
        return float(score(self.truth, self.guess).r2)


@dataclass(frozen=True)
class Classified:
    """One session's scored samples of a discrete readout: `time` (n,) s, `truth` (n,) rows of its
    classes, NONE for one that training has not seen, which nothing could guess; `chances` (n,
    classes), the probability that each is given."""

    time: NDArray[np.float64]
    truth: NDArray[np.int64]
    chances: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether a sample's likeliest class is the true one."""
        right: NDArray[np.bool_] = self.chances.argmax(1) == self.truth
        return right

    @property
    def guessing(self) -> float:
        """What always saying the most frequent class would reach."""
        known = self.truth[self.truth != NO_CLASS]
        most = np.bincount(known, minlength=1).max()
        return float(most / len(self.truth)) if len(self.truth) else np.nan


def decode_rows(
    model: Perceiver,
    corpus: Corpus,
    rows: Tensor,
    window: float,
    step: float,
    ranks: Ranks | None = None,
) -> dict[str, Decoded]:
    """Stitch the samples at `rows` (k,), sorted, of the corpus's targets: by session id."""
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
    """Stitch what is decoded beside the target: by readout, then by session id."""
    found: dict[str, dict[str, Decoded | Classified]] = {}
    first = len(corpus.axes)
    for one in corpus.targets.readouts:
        rows = one.scored[split]
        time = corpus.targets.time[rows]
        guess = stitch(model, corpus.vocabulary, corpus.spikes, time, window, step, ranks)
        guess = guess[:, first : first + one.readout.width]
        first += one.readout.width
        found[one.readout.name] = dict(_of_readout(corpus, one, rows, guess))
    return found


def by_session(corpus: Corpus, rows: Tensor, guess: Tensor) -> dict[str, Decoded]:
    """Part the z-scored `guess` (k, d) at the sample rows (k,) by session, back in SI."""
    targets, decoded = corpus.targets, {}
    for session, (name, time, mine) in enumerate(_sessions(corpus, rows)):
        values = (targets.value[rows[mine]], guess[mine])
        decoded[name] = Decoded(time, *(targets.restore(x, session).cpu().numpy() for x in values))
    return decoded


def _of_readout(
    corpus: Corpus, one: ReadoutTargets, rows: Tensor, guess: Tensor
) -> Iterator[tuple[str, Decoded | Classified]]:
    """The same of another readout's `guess` (k, columns)."""
    for session, (name, time, mine) in enumerate(_sessions(corpus, rows)):
        truth = one.value[rows[mine]]
        if one.readout.classes:
            chances = guess[mine].double().softmax(-1)
            yield name, Classified(time, truth.cpu().numpy(), chances.cpu().numpy())
        else:
            values = (one.restore(x, session).cpu().numpy() for x in (truth, guess[mine]))
            yield name, Decoded(time, *values)


def _sessions(corpus: Corpus, rows: Tensor) -> Iterator[tuple[str, NDArray[np.float64], Tensor]]:
    """Of each session, in order: its id, the times of its samples among `rows` (k,) on its own
    clock, and which (k,) these are."""
    targets = corpus.targets
    for session, name in enumerate(corpus.vocabulary.sessions):
        mine = targets.session[rows] == session
        ticks = targets.time[rows[mine]] - corpus.spikes.base[session].to(rows.device)
        yield name, ticks.cpu().numpy() / TICKS, mine


def of_part(corpus: Corpus, decoded: Mapping[str, Decoded], part: Part) -> dict[str, Decoded]:
    """The samples of one part, of those `decoded` at all rows that are reported."""
    targets = corpus.targets
    session = targets.session[targets.reported]
    inside = torch.isin(targets.reported, targets.parts[part])
    return {
        name: decoded[name][inside[session == row].cpu().numpy()]
        for row, name in enumerate(corpus.vocabulary.sessions)
    }


def mean_r2(decoded: Iterable[Decoded]) -> float:
    """Mean over sessions of the variance-weighted R²; sessions without scored samples are left
    out, and NaN when that leaves none."""
    scores = [score for one in decoded if np.isfinite(score := one.r2)]
    return float(np.mean(scores)) if scores else float("nan")
