"""Units that lead the hand: their tuning, how it changes from session to session, their spikes.

A unit's intensity is log-linear,

    rate(t) = exp(log_rate + gain(t) + tuning . features(t + lag)) * recovery(t - last spike)

with features = position, velocity, speed and plan of the intended hand, a slow gain, and a recovery
that is 0 for 1.5 ms after a spike and then 1 - exp(-(x - 1.5 ms) / 3 ms) (the free firing rate and
recovery function of Berry & Meister 1998, J. Neurosci. 18:2200). A spike time is a whole number of
ticks of a 30 kHz clock. `subjects` says how the parameters of units are distributed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurobrick.simulate.kinematics import SAMPLE_RATE, FloatArray, Kinematics
from neurobrick.simulate.subjects import Subject

CLOCK = 30_000  # Hz
ABSOLUTE = 1.5e-3  # s without any spike after a spike
RELATIVE = 3.0e-3  # s, time constant of the recovery after that
LONGEST_LAG = 0.18  # s
GAIN_KNOTS = 30.0  # s between the knots of the gain

HIGHEST_RATE = 35.0  # Hz at rest
DEEPEST = 1.5  # change of a log rate with velocity
REACH = 0.1  # m; positions and plans count in units of it
N_FEATURES = 7  # x, y, vx, vy, speed, plan x, plan y
SPEED_FLOOR = 0.05  # of the reach speed; rounds the tip of |v|

# Two arrays of 96 electrodes; 1031 is the first unit on electrode 3 of array 1.
IDS = np.array([1000 * a + 10 * e + u for u in (1, 2, 3) for a in (1, 2) for e in range(1, 97)])


@dataclass(frozen=True, kw_only=True)
class Population:
    """The units of one session and their tuning: one row a unit, sorted by id."""

    id: NDArray[np.int64]  # (n,) array, electrode and unit on it; kept while the unit is recorded
    neuron: NDArray[np.int64]  # (n,) an identity that is never used again
    log_rate: FloatArray  # (n,) log of the rate in Hz, at rest in the centre
    lag: FloatArray  # (n,) s by which a unit leads the hand
    tuning: FloatArray  # (n, 7) change of the log rate with each of `features`
    gain: FloatArray  # (n, m) slow change of the log rate, at knots every `GAIN_KNOTS` s

    def __len__(self) -> int:
        return len(self.id)

    def gain_of(self, unit: int, t: FloatArray) -> FloatArray:
        """The slow change of one unit's log rate, at times `t` in s."""
        return np.interp(t, np.arange(self.gain.shape[1]) * GAIN_KNOTS, self.gain[unit])


def features(motion: Kinematics, reach_speed: float) -> FloatArray:
    """The variables that units are tuned to, (n, 7).

    Position and plan are in units of `REACH`, velocity and speed in units of `reach_speed` (m/s).
    """
    velocity = motion.velocity / reach_speed
    speed = np.sqrt(np.sum(velocity**2, axis=1) + SPEED_FLOOR**2) - SPEED_FLOOR
    return np.column_stack([motion.position / REACH, velocity, speed, motion.plan / REACH])


def first_session(subject: Subject, n: int, minutes: float, rng: np.random.Generator) -> Population:
    """`n` units, at most `len(IDS)`."""
    return _sorted(_new_units(subject, n, IDS, 0, minutes, rng))


def next_session(
    subject: Subject, before: Population, n: int, minutes: float, rng: np.random.Generator
) -> Population:
    """The same arrays on another day: `n` units, most of them recorded `before`, slightly changed.

    The tuning of a unit that stays turns by 8 degrees (SD) and scales by 8 %, its rate changes by
    12 %, its lag by 3 ms.
    """
    chance = rng.random(len(before))
    # At least one unit is new, so that the newest has the highest number of all that ever were.
    room = n if n >= len(before) else n - 1
    staying = min(room, int(np.sum(chance < subject.staying)))
    stays = np.sort(np.argsort(chance)[:staying])
    turn = np.deg2rad(8.0) * rng.standard_normal(staying)
    tuning = before.tuning[stays] * np.exp(0.08 * rng.standard_normal((staying, 1)))
    for x, y in ((0, 1), (2, 3), (5, 6)):
        tuning[:, [x, y]] = np.column_stack(
            [
                np.cos(turn) * tuning[:, x] - np.sin(turn) * tuning[:, y],
                np.sin(turn) * tuning[:, x] + np.cos(turn) * tuning[:, y],
            ]
        )
    old = Population(
        id=before.id[stays],
        neuron=before.neuron[stays],
        log_rate=before.log_rate[stays] + 0.12 * rng.standard_normal(staying),
        lag=_lags(before.lag[stays] + 0.003 * rng.standard_normal(staying)),
        tuning=tuning,
        gain=_drift(subject, staying, minutes, rng),
    )
    free = np.setdiff1d(IDS, old.id)
    newest = int(before.neuron.max())
    new = _new_units(subject, n - staying, free, newest + 1, minutes, rng)
    return _sorted(old, new)


