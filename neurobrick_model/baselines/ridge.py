"""The ridge decoder: a Wiener filter in today's form.

Square-rooted spike counts in bins that lie evenly around each sample, before and after it, and one
linear map; bin and penalty are those that validate best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess, features
from neurobrick_model.recipe.settings import BaselineSettings

ROWS = 4096  # samples whose features are held at once
TINY = 1e-12


@dataclass(frozen=True)
class Ridge:
    """A fitted map from square-rooted counts to z-scored behavior."""

    weight: Tensor  # (features, d) float64
    feature_mean: Tensor  # (features,)
    target_mean: Tensor  # (d,)
    alpha: float
    bin: float


def decode(recording: BinnedSession, settings: BaselineSettings, seed: int = 0) -> Guess:
    """Decode the reported samples; nothing here is random."""
    model = fit(recording, settings)
    guess = _predict(recording, recording.reported, model, settings.lags)
    return Guess(guess, {"bin": model.bin, "alpha": model.alpha})


def fit(recording: BinnedSession, settings: BaselineSettings) -> Ridge:
    """The ridge decoder that validates best, among all bins and penalties."""
    train, valid, units = recording.train, recording.valid, recording.units
    candidates = []
    for bin in settings.bins:
        moments = _Moments(len(units) * settings.lags, train.value.shape[1], train.time.device)
        for rows in torch.arange(len(train), device=train.time.device).split(ROWS):
            x = features(train.time[rows], units, bin, settings.lags)
            moments.add(x, train.value[rows], train.weight[rows])
        for model in moments.solve(settings.alphas, bin):
            guess = _predict(recording, valid.time, model, settings.lags)
            candidates.append((valid.error(guess), model))
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
        scale = covariance.diagonal().mean().clamp(min=TINY)  # of silent units
        return [
            Ridge(vectors @ (rotated / (values + a * scale)[:, None]), x_mean, y_mean, a, bin)
            for a in alphas
        ]


def _predict(recording: BinnedSession, time: Tensor, model: Ridge, lags: int) -> Tensor:
    guesses = [recording.train.value.new_zeros(0, len(model.target_mean))]
    for part in time.split(ROWS):
        x = features(part, recording.units, model.bin, lags)
        guesses.append((x - model.feature_mean) @ model.weight + model.target_mean)
    return torch.cat(guesses)
