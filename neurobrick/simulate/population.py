"""Units that lead the hand: their tuning, how it changes from session to session, their spikes.

A unit's intensity is log-linear,

    rate(t) = exp(log_rate + gain(t) + tuning . features(t + lag)) * recovery(t - last spike)

with features(t) = position, velocity, speed and plan of the intended hand (`features`), a slow gain,
and a recovery that is 0 for 1.5 ms after a spike and then 1 - exp(-(x - 1.5 ms) / 3 ms)
(Berry & Meister 1998, J. Neurosci. 18:2200). Spike times are whole ticks of a 30 kHz clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .kinematics import SAMPLE_RATE, FloatArray, Kinematics

CLOCK = 30_000  # Hz
ABSOLUTE = 1.5e-3  # s without any spike after a spike
RELATIVE = 3.0e-3  # s, time constant of the recovery after that
DRIFT_EVERY = 30.0  # s between the knots of the gain

N_FEATURES = 7  # x, y, vx, vy, speed, plan x, plan y
POSITION_SCALE = 0.1  # m; positions are in units of it
SPEED_FLOOR = 0.05  # of the reach speed: rounds the tip of |v|


@dataclass(frozen=True)
class Population:
    """Units and what they are tuned to; one row a unit.

    `neuron` (n,) int64: an identity that lasts over sessions. `log_rate` (n,): log of the rate in Hz
    at rest, in the centre. `lag` (n,): s by which a unit leads the hand. `tuning` (n, 7): log gain
    for each of `features`.
    """

    neuron: NDArray[np.int64]
    log_rate: FloatArray
    lag: FloatArray
    tuning: FloatArray

    def __len__(self) -> int:
        return len(self.neuron)


def features(
    position: FloatArray, velocity: FloatArray, plan: FloatArray, reach_speed: float
) -> FloatArray:
    """What units are tuned to, (n, 7), from (n, 2) arrays in m, m/s and 0.1 m.

    Position in units of 0.1 m, velocity and speed in units of `reach_speed`, plan as it is.
    """
    scaled = velocity / reach_speed
    speed = np.sqrt(np.sum(scaled**2, axis=1) + SPEED_FLOOR**2) - SPEED_FLOOR
    return np.column_stack([position / POSITION_SCALE, scaled, speed, plan])


def new_units(n: int, first: int, rng: np.random.Generator) -> Population:
    """`n` units nobody saw before, numbered from `first`.

    Resting rates are log-normal with a median near 7 Hz, one unit in eight is nearly silent, lags are
    80 +- 30 ms, preferred directions uniform.
    """
    log_rate = np.log(8.0) + 0.8 * rng.standard_normal(n)
    silent = rng.random(n) < 0.12
    log_rate[silent] = np.log(0.2) + 0.6 * rng.standard_normal(int(silent.sum()))
    log_rate = np.minimum(log_rate, np.log(35.0))
    preferred = rng.uniform(0, 2 * np.pi, n)
    depth = np.minimum(0.6 * np.exp(0.45 * rng.standard_normal(n)), 1.4)
    velocity = _polar(depth, preferred)
    position = _polar(0.3 * np.exp(0.4 * rng.standard_normal(n)), preferred + 0.8 * rng.standard_normal(n))
    speed = 0.2 + 0.3 * rng.standard_normal(n)
    plan = _polar(0.3 * np.exp(0.4 * rng.standard_normal(n)), preferred + 1.2 * rng.standard_normal(n))
    return Population(
        neuron=np.arange(first, first + n),
        log_rate=log_rate,
        lag=np.clip(0.08 + 0.03 * rng.standard_normal(n), 0.0, 0.18),
        tuning=np.column_stack([position, velocity, speed, plan]),
    )


def next_session(population: Population, first: int, rng: np.random.Generator) -> Population:
    """The same array on another day: about 70 % of the units again, slightly changed, others new.

    Those that stay keep their order and come first; their tuning turns by 8 degrees (SD) and scales
    by 8 %, their rate changes by 12 %, their lag by 3 ms.
    """
    n = len(population)
    stays = np.flatnonzero(rng.random(n) < 0.7)
    turn = np.deg2rad(8.0) * rng.standard_normal(len(stays))
    scale = np.exp(0.08 * rng.standard_normal(len(stays)))
    tuning = population.tuning[stays] * scale[:, None]
    cosine, sine = np.cos(turn), np.sin(turn)
    for x, y in ((0, 1), (2, 3), (5, 6)):
        tuning[:, x], tuning[:, y] = (
            cosine * tuning[:, x] - sine * tuning[:, y],
            sine * tuning[:, x] + cosine * tuning[:, y],
        )
    new = new_units(n - len(stays), first, rng)
    log_rate = population.log_rate[stays] + 0.12 * rng.standard_normal(len(stays))
    lag = np.clip(population.lag[stays] + 0.003 * rng.standard_normal(len(stays)), 0.0, 0.18)
    return Population(
        neuron=np.concatenate([population.neuron[stays], new.neuron]),
        log_rate=np.concatenate([log_rate, new.log_rate]),
        lag=np.concatenate([lag, new.lag]),
        tuning=np.concatenate([tuning, new.tuning]),
    )


def draw_gain(n: int, duration: float, rng: np.random.Generator) -> FloatArray:
    """A slow drift of each unit's log rate: knots (n, m) every `DRIFT_EVERY` s, mean 0 a unit."""
    knots = np.cumsum(0.07 * rng.standard_normal((n, int(duration / DRIFT_EVERY) + 3)), axis=1)
    return np.asarray(knots - knots.mean(axis=1, keepdims=True), dtype=np.float64)


