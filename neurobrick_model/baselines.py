"""Baselines: the ridge decoder that everyone compares with.

A Wiener filter in today's form: square-rooted spike counts in bins that lie evenly around each
sample, one linear map a session, the penalty chosen on the validation split. It is trained on the
same samples, with the same weights, and scored on the same samples as the decoder. Its bins may
reach beyond a split, as spikes are input and no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.corpus import Corpus
from neurobrick_model.evaluate import Decoded, by_session
from neurobrick_model.recipe import BaselineSettings

ROWS = 4096  # samples whose features are held at once


@dataclass(frozen=True)
class Ridge:
    """A fitted map from features to z-scored behavior, and the penalty that was chosen."""

    weight: Tensor  # (features, d) float64
    feature_mean: Tensor  # (features,)
    target_mean: Tensor  # (d,)
    alpha: float


def ridge(corpus: Corpus, settings: BaselineSettings) -> tuple[dict[str, Decoded], list[float]]:
    """Fit and score one ridge decoder a session: its test samples, and the penalties chosen."""
    guesses, alphas = [], []
    test = corpus.targets.scored["test"]
    for session in range(len(corpus.vocabulary.sessions)):
        trees = unit_times(corpus, session)
        model = _fit_session(corpus, session, trees, settings)
        rows = test[corpus.targets.session[test] == session]
        guesses.append(_predict(corpus, rows, trees, model, settings))
        alphas.append(model.alpha)
    return by_session(corpus, test, torch.cat(guesses)), alphas


def unit_times(corpus: Corpus, session: int) -> list[Tensor]:
    """Sorted spike times, in corpus seconds, of every unit of a session."""
    vocabulary, spikes = corpus.vocabulary, corpus.spikes
    first, n = vocabulary.first_unit[session], vocabulary.units[session]
    inside = (spikes.unit >= first) & (spikes.unit < first + n)
    order = torch.argsort(spikes.unit[inside], stable=True)
    counts = torch.bincount(spikes.unit[inside] - first, minlength=n)
    return list(spikes.time[inside][order].split(counts.tolist()))


def features(time: Tensor, units: list[Tensor], settings: BaselineSettings) -> Tensor:
    """Square-rooted counts (n, units * lags) in the `lags` bins centred on each of `time` (n,)."""
    edges = torch.arange(settings.lags + 1, device=time.device) - settings.lags / 2
    edges = time[:, None] + edges * settings.bin
    counts = [torch.searchsorted(unit, edges).diff(dim=1) for unit in units]
    return torch.cat(counts, dim=1).double().sqrt()


def _fit_session(
    corpus: Corpus, session: int, units: list[Tensor], settings: BaselineSettings
) -> Ridge:
    targets = corpus.targets
    mine = targets.session == session
    train = torch.zeros_like(mine)
    spans = corpus.train[corpus.train.session == session]
    for start, stop in zip(spans.start, spans.stop, strict=True):
        train |= (targets.time >= start) & (targets.time < stop)
    rows = torch.nonzero(mine & train & (targets.weight > 0))[:, 0]
    moments = _Moments(len(units) * settings.lags, targets.value.shape[1], rows.device)
    for part in rows.split(ROWS):
        moments.add(
            features(targets.time[part], units, settings),
            targets.value[part].double(),
            targets.weight[part].double(),
        )
    valid = targets.scored["valid"]
    valid = valid[targets.session[valid] == session]
    best: tuple[float, Ridge] | None = None
    for model in moments.solve(settings.alphas):
        guess = _predict(corpus, valid, units, model, settings)
        error = float((guess - targets.value[valid]).square().sum())
        if best is None or error < best[0]:
            best = error, model
    assert best is not None  # the recipe holds at least one penalty
    return best[1]


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

    def solve(self, alphas: tuple[float, ...]) -> list[Ridge]:
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
            Ridge(vectors @ (rotated / (values + a * scale)[:, None]), x_mean, y_mean, a)
            for a in alphas
        ]


def _predict(
    corpus: Corpus, rows: Tensor, units: list[Tensor], model: Ridge, settings: BaselineSettings
) -> Tensor:
    guesses = [corpus.targets.value.new_zeros(0, corpus.targets.value.shape[1])]
    for part in rows.split(ROWS):
        x = features(corpus.targets.time[part], units, settings)
        guess = (x - model.feature_mean) @ model.weight + model.target_mean
        guesses.append(guess.to(corpus.targets.value.dtype))
    return torch.cat(guesses)
