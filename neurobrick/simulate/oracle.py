"""An upper reference for decoders: the hand's velocity, decoded with the true model of the spikes.

The oracle knows each unit's true rate function (tuning, lag, gain, recovery after a spike) and the
statistics of the true hand. Of the hand in a session it sees the spikes only. Its state is the
hand's position, velocity, acceleration and plan, so that it also explains preparatory activity. Its
prior is a switching linear-Gaussian process, with one linear dynamics for each phase of
`kinematics` (rest, plan, six parts of a stroke), fitted on the true states.

1. Spikes are moved by their unit's lag and counted in 40 ms bins; a count is Poisson given the
   state, with the time that the unit was ready to fire as its exposure.
2. Laplace's approximation to the smoothed states under a prior without phases.
3. Twice: the probability of each phase by an interacting multiple model filter (Blom & Bar-Shalom
   1988, IEEE Trans. Autom. Control 33:780) and a backward pass (Kim 1994, J. Econom. 60:1), then
   the smoothed states under dynamics blended by these probabilities.
4. A linear read-out of the velocity from these states, fitted over the other four fifths of the
   session. It corrects the blur of the blended dynamics.

A session is cut into overlapping stretches, which are smoothed side by side. Bins of 20 ms would
give the same R2 for twice the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobrick.simulate.kinematics import N_PHASES, SAMPLE_RATE, FloatArray, Kinematics
from neurobrick.simulate.population import N_FEATURES, REACH, SPEED_FLOOR, Population, lost_exposure

BIN = 0.04  # s
CORE, MARGIN = 150, 40  # bins of a stretch that are used, and bins on either side for context
PACE = 0.1  # s; the state counts acceleration in reach speeds in that time
N_STATES = 8  # x, y, vx, vy, ax, ay, plan x, plan y
SEEN = [0, 1, 2, 3, 6, 7]  # the states that units are tuned to
LARGEST_STEP = 1.5  # of any log rate between linearizations
FOLDS, FOLD_LENGTH = 5, 100  # bins


class R2(NamedTuple):
    """Coefficients of determination of the hand's velocity: of each axis, and their mean."""

    x: float
    y: float
    mean: float


@dataclass(frozen=True)
class _Counts:
    """Spikes in bins of the hand's time."""

    spikes: FloatArray  # (n_bins, n_units) counts
    exposure: FloatArray  # (n_bins, n_units) s in which the unit was ready to fire
    base: FloatArray  # (n_bins, n_units) log rate at the centre of the workspace
    tuning: FloatArray  # (n_units, 7) change of the log rate with each of `population.features`


@dataclass(frozen=True)
class _Evidence:
    """The likelihood of the states given the spikes, as a Gaussian."""

    precision: FloatArray  # (n, 8, 8)
    linear: FloatArray  # (n, 8) precision times mean


@dataclass(frozen=True)
class _Dynamics:
    """x' = matrix x + offset + noise; k counts phases, or the bins of x'."""

    matrix: FloatArray  # (k, 8, 8)
    offset: FloatArray  # (k, 8)
    noise: FloatArray  # (k, 8, 8) covariance


@dataclass(frozen=True)
class _Prior:
    """The model of the states before any spike is seen."""

    dynamics: _Dynamics  # of each phase
    passing: FloatArray  # (n_phases, n_phases) probabilities of the next phase, a row each
    mean: FloatArray  # (8,)
    spread: FloatArray  # (8, 8) covariance


def r2(decoded: FloatArray, true: FloatArray) -> R2:
    """1 - SS_res / SS_tot for (n, 2) velocities."""
    residual = np.sum((decoded - true) ** 2, axis=0)
    x, y = 1 - residual / np.sum((true - true.mean(axis=0)) ** 2, axis=0)
    return R2(float(x), float(y), float((x + y) / 2))


def decode(
    population: Population,
    spikes: list[FloatArray],
    observed: FloatArray,
    motion: Kinematics,
    reach_speed: float,
) -> FloatArray:
    """The hand's velocity (n, 2) in m/s at `SAMPLE_RATE` from 0 s to the session's end.

    `spikes` were recorded during `observed` (m, 2), starts and stops in s. Only statistics of
    `motion` are used.
    """
    counts = _counts(population, spikes, observed, motion.duration)
    states, phases = _true_states(motion, reach_speed, len(counts.spikes))
    prior = _fit(states, phases, N_PHASES)
    plain = _fit(states, np.zeros_like(phases), 1)
    estimate, probability = np.tile(plain.mean, (len(states), 1)), np.ones((len(states), 1))
    for _ in range(4):
        evidence = _linearize(counts, estimate)
        smoothed = _smooth(evidence, _blend(plain.dynamics, probability, estimate), plain)
        estimate = _step(counts, estimate, smoothed)
    for _ in range(2):
        evidence = _linearize(counts, estimate)
        probability = _phase_probabilities(evidence, prior)
        estimate = _smooth(evidence, _blend(prior.dynamics, probability, estimate), prior)
    read = _read_out(estimate, probability, states)
    t = np.arange(round(motion.duration * SAMPLE_RATE)) / SAMPLE_RATE
    return _velocity_at(t, read) * reach_speed


