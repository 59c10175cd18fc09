"""Binned spikes: one session as a baseline is given it.

Baselines are trained on the same samples as the decoder, with the same weights, and scored on the
same samples. Of the test split a Recording holds the times alone, so that none can look at its
labels. Bins may reach beyond a split, as spikes are input and no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS, Spans


@dataclass(frozen=True)
class Labeled:
    """Samples of a split: `time` (n,) int64 corpus ticks, sorted; `value` (n, d) float64,
    z-scored; `weight` (n,) float64 in the loss."""

    time: Tensor
    value: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.time)

    def error(self, guess: Tensor) -> float:
        """Squared error of a guess (n, d) at these samples, by which baselines are chosen; infinite
        where a guess is no number."""
        total = float((guess - self.value).square().sum())
        return total if total == total else float("inf")


@dataclass(frozen=True)
class BinnedSession:
    """One session: `units`, the sorted spike times of each, in corpus ticks; `domain`, what was
    recorded; `train`, the training samples with any weight; `valid`, the scored samples of the
    validation split, or, where it has none, the last fifth of the training samples, which are then
    not among `train`; `reported` (k,) int64, the times of the samples to decode."""

    units: list[Tensor]
    domain: Spans
    train: Labeled
    valid: Labeled
    reported: Tensor

    @classmethod
    def of(cls, corpus: Corpus, session: int) -> BinnedSession:
        """Session row `session` of a corpus."""
        targets = corpus.targets
        mine = targets.session == session
        valid, reported = targets.scored["valid"], targets.reported
        train = torch.nonzero(mine & targets.train & (targets.weight > 0))[:, 0]
        held = valid[mine[valid]]
        if not len(held):  # nothing would tell an overfitted baseline from a good one
            train, held = train.tensor_split([len(train) - len(train) // 5])
        return cls(
            units=unit_times(corpus, session),
            domain=corpus.spikes.domain.to(corpus.device)[_of(corpus.spikes.domain, session)],
            train=_labeled(corpus, train),
            valid=_labeled(corpus, held),
            reported=targets.time[reported[mine[reported]]],
        )


@dataclass(frozen=True)
class Guess:
    """What a baseline decodes: `value` (k, d), z-scored, at the reported samples of a recording,
    and `chosen`, the settings that validated best."""

    value: Tensor
    chosen: Mapping[str, float]


def unit_times(corpus: Corpus, session: int) -> list[Tensor]:
    """Sorted spike times, in corpus ticks, of every unit of a session."""
    time, unit = corpus.spikes.of_session(session)
    n = corpus.vocabulary.units[session]
    order = torch.argsort(unit, stable=True)
    counts = torch.bincount(unit, minlength=n)
    return list(time[order].to(corpus.device).split(counts.tolist()))


def counts(time: Tensor, units: list[Tensor], bin: float, n_bins: int) -> Tensor:
    """Spikes (n, units, n_bins) in the bins of `bin` seconds that lie around each of `time` (n,)
    ticks, with its place in their middle."""
    places = (torch.arange(n_bins + 1, device=time.device) - n_bins / 2).double() * bin * TICKS
    edges = time[:, None] + places.round().long()
    return torch.stack([torch.searchsorted(unit, edges).diff(dim=1) for unit in units], dim=1)


def features(time: Tensor, units: list[Tensor], bin: float, n_bins: int) -> Tensor:
    """Square-rooted counts (n, units * n_bins) float64: what a linear map reads."""
    return counts(time, units, bin, n_bins).flatten(1).double().sqrt()


def _of(domain: Spans, session: int) -> Tensor:
    return torch.nonzero(domain.session == session)[:, 0]


def _labeled(corpus: Corpus, rows: Tensor) -> Labeled:
    targets = corpus.targets
    return Labeled(targets.time[rows], targets.value[rows].double(), targets.weight[rows].double())