def gain_at(knots: FloatArray, t: FloatArray) -> FloatArray:
    """Log gain of one unit, from its knots (m,), at times `t` in s."""
    return np.interp(t, np.arange(len(knots)) * DRIFT_EVERY, knots)


def draw_spikes(
    population: Population,
    gain: FloatArray,
    motion: Kinematics,
    reach_speed: float,
    rng: np.random.Generator,
) -> list[FloatArray]:
    """Spike times of each unit in [0, duration), s, sorted, each k / 30000 exactly for a whole k."""
    seen = features(motion.position, motion.velocity, motion.plan, reach_speed)
    n = round(motion.duration * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    spikes = []
    for i in range(len(population)):
        ahead = round(population.lag[i] * SAMPLE_RATE)
        drive = seen[ahead : ahead + n] @ population.tuning[i]
        rate = np.exp(drive + gain_at(gain[i], t) + population.log_rate[i])
        spikes.append(_refractory(_poisson(rate, rng), rng))
    return spikes


def _poisson(rate: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct ticks of a Poisson process of `rate` (Hz, one value a sample): time rescaling."""
    expected = np.concatenate([[0.0], np.cumsum(rate)]) / SAMPLE_RATE
    count = rng.poisson(expected[-1])
    sample = np.interp(np.sort(rng.uniform(0, expected[-1], count)), expected, np.arange(len(expected)))
    return np.unique((sample * (CLOCK / SAMPLE_RATE)).astype(np.int64))


def _refractory(ticks: NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    """Thin candidate spikes by the recovery since the last one that was kept; seconds."""
    # -log(1 - u) turns "keep with probability 1 - exp(-(x - absolute) / relative)" into a threshold.
    needed = (ABSOLUTE + RELATIVE * rng.standard_exponential(len(ticks))) * CLOCK
    kept = []
    last = -CLOCK
    for tick, wait in zip(ticks.tolist(), needed.tolist(), strict=True):
        if tick - last >= wait:
            kept.append(tick)
            last = tick
    return np.array(kept, dtype=np.float64) / CLOCK


def _polar(length: FloatArray, angle: FloatArray) -> FloatArray:
    """Vectors (n, 2)."""
    return length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
