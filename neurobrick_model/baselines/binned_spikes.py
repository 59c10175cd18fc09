"""Binned spikes: one session in the form that a baseline reads.

Baselines are trained on the same samples as the decoder, with the same weights, and scored on the
same samples. Of the test split a BinnedSession holds only the times, so that no baseline can read
its labels. Bins may reach beyond a split, since spikes are input and not labels.
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
    """Samples of a split with their labels."""

    time: Tensor  # (n,) int64 corpus ticks, sorted
    value: Tensor  # (n, d) float64, z-scored
    weight: Tensor  # (n,) float64, weight in the loss

    def __len__(self) -> int:
        return len(self.time)

    def error(self, guess: Tensor) -> float:
        """Sum of squared errors of a guess (n, d), by which baselines are chosen. Infinite if a
        guess is NaN."""
        total = float((guess - self.value).square().sum())
        return total if total == total else float("inf")


@dataclass(frozen=True)
class SessionSize:
    """How large a session is, which decides what fitting a baseline costs."""

    id: str
    units: int
    train: int  # training samples
    valid: int  # validation samples
    reported: int  # samples to decode
    seconds: float  # recorded

    @classmethod
    def of(cls, corpus: Corpus, session: int) -> SessionSize:
        """The size of session row `session` of a corpus."""
        train, valid, reported = _rows(corpus, session)
        spans = corpus.spikes.domain
        inside = _of(spans, session)
        ticks = (spans.stop[inside] - spans.start[inside]).sum()
        return cls(
            id=corpus.vocabulary.sessions[session],
            units=corpus.vocabulary.units[session],
            train=len(train),
            valid=len(valid),
            reported=len(reported),
            seconds=float(ticks) / TICKS,
        )


@dataclass(frozen=True)
class BinnedSession:
    """One session, as a baseline is trained on it."""

    units: list[Tensor]  # of each unit its spike times (k,) int64 corpus ticks, sorted
    domain: Spans  # what was recorded
    train: Labeled  # the training samples whose weight is not 0
    # The scored samples of the validation split. If there are none, the last fifth of the training
    # samples, which are then not in `train`.
    valid: Labeled
    reported: Tensor  # (k,) int64 corpus ticks, the times of the samples to decode

    @classmethod
    def of(cls, corpus: Corpus, session: int) -> BinnedSession:
        """Session row `session` of a corpus."""
        train, valid, reported = _rows(corpus, session)
        return cls(
            units=unit_times(corpus, session),
            domain=corpus.spikes.domain.to(corpus.device)[_of(corpus.spikes.domain, session)],
            train=_labeled(corpus, train),
            valid=_labeled(corpus, valid),
            reported=corpus.targets.time[reported],
        )


@dataclass(frozen=True)
class Guess:
    """What a baseline decodes from a session."""

    value: Tensor  # (k, d) z-scored, at the reported samples
    chosen: Mapping[str, float]  # the settings with the smallest validation error


def _rows(corpus: Corpus, session: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a session's training, validation and reported samples among the corpus's targets."""
    targets = corpus.targets
    inside = targets.session == session
    valid, reported = targets.scored["valid"], targets.reported
    train = torch.nonzero(inside & targets.train & (targets.weight > 0))[:, 0]
    valid = valid[inside[valid]]
    if not len(valid):  # without any, an overfitted baseline would be chosen
        train, valid = train.tensor_split([len(train) - len(train) // 5])
    return train, valid, reported[inside[reported]]


def unit_times(corpus: Corpus, session: int) -> list[Tensor]:
    """Sorted spike times, in corpus ticks, of every unit of a session."""
    time, unit = corpus.spikes.of_session(session)
    n = corpus.vocabulary.units[session]
    order = torch.argsort(unit, stable=True)
    counts = torch.bincount(unit, minlength=n)
    return list(time[order].to(corpus.device).split(counts.tolist()))


def counts(time: Tensor, units: list[Tensor], bin: float, n_bins: int) -> Tensor:
    """Spike counts (n, units, n_bins) in bins of `bin` seconds, centered on each `time` (n,) in
    ticks."""
    offsets = (torch.arange(n_bins + 1, device=time.device) - n_bins / 2).double() * bin * TICKS
    edges = time[:, None] + offsets.round().long()
    return torch.stack([torch.searchsorted(unit, edges).diff(dim=1) for unit in units], dim=1)


def features(time: Tensor, units: list[Tensor], bin: float, n_bins: int) -> Tensor:
    """Square-rooted counts (n, units * n_bins) float64, the input of a linear map."""
    return counts(time, units, bin, n_bins).flatten(1).double().sqrt()


def _of(domain: Spans, session: int) -> Tensor:
    return torch.nonzero(domain.session == session)[:, 0]


def _labeled(corpus: Corpus, rows: Tensor) -> Labeled:
    targets = corpus.targets
    return Labeled(targets.time[rows], targets.value[rows].double(), targets.weight[rows].double())
