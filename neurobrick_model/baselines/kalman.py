"""The Kalman filter (Wu et al. 2006, *Bayesian population decoding of motor cortical activity using
a Kalman filter*, Neural Computation 18:80).

The state is the behavior and its derivatives, one step a bin, and moves linearly; the square-rooted
counts of a bin are a linear function of the state at a delay, with Gaussian noise. The filter
starts from its prior wherever recording starts, and runs through all that is recorded from there.
A sample lies between the middles of two bins and is interpolated between their states, of which the
later one has heard up to a bin and a half after the sample, less the delay.

pykalman is well kept, but steps through the bins in Python and inverts a matrix of all units at
each; here counts are projected onto the state first, which gives the same filter in a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess, Labeled, counts
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.recipe.settings import BaselineSettings

# Each of these is tried, beside the bins of the settings.
DELAYS = (0, 1, 2, 4)  # bins by which spikes precede the behavior that they tell
DERIVATIVES = (1, 2)  # of the behavior, in the state beside it
PENALTIES = (1e-3, 1e-1)  # in mean variances, on how counts follow from the state

GAP = 1.5  # sample intervals that the behavior is not interpolated across
TINY = 1e-12  # added where nothing varies, so that regression is defined
SETTLED = 1e-12  # relative change of a covariance that is none
LONGEST = 1000  # bins after which it is taken as settled


@dataclass(frozen=True)
class Kalman:
    """A linear dynamical system of a state x of p numbers and the counts z of n units, float64:

    x[0] ~ N(mean, prior), x[t] - mean = transition (x[t - 1] - mean) + N(0, noise), and
    z[t] - offset = H (x[t] - mean) + N(0, Q), of which `projection` is HᵀQ⁻¹, all that counts say
    of the state, and `information` HᵀQ⁻¹H, how much.
    """

    mean: Tensor  # (p,)
    prior: Tensor  # (p, p)
    transition: Tensor  # (p, p)
    noise: Tensor  # (p, p)
    offset: Tensor  # (n,)
    projection: Tensor  # (p, n)
    information: Tensor  # (p, p)

    @cached_property
    def covariances(self) -> list[Tensor]:
        """Covariance (p, p) of the state once the counts of a bin are known, of the first bins,
        until it changes no more."""
        found: list[Tensor] = []
        predicted = self.prior
        eye = torch.eye(len(self.mean), dtype=predicted.dtype, device=predicted.device)
        while len(found) < LONGEST:
            # (P⁻¹ + HᵀQ⁻¹H)⁻¹, written so that P may be singular.
            known = torch.linalg.solve(eye + predicted @ self.information, predicted)
            known = (known + known.T) / 2
            found.append(known)
            if len(found) > 1 and (known - found[-2]).abs().max() <= SETTLED * known.abs().max():
                break
            predicted = self.transition @ known @ self.transition.T + self.noise
        return found

    def filter(self, counts: Tensor) -> Tensor:
        """Mean (t, p) of the state given the square-rooted counts (t, n) of consecutive bins, t at
        least 1, up to and with each."""
        told = (counts - self.offset) @ self.projection.T
        states = torch.empty_like(told)
        state = torch.zeros_like(self.mean)
        for t, known in enumerate(self.covariances[: len(told)]):
            predicted = self.transition @ state
            state = predicted + known @ (told[t] - self.information @ predicted)
            states[t] = state
        # From here on the covariance is the same, and the state follows a linear recursion.
        step = self.transition - known @ self.information @ self.transition
        states[t:] = recursion(step, torch.cat([state[None], told[t + 1 :] @ known]))
        return states + self.mean


def recursion(step: Tensor, drive: Tensor) -> Tensor:
    """x (t, p) of x[t] = step x[t - 1] + drive[t], by doubling: few products of large matrices
    instead of many of small ones."""
    x, reach = drive.clone(), 1
    while reach < len(x):
        x[reach:] += x[:-reach] @ step.T
        step, reach = step @ step, 2 * reach
    return x


@dataclass(frozen=True)
class Stretch:
    """Bins of one stretch of recording: `time` (t,) ticks, their middles, and square-rooted
    `counts` (t, n)."""

    time: Tensor
    counts: Tensor


def stretches(recording: BinnedSession, bin: float) -> list[Stretch]:
    """What was recorded, in whole bins; a stretch shorter than a bin is one."""
    length, times = round(bin * TICKS), []
    for start, stop in zip(recording.domain.start, recording.domain.stop, strict=True):
        n = max(1, int(stop - start) // length)
        times.append(start + length // 2 + length * torch.arange(n, device=start.device))
    roots = counts(torch.cat(times), recording.units, bin, 1)[:, :, 0].double().sqrt()
    parts = roots.split([len(time) for time in times])
    return [Stretch(time, part) for time, part in zip(times, parts, strict=True)]


@dataclass(frozen=True)
class Fitted:
    """The filter that validated best, and with what."""

    model: Kalman
    bin: float
    delay: int
    derivatives: int
    penalty: float

    @property
    def shift(self) -> int:
        """Ticks by which spikes precede the behavior that they tell."""
        return round(self.delay * self.bin * TICKS)

    def read(self, binned: list[Stretch], time: Tensor) -> Tensor:
        """The state (k, p) at sorted `time` (k,) ticks of behavior, between bins by linear
        interpolation."""
        at = time - self.shift
        first = torch.stack([one.time[0] for one in binned])
        owner = (torch.searchsorted(first, at, right=True) - 1).clamp(min=0)
        found = torch.empty(len(at), len(self.model.mean), dtype=torch.float64, device=at.device)
        for number in owner.unique().tolist():
            mine, one = owner == number, binned[number]
            states = self.model.filter(one.counts)
            left, right, share = between(one.time, at[mine])
            found[mine] = states[left].lerp(states[right], share[:, None])
        return found


def decode(recording: BinnedSession, settings: BaselineSettings, seed: int = 0) -> Guess:
    """Decode the reported samples; nothing here is random."""
    best = fit(recording, settings)
    states = best.read(stretches(recording, best.bin), recording.reported)
    chosen = {
        "bin": best.bin,
        "delay": best.delay * best.bin,
        "derivatives": best.derivatives,
        "penalty": best.penalty,
    }
    return Guess(states[:, : recording.train.value.shape[1]], chosen)


def fit(recording: BinnedSession, settings: BaselineSettings) -> Fitted:
    """The filter that validates best, among all bins, delays, derivatives and penalties."""
    valid, candidates = recording.valid, []
    d = valid.value.shape[1]
    for bin in settings.bins:
        binned = stretches(recording, bin)
        z = torch.cat([one.counts for one in binned])
        for delay, derivatives in product(DELAYS, DERIVATIVES):
            shift = round(delay * bin * TICKS)
            x, weight = labels(recording.train, binned, shift, derivatives)
            for penalty in PENALTIES:
                model = regressed(x, z, weight, penalty)
                one = Fitted(model, bin, delay, derivatives, penalty)
                error = valid.error(one.read(binned, valid.time)[:, :d])
                candidates.append((error, one))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def labels(
    train: Labeled, binned: list[Stretch], shift: int, derivatives: int
) -> tuple[Tensor, Tensor]:
    """The state (t, p) in all bins, NaN where it is not known from training samples, and its weight
    (t,). Derivatives are differences to the bin before, which the first of a stretch does not have.
    """
    interval = train.time.diff().median() if len(train) > 1 else torch.zeros(())
    states, weights = [], []
    for one in binned:
        at = one.time + shift
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
    """The filter whose state is x (t, p), NaN where unknown, at counts z (t, n) in consecutive
    bins; where a stretch ends, the next one's first state must be unknown."""
    known = x.isfinite().all(dim=1)
    own = _shares(weight, known)
    x = torch.where(known[:, None], x, 0.0)
    mean, offset = own @ x, own @ z
    x, z = x - mean, z - offset
    follows = _shares(weight[1:], known[1:] & known[:-1])
    transition, noise = _regression(x[:-1], x[1:], follows, TINY)
    observed, spread = _regression(x, z, own, penalty)
    # Of few bins and many units, covariances are uncertain; of silent units, zero.
    ridge = penalty * spread.diagonal().mean() + TINY
    spread.diagonal().add_(ridge)
    projection = torch.linalg.solve(spread, observed).T
    prior = (x * own[:, None]).T @ x
    return Kalman(mean, prior, transition, noise, offset, projection, projection @ observed)


def _regression(x: Tensor, y: Tensor, weight: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The matrix (d, p) that takes x (t, p) to y (t, d), with a penalty in the variances of x, and
    the covariance (d, d) of what it leaves."""
    weighted = (x * weight[:, None]).T
    covariance = weighted @ x
    covariance.diagonal().mul_(1 + penalty).add_(TINY)
    matrix = torch.linalg.solve(covariance, weighted @ y).T
    rest = y - x @ matrix.T
    return matrix, (rest * weight[:, None]).T @ rest


def _shares(weight: Tensor, known: Tensor) -> Tensor:
    """Weights (t,), 0 where not `known`, that add up to 1 if there are any."""
    weight = torch.where(known, weight, 0.0)
    return weight / weight.sum().clamp(min=TINY)


def between(time: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of sorted `time` (n,) on both sides of each of `at` (k,), and how far it is from the
    one to the other; beyond the ends, the end."""
    right = torch.searchsorted(time, at).clamp(max=len(time) - 1)
    left = (right - 1).clamp(min=0)
    share = (at - time[left]) / (time[right] - time[left]).clamp(min=1)
    return left, right, share.double().clamp(0, 1)