def draw_spikes(
    population: Population, motion: Kinematics, reach_speed: float, rng: np.random.Generator
) -> list[FloatArray]:
    """Spike times of each unit in [0, duration), s, sorted; each is k / 30000 for a whole k."""
    seen = np.ascontiguousarray(features(motion, reach_speed).T)
    n = round(motion.duration * SAMPLE_RATE)
    t, samples = np.arange(n) / SAMPLE_RATE, np.arange(n + 1.0)
    spikes = []
    for i in range(len(population)):
        ahead = round(population.lag[i] * SAMPLE_RATE)
        log_rate = population.tuning[i] @ seen[:, ahead : ahead + n]
        log_rate += population.gain_of(i, t)
        log_rate += population.log_rate[i]
        rate = np.exp(log_rate, out=log_rate)
        spikes.append(_refractory(_poisson(rate, samples, rng), rng))
    return spikes


def lost_exposure(since: FloatArray) -> FloatArray:
    """The integral of 1 - recovery from a spike to `since` s (not negative) after it: s lost."""
    return np.minimum(since, ABSOLUTE) + RELATIVE * -np.expm1(
        -np.maximum(since - ABSOLUTE, 0) / RELATIVE
    )


def _new_units(
    subject: Subject,
    n: int,
    free: NDArray[np.int64],
    neuron: int,
    minutes: float,
    rng: np.random.Generator,
) -> Population:
    """`n` units that were never recorded before, on `free` ids, numbered from `neuron`.

    Resting rates are log-normal, except that some units are nearly silent. Preferred directions of
    position and plan are only loosely related to those of velocity.
    """
    log_rate = np.log(subject.rate) + 0.8 * rng.standard_normal(n)
    log_rate = np.minimum(log_rate, np.log(HIGHEST_RATE))
    silent = rng.random(n) < subject.silent
    log_rate[silent] = np.log(0.2) + 0.6 * rng.standard_normal(int(silent.sum()))
    preferred = subject.directions(n, rng)
    depth = np.minimum(subject.velocity * np.exp(0.45 * rng.standard_normal(n)), DEEPEST)
    velocity = _polar(depth, preferred)
    loosely = preferred + 0.8 * rng.standard_normal(n)
    position = _polar(subject.position * np.exp(0.4 * rng.standard_normal(n)), loosely)
    speed = subject.speed + 0.3 * rng.standard_normal(n)
    loosely = preferred + 1.2 * rng.standard_normal(n)
    plan = _polar(subject.plan * np.exp(0.4 * rng.standard_normal(n)), loosely)
    return Population(
        id=rng.choice(free, n, replace=False),
        neuron=np.arange(neuron, neuron + n),
        log_rate=log_rate,
        lag=_lags(subject.lag + 0.03 * rng.standard_normal(n)),
        tuning=np.column_stack([position, velocity, speed, plan]),
        gain=_drift(subject, n, minutes, rng),
    )


def _lags(lag: FloatArray) -> FloatArray:
    """Lags in s, as whole milliseconds in a plausible range."""
    return np.asarray(np.clip(lag, 0.0, LONGEST_LAG).round(3), dtype=np.float64)


def _drift(subject: Subject, n: int, minutes: float, rng: np.random.Generator) -> FloatArray:
    """A random walk a unit (n, m), at knots; the mean of each is 0."""
    steps = rng.standard_normal((n, int(60 * minutes / GAIN_KNOTS) + 3))
    walk = np.cumsum(subject.drift * steps, axis=1)
    return np.asarray(walk - walk.mean(axis=1, keepdims=True), dtype=np.float64)


def _sorted(*parts: Population) -> Population:
    """Populations joined, sorted by id."""
    order = np.argsort(np.concatenate([part.id for part in parts]))
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in Population.__dataclass_fields__
    }
    return Population(**columns)


def _poisson(rate: FloatArray, samples: FloatArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct ticks of a Poisson process of `rate` (Hz, one value a sample): time rescaling.

    `samples` are the numbers of the samples' edges, one more than `rate` has values.
    """
    expected = np.zeros(len(samples))
    np.cumsum(rate, out=expected[1:])
    expected /= SAMPLE_RATE
    drawn = np.sort(rng.uniform(0, expected[-1], rng.poisson(expected[-1])))
    sample = np.interp(drawn, expected, samples)
    return np.unique((sample * (CLOCK / SAMPLE_RATE)).astype(np.int64))


def _refractory(ticks: NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    """Thin candidate spikes by the recovery since the last spike that was kept. Returns seconds."""
    # A candidate x after that spike is kept if x exceeds a random waiting time. The probability of
    # that is recovery(x).
    waits = (ABSOLUTE + RELATIVE * rng.standard_exponential(len(ticks))) * CLOCK
    kept = []
    last = -CLOCK
    for tick, wait in zip(ticks.tolist(), waits.tolist(), strict=True):
        if tick - last >= wait:
            kept.append(tick)
            last = tick
    return np.array(kept, dtype=np.float64) / CLOCK


def _polar(length: FloatArray, angle: FloatArray) -> FloatArray:
    """Vectors (n, 2) of a length and an angle in rad."""
    return length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
