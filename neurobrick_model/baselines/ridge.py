"""The ridge decoder, a Wiener filter with a penalty.

It reads square-rooted spike counts in bins around each sample, before and after it, and is one
linear map. Bin width and penalty are those with the smallest error on the validation split.

With p features and n training samples, the primal solution needs a matrix of p², the dual one of
n² (Hastie, Tibshirani & Friedman 2009, *The Elements of Statistical Learning*, section 18.3.5).
Both give the same map; the smaller one is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess, SessionSize, features
from neurobrick_model.recipe.settings import BaselineSettings

ROWS = 4096  # samples whose features are held in memory at once, at most
NUMBERS = 2**24  # features × samples that are held in memory at once, at most
LARGEST = 16_384  # side of a matrix whose eigenvectors take minutes; they take time ∝ side³
MATRICES = 7  # of that side, which are held in memory at once
TINY = 1e-12


@dataclass(frozen=True)
class Ridge:
    """A linear map from square-rooted counts to z-scored behavior."""

    weight: Tensor  # (p, d) float64
    feature_mean: Tensor  # (p,)
    target_mean: Tensor  # (d,)
    alpha: float  # penalty, in mean variances of the features
    bin: float  # s


def too_large(size: SessionSize, settings: BaselineSettings) -> str:
    """Why fitting would take hours, and what to set instead; empty if it would not."""
    side = _side(size, settings)
    if side <= LARGEST:
        return ""
    lags = LARGEST // size.units
    lags -= lags % 2 == 0
    way_out = f"set baseline.lags to {lags} or less" if lags > 0 else "select fewer units"
    return (
        f"{size.units * settings.lags:,} features ({size.units:,} units × {settings.lags} lags) "
        f"and {size.train:,} samples would take hours: {way_out}"
    )


def bytes_needed(size: SessionSize, settings: BaselineSettings) -> int:
    """Memory that fitting takes, about."""
    return 8 * (MATRICES * _side(size, settings) ** 2 + 4 * NUMBERS)


def _side(size: SessionSize, settings: BaselineSettings) -> int:
    return min(size.units * settings.lags, size.train)


def decode(
    recording: BinnedSession,
    settings: BaselineSettings,
    seed: int = 0,
    tried: Callable[[], None] = lambda: None,
) -> Guess:
    """Decode the reported samples. Nothing here is random. `tried` is called for each bin width."""
    model = fit(recording, settings, tried)
    guess = _predict(recording, recording.reported, model, settings.lags)
    return Guess(guess, {"bin": model.bin, "alpha": model.alpha})


def fit(
    recording: BinnedSession,
    settings: BaselineSettings,
    tried: Callable[[], None] = lambda: None,
) -> Ridge:
    """The ridge decoder with the smallest validation error, among all bin widths and penalties."""
    valid = recording.valid
    dual = len(recording.train) < len(recording.units) * settings.lags
    candidates = []
    for bin in settings.bins:
        for model in (_dual if dual else _primal)(recording, settings, bin):
            guess = _predict(recording, valid.time, model, settings.lags)
            candidates.append((valid.error(guess), model))
        tried()
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _primal(recording: BinnedSession, settings: BaselineSettings, bin: float) -> list[Ridge]:
    """One map for each penalty, from the covariance (p, p) of the features."""
    train, units = recording.train, recording.units
    moments = _Moments(len(units) * settings.lags, train.value.shape[1], train.time.device)
    rows = torch.arange(len(train), device=train.time.device)
    for part in rows.split(_rows(moments.n_features)):
        x = features(train.time[part], units, bin, settings.lags)
        moments.add(x, train.value[part], train.weight[part])
    return moments.solve(settings.alphas, bin)


class _Moments:
    """Weighted sums that ridge regression needs, added up a chunk of samples at a time."""

    def __init__(self, n_features: int, d: int, device: torch.device) -> None:
        zeros = torch.zeros(n_features + 1, n_features + 1 + d, dtype=torch.float64, device=device)
        self.sums = zeros  # of (1, x)ᵀ (1, x, y)
        self.n_features = n_features

    def add(self, x: Tensor, y: Tensor, weight: Tensor) -> None:
        """Add features (n, p), targets (n, d) and weights (n,)."""
        left = torch.cat([torch.ones_like(x[:, :1]), x], dim=1)
        self.sums += (left * weight[:, None]).T @ torch.cat([left, y], dim=1)

    def solve(self, alphas: tuple[float, ...], bin: float) -> list[Ridge]:
        """One map for each penalty, all from one eigendecomposition."""
        p, total = self.n_features, self.sums[0, 0]
        mean = self.sums[0] / total
        x_mean, y_mean = mean[1 : p + 1], mean[p + 1 :]
        second = self.sums[1:, 1:] / total
        covariance = second[:, :p] - x_mean[:, None] * x_mean
        cross = second[:, p:] - x_mean[:, None] * y_mean
        values, vectors = torch.linalg.eigh(covariance)
        rotated = vectors.T @ cross
        scale = covariance.diagonal().mean().clamp(min=TINY)  # all units may be silent
        return [
            Ridge(vectors @ (rotated / (values + a * scale)[:, None]), x_mean, y_mean, a, bin)
            for a in alphas
        ]


def _dual(recording: BinnedSession, settings: BaselineSettings, bin: float) -> list[Ridge]:
    """One map for each penalty, from the products (n, n) of the samples' features. Features are
    computed twice, some units at a time, and never held all at once."""
    train = recording.train
    share = train.weight / train.weight.sum()
    root = share.sqrt()[:, None]
    y_mean = share @ train.value
    gram = torch.zeros(len(train), len(train), dtype=torch.float64, device=train.time.device)
    for _, x in _centered(recording, settings.lags, bin, share):
        weighted = root * x
        gram += weighted @ weighted.T
    p = len(recording.units) * settings.lags
    scale = (gram.diagonal().sum() / p).clamp(min=TINY)
    values, vectors = torch.linalg.eigh(gram)
    rotated = vectors.T @ (root * (train.value - y_mean))
    dual = [root * (vectors @ (rotated / (values + a * scale)[:, None])) for a in settings.alphas]
    means, weights = [], []
    for mean, x in _centered(recording, settings.lags, bin, share):
        means.append(mean)
        weights.append(x.T @ torch.cat(dual, dim=1))
    x_mean = torch.cat(means)
    each = torch.cat(weights).split(len(y_mean), dim=1)
    return [
        Ridge(weight, x_mean, y_mean, alpha, bin)
        for weight, alpha in zip(each, settings.alphas, strict=True)
    ]


def _centered(
    recording: BinnedSession, lags: int, bin: float, share: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of some units at a time: the weighted mean (k,) of their features, and the features (n, k)
    of all training samples less that mean."""
    at_once = max(1, NUMBERS // (max(1, len(recording.train)) * lags))
    for first in range(0, len(recording.units), at_once):
        units = recording.units[first : first + at_once]
        x = features(recording.train.time, units, bin, lags)
        mean = share @ x
        yield mean, x - mean


def _rows(n_features: int) -> int:
    """How many samples' features to hold in memory at once."""
    return min(ROWS, max(1, NUMBERS // n_features))


def _predict(recording: BinnedSession, time: Tensor, model: Ridge, lags: int) -> Tensor:
    guesses = [recording.train.value.new_zeros(0, len(model.target_mean))]
    for part in time.split(_rows(len(model.weight))):
        x = features(part, recording.units, model.bin, lags)
        guesses.append((x - model.feature_mean) @ model.weight + model.target_mean)
    return torch.cat(guesses)
