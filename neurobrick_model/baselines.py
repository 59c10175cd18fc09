"""Baselines: the ridge decoder that everyone compares with.

A Wiener filter in today's form: square-rooted spike counts in bins that lie evenly around each
sample, one linear map a session, bin and penalty chosen on the validation split. It is trained on
the same samples, with the same weights, and scored on the same samples as the decoder. Its bins
may reach beyond a split, as spikes are input and no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.corpus import Corpus
from neurobrick_model.evaluate import Decoded, by_session
from neurobrick_model.settings import BaselineSettings
from neurobrick_model.timeline import TICKS

ROWS = 4096  # samples whose features are held at once


@dataclass(frozen=True)
class Ridge:
    """A fitted map from square-rooted counts to z-scored behavior."""

    weight: Tensor  # (features, d) float64
    feature_mean: Tensor  # (features,)
    target_mean: Tensor  # (d,)
    alpha: float
    bin: float


def ridge(corpus: Corpus, settings: BaselineSettings) -> tuple[dict[str, Decoded], list[Ridge]]:
    """Fit one ridge decoder a session: its decoded test samples by session id, and the models."""
    guesses, models = [], []
    test = corpus.targets.scored["test"]
    for session in range(len(corpus.vocabulary.sessions)):
        units = unit_times(corpus, session)
        model = fit(corpus, session, units, settings)
        rows = test[corpus.targets.session[test] == session]
        guesses.append(_predict(corpus, rows, units, model, settings.lags))
        models.append(model)
    return by_session(corpus, test, torch.cat(guesses)), models


def unit_times(corpus: Corpus, session: int) -> list[Tensor]:
    """Sorted spike times, in corpus ticks, of every unit of a session."""
    time, unit = corpus.spikes.of_session(session)
    n = corpus.vocabulary.units[session]
    order = torch.argsort(unit, stable=True)
    counts = torch.bincount(unit, minlength=n)
    return list(time[order].to(corpus.device).split(counts.tolist()))


def features(time: Tensor, units: list[Tensor], bin: float, lags: int) -> Tensor:
    """Square-rooted counts (n, units * lags) in the `lags` bins of `bin` seconds that lie around
    each of `time` (n,) ticks, with its place in the middle of the middle one."""
    places = (torch.arange(lags + 1, device=time.device) - lags / 2).double() * bin * TICKS
    edges = time[:, None] + places.round().long()
    counts = [torch.searchsorted(unit, edges).diff(dim=1) for unit in units]
    return torch.cat(counts, dim=1).double().sqrt()


def fit(corpus: Corpus, session: int, units: list[Tensor], settings: BaselineSettings) -> Ridge:
    """The ridge decoder of a session that validates best, among all bins and penalties."""
    targets = corpus.targets
    train = torch.nonzero((targets.session == session) & targets.train & (targets.weight > 0))
    valid = targets.scored["valid"]
    valid = valid[targets.session[valid] == session]
    candidates = []
    for bin in settings.bins:
        moments = _Moments(len(units) * settings.lags, targets.value.shape[1], train.device)
        for part in train[:, 0].split(ROWS):
            x = features(targets.time[part], units, bin, settings.lags)
            moments.add(x, targets.value[part].double(), targets.weight[part].double())
        for model in moments.solve(settings.alphas, bin):
            guess = _predict(corpus, valid, units, model, settings.lags)
            error = float((guess - targets.value[valid]).square().sum())
            candidates.append((error, model))
    return min(candidates, key=lambda candidate: candidate[0])[1]


class _Moments:
    """Weighted sums that ridge regression needs, taken a chunk of rows at a time."""

    def __init__(self, n_features: int, d: int, device: torch.device) -> None:
        zeros = torch.zeros(n_features + 1, n_features + 1 + d, dtype=torch.float64, device=device)
        self.sums = zeros  # of (1, x)ᵀ (1, x, y)
        self.n_features = n_features

    def add(self, x: Tensor, y: Tensor, weight: Tensor) -> None:
        """Take in features (n, p), targets (n, d) and weights (n,)."""
        left = torch.cat([torch.ones_like(x[:, :1]), x], dim=1)
        self.sums += (left * weight[:, None]).T @ torch.cat([left, y], dim=1)

    def solve(self, alphas: tuple[float, ...], bin: float) -> list[Ridge]:
        """One model a penalty; all from one eigendecomposition of the features' covariance."""
        p, total = self.n_features, self.sums[0, 0]
        mean = self.sums[0] / total
        x_mean, y_mean = mean[1 : p + 1], mean[p + 1 :]
        second = self.sums[1:, 1:] / total
        covariance = second[:, :p] - x_mean[:, None] * x_mean
        cross = second[:, p:] - x_mean[:, None] * y_mean
        values, vectors = torch.linalg.eigh(covariance)
        rotated = vectors.T @ cross
        scale = covariance.diagonal().mean()
        return [
            Ridge(vectors @ (rotated / (values + a * scale)[:, None]), x_mean, y_mean, a, bin)
            for a in alphas
        ]


def _predict(corpus: Corpus, rows: Tensor, units: list[Tensor], model: Ridge, lags: int) -> Tensor:
    guesses = [corpus.targets.value.new_zeros(0, corpus.targets.value.shape[1])]
    for part in rows.split(ROWS):
        x = features(corpus.targets.time[part], units, model.bin, lags)
        guess = (x - model.feature_mean) @ model.weight + model.target_mean
        guesses.append(guess.to(corpus.targets.value.dtype))
    return torch.cat(guesses)