def _counts(
    population: Population, spikes: list[FloatArray], observed: FloatArray, duration: float
) -> _Counts:
    """Spikes on the hand's clock: those of a unit are moved later by its lag."""
    n = int(np.ceil(duration / BIN))
    edges, centres = np.arange(n + 1) * BIN, (np.arange(n) + 0.5) * BIN
    recorded = np.concatenate([[0.0], np.cumsum(observed[:, 1] - observed[:, 0])])
    steps = observed.ravel(), np.stack([recorded[:-1], recorded[1:]], axis=1).ravel()
    count, exposure, base = np.zeros((n, len(spikes))), np.zeros((n, len(spikes))), []
    for i, (times, lag) in enumerate(zip(spikes, population.lag, strict=True)):
        base.append(population.log_rate[i] + population.gain_of(i, centres - lag))
        exposure[:, i] = np.diff(np.interp(edges - lag, *steps))
        times = times[times + lag < edges[-1]] + lag
        row = np.minimum((times / BIN).astype(np.int64), n - 1)
        count[:, i] = np.bincount(row, minlength=n)
        following = np.append(times[1:], np.inf)
        here = lost_exposure(np.maximum(np.minimum(following, edges[row + 1]) - times, 0))
        later = lost_exposure(np.minimum(following, edges[row + 1] + BIN) - times) - here
        exposure[:, i] -= np.bincount(row, here, n) + np.bincount(row + 1, later, n + 1)[:n]
    return _Counts(count, np.maximum(exposure, 0.0), np.stack(base, axis=1), population.tuning)


