"""Units that lead the hand: their tuning, how it changes from session to session, their spikes.

A unit's intensity is log-linear,

    rate(t) = exp(log_rate + gain(t) + tuning . features(t + lag)) * recovery(t - last spike)

with features = position, velocity, speed and plan of the intended hand, a slow gain, and a recovery
that is 0 for 1.5 ms after a spike and then 1 - exp(-(x - 1.5 ms) / 3 ms) (the free firing rate and
recovery function of Berry & Meister 1998, J. Neurosci. 18:2200). A spike time is a whole number of
ticks of a 30 kHz clock. How units are distributed is their subject's (`subjects`).
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
    """The units of one session and what they are tuned to; one row a unit, rows sorted by id.

    `id` (n,): array, electrode and unit on it, kept as long as the unit is found again. `neuron`
    (n,): an identity that nothing else ever gets. `log_rate` (n,): log of the rate in Hz at rest in
    the centre. `lag` (n,): s by which a unit leads the hand. `tuning` (n, 7): change of the log
    rate with each of `features`. `gain` (n, m): what drifts of the log rate, every `GAIN_KNOTS` s.
    """

    id: NDArray[np.int64]
    neuron: NDArray[np.int64]
    log_rate: FloatArray
    lag: FloatArray
    tuning: FloatArray
    gain: FloatArray

    def __len__(self) -> int:
        return len(self.id)

    def gain_of(self, unit: int, t: FloatArray) -> FloatArray:
        """What drifts of one unit's log rate, at times `t` in s."""
        return np.interp(t, np.arange(self.gain.shape[1]) * GAIN_KNOTS, self.gain[unit])


def features(motion: Kinematics, reach_speed: float) -> FloatArray:
    """What units are tuned to, (n, 7): position and plan in units of `REACH`, velocity and speed in
    units of `reach_speed` (m/s)."""
    velocity = motion.velocity / reach_speed
    speed = np.sqrt(np.sum(velocity**2, axis=1) + SPEED_FLOOR**2) - SPEED_FLOOR
    return np.column_stack([motion.position / REACH, velocity, speed, motion.plan / REACH])


def first_session(subject: Subject, n: int, minutes: float, rng: np.random.Generator) -> Population:
    """`n` units; at most as many as there are `IDS`."""
    return _sorted(_new_units(subject, n, IDS, 0, minutes, rng))


def next_session(
    subject: Subject, before: Population, n: int, minutes: float, rng: np.random.Generator
) -> Population:
    """The same arrays on another day: `n` units, most of them those of before, slightly changed.

    The tuning of those turns by 8 degrees (SD) and scales by 8 %, their rates change by 12 %, their
    lags by 3 ms.
    """
    chance = rng.random(len(before))
    # Where one leaves, one comes: the newest then has the highest number of all that ever were.
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
    """Seconds that the recovery costs within `since` s (not negative) of a spike: its integral."""
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
    """`n` units nobody saw before, on `free` ids, numbered from `neuron`.

    Resting rates are log-normal, but some units are nearly silent; preferred directions of
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
    """Whole milliseconds in a plausible range."""
    return np.asarray(np.clip(lag, 0.0, LONGEST_LAG).round(3), dtype=np.float64)


def _drift(subject: Subject, n: int, minutes: float, rng: np.random.Generator) -> FloatArray:
    """Knots of a random walk, mean 0 a unit."""
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

    `samples` are the numbers of the samples' edges, of which there is one more.
    """
    expected = np.zeros(len(samples))
    np.cumsum(rate, out=expected[1:])
    expected /= SAMPLE_RATE
    drawn = np.sort(rng.uniform(0, expected[-1], rng.poisson(expected[-1])))
    sample = np.interp(drawn, expected, samples)
    return np.unique((sample * (CLOCK / SAMPLE_RATE)).astype(np.int64))


def _refractory(ticks: NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    """Thin candidate spikes by the recovery since the last one that was kept; seconds."""
    # A candidate survives with probability recovery(x) exactly when x exceeds such a waiting time.
    waits = (ABSOLUTE + RELATIVE * rng.standard_exponential(len(ticks))) * CLOCK
    kept = []
    last = -CLOCK
    for tick, wait in zip(ticks.tolist(), waits.tolist(), strict=True):
        if tick - last >= wait:
            kept.append(tick)
            last = tick
    return np.array(kept, dtype=np.float64) / CLOCK


def _polar(length: FloatArray, angle: FloatArray) -> FloatArray:
    """Vectors (n, 2)."""
    return length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
