"""The Kalman filter (Wu et al. 2006, *Bayesian population decoding of motor cortical activity using
a Kalman filter*, Neural Computation 18:80).

The state is the behavior and its derivatives. It moves linearly, one step a bin. The square-rooted
counts of a bin are a linear function of the state at a delay, with Gaussian noise. The filter
starts from its prior wherever recording starts, and runs through everything recorded from there.
The state at a sample is interpolated between the two nearest bins. The later of these has used
spikes up to a bin and a half after the sample, less the delay.

pykalman steps through the bins in Python and inverts a matrix of all units at each. Here counts are
projected onto the state first, which gives the same filter (a test holds this) with small matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import (
    BinnedSession,
    Guess,
    Labeled,
    SessionSize,
    counts,
)
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.recipe.settings import BaselineSettings

# Every combination of these is tried, with each bin width of the settings.
DELAYS = (0, 1, 2, 4)  # bins by which spikes precede the behavior that they encode
DERIVATIVES = (1, 2)  # of the behavior, in the state beside it
PENALTIES = (1e-3, 1e-1)  # of the regression of counts on the state, in mean variances

GAP = 1.5  # do not interpolate the behavior across a gap of more sample intervals
TINY = 1e-12  # added to variances, so that regression is defined if nothing varies
SETTLED = 1e-12  # a smaller relative change of the covariance counts as none
LONGEST = 1000  # bins after which the covariance is taken as settled
COPIES = 5  # of the counts of a session that are held in memory at once


@dataclass(frozen=True)
class Kalman:
    """A linear dynamical system of a state x of p numbers and the counts z of n units:

        x[0] ~ N(mean, prior)
        x[t] - mean = transition (x[t - 1] - mean) + N(0, noise)
        z[t] - offset = H (x[t] - mean) + N(0, Q)

    All tensors are float64.
    """

    mean: Tensor  # (p,)
    prior: Tensor  # (p, p)
    transition: Tensor  # (p, p)
    noise: Tensor  # (p, p)
    offset: Tensor  # (n,)
    projection: Tensor  # (p, n) HᵀQ⁻¹, what the counts say about the state
    information: Tensor  # (p, p) HᵀQ⁻¹H, how much they say

    @cached_property
    def covariances(self) -> list[Tensor]:
        """Covariance (p, p) of the state given the counts up to and with a bin: for each of the
        first bins, until it no longer changes."""
        covariances: list[Tensor] = []
        predicted = self.prior
        eye = torch.eye(len(self.mean), dtype=predicted.dtype, device=predicted.device)
        while len(covariances) < LONGEST:
            # (P⁻¹ + HᵀQ⁻¹H)⁻¹, written so that P may be singular.
            known = torch.linalg.solve(eye + predicted @ self.information, predicted)
            known = (known + known.T) / 2
            covariances.append(known)
            if len(covariances) > 1:
                change = (known - covariances[-2]).abs().max()
                if change <= SETTLED * known.abs().max():
                    break
            predicted = self.transition @ known @ self.transition.T + self.noise
        return covariances

    def filter(self, counts: Tensor) -> Tensor:
        """Mean (t, p) of the state at each of t ≥ 1 consecutive bins, given the square-rooted
        counts (t, n) up to and with that bin."""
        projected = (counts - self.offset) @ self.projection.T
        states = torch.empty_like(projected)
        state = torch.zeros_like(self.mean)
        for t, known in enumerate(self.covariances[: len(projected)]):
            predicted = self.transition @ state
            state = predicted + known @ (projected[t] - self.information @ predicted)
            states[t] = state
        # From here on the covariance is constant, so the state follows a linear recursion.
        step = self.transition - known @ self.information @ self.transition
        states[t:] = recursion(step, torch.cat([state[None], projected[t + 1 :] @ known]))
        return states + self.mean


def recursion(step: Tensor, drive: Tensor) -> Tensor:
    """x (t, p) with x[t] = step x[t - 1] + drive[t], by doubling: a few products of large matrices
    instead of many of small ones."""
    x, reach = drive.clone(), 1
    while reach < len(x):
        x[reach:] += x[:-reach] @ step.T
        step, reach = step @ step, 2 * reach
    return x


@dataclass(frozen=True)
class Stretch:
    """The bins of one stretch of recording."""

    time: Tensor  # (t,) int64 ticks, the middles of the bins
    counts: Tensor  # (t, n) float64, square-rooted


def stretches(recording: BinnedSession, bin: float) -> list[Stretch]:
    """The recorded stretches in whole bins. A stretch shorter than a bin is one bin."""
    length, times = round(bin * TICKS), []
    for start, stop in zip(recording.domain.start, recording.domain.stop, strict=True):
        n = max(1, int(stop - start) // length)
        times.append(start + length // 2 + length * torch.arange(n, device=start.device))
    roots = counts(torch.cat(times), recording.units, bin, 1)[:, :, 0].double().sqrt()
    parts = roots.split([len(time) for time in times])
    return [Stretch(time, part) for time, part in zip(times, parts, strict=True)]


@dataclass(frozen=True)
class Fitted:
    """A fitted filter and the settings that it was fitted with."""

    model: Kalman
    bin: float  # s
    delay: int  # bins
    derivatives: int
    penalty: float

    @property
    def shift(self) -> int:
        """Ticks by which spikes precede the behavior that they encode."""
        return round(self.delay * self.bin * TICKS)

    def read(self, binned: list[Stretch], time: Tensor) -> Tensor:
        """The state (k, p) at sorted `time` (k,) ticks of behavior, interpolated linearly between
        bins."""
        at = time - self.shift
        first = torch.stack([stretch.time[0] for stretch in binned])
        owner = (torch.searchsorted(first, at, right=True) - 1).clamp(min=0)
        state = torch.empty(len(at), len(self.model.mean), dtype=torch.float64, device=at.device)
        for number in owner.unique().tolist():
            inside, stretch = owner == number, binned[number]
            filtered = self.model.filter(stretch.counts)
            left, right, share = between(stretch.time, at[inside])
            state[inside] = filtered[left].lerp(filtered[right], share[:, None])
        return state


def too_large(size: SessionSize, settings: BaselineSettings) -> str:
    """Fitting takes seconds to minutes for any number of units that memory can hold."""
    return ""


def bytes_needed(size: SessionSize, settings: BaselineSettings) -> int:
    """Memory that fitting takes, about."""
    bins = size.seconds / min(settings.bins)
    return int(8 * size.units * (COPIES * bins + 4 * size.units))


def decode(
    recording: BinnedSession,
    settings: BaselineSettings,
    seed: int = 0,
    tried: Callable[[], None] = lambda: None,
) -> Guess:
    """Decode the reported samples. Nothing here is random. `tried` is called for each bin width."""
    best = fit(recording, settings, tried)
    states = best.read(stretches(recording, best.bin), recording.reported)
    chosen = {
        "bin": best.bin,
        "delay": best.delay * best.bin,
        "derivatives": best.derivatives,
        "penalty": best.penalty,
    }
    return Guess(states[:, : recording.train.value.shape[1]], chosen)


def fit(
    recording: BinnedSession,
    settings: BaselineSettings,
    tried: Callable[[], None] = lambda: None,
) -> Fitted:
    """The filter with the smallest validation error, among all bin widths, delays, derivatives and
    penalties."""
    valid, candidates = recording.valid, []
    d = valid.value.shape[1]
    for bin in settings.bins:
        binned = stretches(recording, bin)
        z = torch.cat([stretch.counts for stretch in binned])
        for delay, derivatives in product(DELAYS, DERIVATIVES):
            shift = round(delay * bin * TICKS)
            x, weight = labels(recording.train, binned, shift, derivatives)
            for penalty in PENALTIES:
                model = regressed(x, z, weight, penalty)
                fitted = Fitted(model, bin, delay, derivatives, penalty)
                error = valid.error(fitted.read(binned, valid.time)[:, :d])
                candidates.append((error, fitted))
        tried()
    return min(candidates, key=lambda candidate: candidate[0])[1]


def labels(
    train: Labeled, binned: list[Stretch], shift: int, derivatives: int
) -> tuple[Tensor, Tensor]:
    """The state (t, p) in all bins, NaN where training samples do not give it, and its weight (t,).
    A derivative is the difference to the bin before. The first bin of a stretch has none."""
    interval = train.time.diff().median() if len(train) > 1 else torch.zeros(())
    states, weights = [], []
    for stretch in binned:
        at = stretch.time + shift
        left, right, share = between(train.time, at)
        before, after = train.time[left], train.time[right]
        known = (before <= at) & (at <= after) & (after - before <= GAP * interval)
        value = train.value[left].lerp(train.value[right], share[:, None])
        orders = [value.masked_fill(~known[:, None], torch.nan)]
        for _ in range(derivatives):
            orders.append(orders[-1].diff(dim=0, prepend=torch.full_like(value[:1], torch.nan)))
        states.append(torch.cat(orders, dim=1))
        weights.append(train.weight[left].lerp(train.weight[right], share))
    return torch.cat(states), torch.cat(weights)


def regressed(x: Tensor, z: Tensor, weight: Tensor, penalty: float) -> Kalman:
    """The filter with state x (t, p), NaN where unknown, and counts z (t, n) in consecutive bins.
    The first state of each stretch must be unknown, so that no step leads from one stretch to the
    next."""
    known = x.isfinite().all(dim=1)
    share = _shares(weight, known)
    x = torch.where(known[:, None], x, 0.0)
    mean, offset = share @ x, share @ z
    x, z = x - mean, z - offset
    follows = _shares(weight[1:], known[1:] & known[:-1])
    transition, noise = _regression(x[:-1], x[1:], follows, TINY)
    observed, spread = _regression(x, z, share, penalty)
    # With few bins and many units the covariance is uncertain, with silent units singular.
    ridge = penalty * spread.diagonal().mean() + TINY
    spread.diagonal().add_(ridge)
    projection = torch.linalg.solve(spread, observed).T
    prior = (x * share[:, None]).T @ x
    return Kalman(mean, prior, transition, noise, offset, projection, projection @ observed)


def _regression(x: Tensor, y: Tensor, weight: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Ridge regression: the matrix (d, p) that maps x (t, p) to y (t, d), and the covariance (d, d)
    of the residuals. The penalty is in variances of x."""
    weighted = (x * weight[:, None]).T
    covariance = weighted @ x
    covariance.diagonal().mul_(1 + penalty).add_(TINY)
    matrix = torch.linalg.solve(covariance, weighted @ y).T
    residual = y - x @ matrix.T
    return matrix, (residual * weight[:, None]).T @ residual


def _shares(weight: Tensor, known: Tensor) -> Tensor:
    """Weights (t,) that add up to 1, 0 where not `known`; all 0 if nothing is known."""
    weight = torch.where(known, weight, 0.0)
    return weight / weight.sum().clamp(min=TINY)


def between(time: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (k,) of sorted `time` (n,) before and after each of `at` (k,), and how far (k,) it
    lies between them, from 0 to 1. Before the first and after the last row, that row."""
    right = torch.searchsorted(time, at).clamp(max=len(time) - 1)
    left = (right - 1).clamp(min=0)
    share = (at - time[left]) / (time[right] - time[left]).clamp(min=1)
    return left, right, share.double().clamp(0, 1)