def _true_states(
    motion: Kinematics, reach_speed: float, n: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """States (n, 8), each in a unit of its own, and phases (n,) at the middle of each bin."""
    rows = np.round((np.arange(n) + 0.5) * BIN * SAMPLE_RATE).astype(np.int64)
    velocity = motion.velocity / reach_speed
    acceleration = np.gradient(velocity, 1 / SAMPLE_RATE, axis=0) * PACE
    columns = (motion.position / REACH, velocity, acceleration, motion.plan / REACH)
    return np.column_stack([column[rows] for column in columns]), motion.phase[rows]


def _fit(states: FloatArray, phases: NDArray[np.int64], n_phases: int) -> _Prior:
    """Dynamics of each phase of the later bin, by least squares, regularized towards the fit of the
    whole session."""
    before = np.column_stack([states[:-1], np.ones(len(states) - 1)])
    penalty = np.diag(3.0 * np.mean(before**2, axis=0))
    common = np.linalg.lstsq(before, states[1:], rcond=None)[0]
    fits, noises = [], []
    for phase in range(n_phases):
        rows = phases[1:] == phase
        x, residual = before[rows], states[1:][rows] - before[rows] @ common
        change = np.linalg.solve(x.T @ x + penalty, x.T @ residual)
        residual = residual - x @ change
        fits.append((common + change).T)
        noises.append(residual.T @ residual / max(len(x), 1) + 1e-6 * np.eye(N_STATES))
    passing = np.full((n_phases, n_phases), 0.1)
    np.add.at(passing, (phases[:-1], phases[1:]), 1.0)
    fitted = np.stack(fits)
    return _Prior(
        dynamics=_Dynamics(fitted[..., :N_STATES], fitted[..., N_STATES], np.stack(noises)),
        passing=passing / passing.sum(axis=1, keepdims=True),
        mean=states.mean(axis=0),
        spread=np.cov(states.T) + 1e-6 * np.eye(N_STATES),
    )


def _drive(states: FloatArray, tuning: FloatArray) -> FloatArray:
    """Log rate of each unit (n, n_units) above its base."""
    return _features(states)[0] @ tuning.T


def _features(states: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`population.features` of states (n, 7), and their derivatives (n, 7, 8)."""
    velocity = states[:, 2:4]
    speed = np.sqrt(np.sum(velocity**2, axis=1) + SPEED_FLOOR**2)
    value = np.column_stack([states[:, :4], speed - SPEED_FLOOR, states[:, 6:]])
    slope = np.zeros((len(states), N_FEATURES, N_STATES))
    slope[:, [0, 1, 2, 3, 5, 6], SEEN] = 1.0
    slope[:, 4, 2:4] = velocity / speed[:, None]
    return value, slope


def _linearize(counts: _Counts, states: FloatArray) -> _Evidence:
    """The Poisson likelihood as a Gaussian around `states`, with the expected information."""
    value, slope = _features(states)
    log_rate = counts.base + value @ counts.tuning.T
    expected = counts.exposure * np.exp(np.minimum(log_rate, 7.0))
    pairs = counts.tuning[:, :, None] * counts.tuning[:, None, :]
    information = (expected @ pairs.reshape(len(pairs), -1)).reshape(-1, N_FEATURES, N_FEATURES)
    precision = slope.swapaxes(1, 2) @ information @ slope
    score = ((counts.spikes - expected) @ counts.tuning)[:, None] @ slope
    return _Evidence(precision, score[:, 0] + (precision @ states[..., None])[..., 0])


def _step(counts: _Counts, old: FloatArray, new: FloatArray) -> FloatArray:
    """From old to new states; only part of the way where a log rate would change by too much."""
    change = np.abs(_drive(new, counts.tuning) - _drive(old, counts.tuning)).max(axis=1)
    part = np.minimum(1.0, LARGEST_STEP / np.maximum(change, 1e-9))
    return old + part[:, None] * (new - old)


def _blend(phases: _Dynamics, probability: FloatArray, states: FloatArray) -> _Dynamics:
    """One dynamics a bin with the first two moments of the mixture over phases, around `states`."""
    before = np.concatenate([states[:1], states[:-1]])
    each = np.einsum("pab,tb->tpa", phases.matrix, before) + phases.offset
    apart = each - np.einsum("tp,tpa->ta", probability, each)[:, None]
    return _Dynamics(
        matrix=np.tensordot(probability, phases.matrix, 1),
        offset=probability @ phases.offset,
        noise=np.tensordot(probability, phases.noise, 1)
        + (apart * probability[..., None]).swapaxes(1, 2) @ apart,
    )


def _stretches(n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Bins (length, n_stretches) of all stretches, and which of them lie inside the session."""
    first = np.arange(-(-n // CORE)) * CORE - MARGIN
    bins = first + np.arange(CORE + 2 * MARGIN)[:, None]
    return np.clip(bins, 0, n - 1), (bins >= 0) & (bins < n)


def _cores(stretched: FloatArray, n: int) -> FloatArray:
    """(length, n_stretches, …) back to (n, …)."""
    cores = stretched[MARGIN : MARGIN + CORE].swapaxes(0, 1)
    return cores.reshape(-1, *cores.shape[2:])[:n]


def _smooth(evidence: _Evidence, dynamics: _Dynamics, prior: _Prior) -> FloatArray:
    """The most probable states (n, 8): block-tridiagonal elimination, all stretches at once."""
    n = len(evidence.linear)
    bins, inside = _stretches(n)
    weight = np.linalg.inv(dynamics.noise)
    link = dynamics.matrix.swapaxes(1, 2) @ weight
    offset = dynamics.offset[..., None]
    coupling = -link[bins[1:]]
    diagonal = np.where(inside[..., None, None], evidence.precision[bins], 0.0)
    diagonal[0] += np.linalg.inv(prior.spread)
    diagonal[1:] += weight[bins[1:]]
    diagonal[:-1] += (link @ dynamics.matrix)[bins[1:]]
    right = np.where(inside[..., None], evidence.linear[bins], 0.0)[..., None]
    right[0] += np.linalg.solve(prior.spread, prior.mean)[:, None]
    right[1:] += (weight @ offset)[bins[1:]]
    right[:-1] -= (link @ offset)[bins[1:]]
    for k in range(len(bins) - 1):
        both = np.concatenate([coupling[k], right[k]], axis=-1)
        solved = np.linalg.solve(diagonal[k], both)
        back = coupling[k].swapaxes(1, 2) @ solved
        diagonal[k + 1] -= back[..., :-1]
        right[k + 1] -= back[..., -1:]
        coupling[k], right[k] = solved[..., :-1], solved[..., -1:]
    right[-1] = np.linalg.solve(diagonal[-1], right[-1])
    for k in range(len(bins) - 2, -1, -1):
        right[k] -= coupling[k] @ right[k + 1]
    return _cores(right[..., 0], n)


def _phase_probabilities(evidence: _Evidence, prior: _Prior) -> FloatArray:
    """The probability of each phase in each bin (n, n_phases), given all spikes."""
    n, n_phases = len(evidence.linear), len(prior.passing)
    bins, inside = _stretches(n)
    seen = evidence.precision[:, SEEN][:, :, SEEN]
    precision = np.where(inside[..., None, None], seen[bins], 0.0)
    linear = np.where(inside[..., None], evidence.linear[:, SEEN][bins], 0.0)
    shape = (bins.shape[1], n_phases)
    mean = np.broadcast_to(prior.mean, (*shape, N_STATES))
    spread = np.broadcast_to(prior.spread, (*shape, N_STATES, N_STATES))
    chance = np.full(shape, 1 / n_phases)
    filtered = np.empty((len(bins), *shape))
    for k in range(len(bins)):
        if k:
            chance, mean, spread = _predict(filtered[k - 1], mean, spread, prior)
        support, mean, spread = _update(precision[k][:, None], linear[k][:, None], mean, spread)
        chance = chance * np.exp(support - support.max(axis=1, keepdims=True)) + 1e-9
        filtered[k] = chance / chance.sum(axis=1, keepdims=True)
    for k in range(len(bins) - 2, -1, -1):
        joint = filtered[k][:, :, None] * prior.passing
        joint /= joint.sum(axis=1, keepdims=True)
        filtered[k] = (joint @ filtered[k + 1][..., None])[..., 0]
    return _cores(filtered, n)


def _predict(
    chance: FloatArray, mean: FloatArray, spread: FloatArray, prior: _Prior
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One bin ahead: the mixture over all phases, as one Gaussian for each next phase."""
    joint = chance[:, :, None] * prior.passing
    chance = joint.sum(axis=1)
    origin = (joint / chance[:, None]).swapaxes(1, 2)
    merged = origin @ mean
    apart = mean[:, None] - merged[:, :, None]
    flat = origin @ spread.reshape(*spread.shape[:2], -1)
    spread = flat.reshape(spread.shape) + (apart * origin[..., None]).swapaxes(2, 3) @ apart
    matrix = prior.dynamics.matrix
    mean = (matrix @ merged[..., None])[..., 0] + prior.dynamics.offset
    return chance, mean, matrix @ spread @ matrix.swapaxes(1, 2) + prior.dynamics.noise


def _update(
    precision: FloatArray, linear: FloatArray, mean: FloatArray, spread: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Add the evidence on the seen states. Returns its log likelihood, the new mean and spread."""
    across = spread[..., SEEN]
    expected = mean[..., SEEN]
    pull = (precision @ expected[..., None])[..., 0]
    surprise = linear - pull
    growth = np.eye(len(SEEN)) + precision @ across[..., SEEN, :]
    right = np.concatenate([precision @ across.swapaxes(2, 3), surprise[..., None]], axis=-1)
    change = across @ np.linalg.solve(growth, right)
    shift = change[..., -1]
    support = np.sum((linear - 0.5 * pull) * expected + 0.5 * surprise * shift[..., SEEN], axis=-1)
    support -= 0.5 * np.log(np.linalg.det(growth))
    spread = spread - change[..., :-1]
    return support, mean + shift, 0.5 * (spread + spread.swapaxes(2, 3))


def _read_out(estimate: FloatArray, probability: FloatArray, states: FloatArray) -> FloatArray:
    """Estimated states, with velocity and acceleration corrected by cross-fitted least squares."""
    n = len(estimate)
    around = np.pad(estimate, ((5, 5), (0, 0)), mode="edge")
    lagged = [around[k : k + n] for k in range(11)]
    gated = (probability[:, :, None] * estimate[:, None]).reshape(n, -1)
    inputs = np.column_stack([*lagged, gated, np.ones(n)])
    moving = slice(2, 6)
    fold = np.arange(n) // FOLD_LENGTH % FOLDS
    corrected = estimate.copy()
    for k in range(FOLDS):
        x, error = inputs[fold != k], (states - estimate)[fold != k, moving]
        weights = np.linalg.solve(x.T @ x + 0.3 * np.eye(x.shape[1]), x.T @ error)
        corrected[fold == k, moving] += inputs[fold == k] @ weights
    return corrected


def _velocity_at(t: FloatArray, states: FloatArray) -> FloatArray:
    """Velocity (n, 2) in units of the reach speed at times `t`: cubic Hermite between the bins."""
    position = np.clip(t / BIN - 0.5, 0.0, len(states) - 1.0)
    left = np.minimum(position.astype(np.int64), len(states) - 2)
    s = (position - left)[:, None]
    v0, v1 = states[left, 2:4], states[left + 1, 2:4]
    a0, a1 = (states[row, 4:6] * (BIN / PACE) for row in (left, left + 1))
    rise = s * s * (3 - 2 * s)
    return v0 + rise * (v1 - v0) + s * (1 - s) * ((1 - s) * a0 - s * a1)
