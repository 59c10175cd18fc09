"""Delayed reaches of a hand in the plane, at 1 kHz, with what a motor cortex would plan.

A session is a list of strokes: minimum-jerk displacements (Flash & Hogan 1985, J. Neurosci. 5:1688)
with a skewed clock and a bow to one side. A reach is a main stroke that falls a little short or wide
and a corrective one; the way back, and what the hand does between trials, are strokes as well.
The hand that is recorded is the intended one plus tremor, which no unit encodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Result = Literal["R", "A", "F", "I"]

SAMPLE_RATE = 1000.0  # Hz
WOBBLE = 0.008  # m of RMS deviation for each m/s of speed (Harris & Wolpert 1998, Nature 394:780)
TAIL = 1.0  # s simulated beyond the end, because units lead the hand

# Phases of the hand, as the oracle's prior distinguishes them.
RESTING, PLANNING, MOVING = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """How one laboratory's reaching task runs; lengths in m, times in s.

    `directions` is the number of equally spaced targets, 0 for anywhere; `between` the range of the
    time from a trial's end to the next one's start, 0 where the recording skips to the next tenth of
    a second; `barriers` the chance that a reach is bowed around an obstacle; `reach_speed` a typical
    peak speed in m/s, by which tuning is scaled.
    """

    distance: tuple[float, float]
    directions: int
    barriers: float
    delay: tuple[float, float]
    movement: tuple[float, float]
    between: tuple[float, float]
    failures: float
    reach_speed: float


MAZE = Task(
    distance=(0.06, 0.14),
    directions=0,
    barriers=0.4,
    delay=(0.35, 0.95),
    movement=(0.38, 0.65),
    between=(0.0, 0.0),
    failures=0.08,
    reach_speed=0.35,
)
CENTER_OUT = Task(
    distance=(0.08, 0.08),
    directions=8,
    barriers=0.0,
    delay=(0.4, 1.1),
    movement=(0.35, 0.6),
    between=(1.2, 2.4),
    failures=0.15,
    reach_speed=0.27,
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attempt: times in s from the session's start (NaN: did not happen), places in m.

    `result` is R (rewarded), A (aborted before the go cue), F (the reach missed) or I (no reach).
    """

    start: float
    stop: float
    target_on: float
    go_cue: float
    move_onset: float
    delay: float
    target: tuple[float, float]
    direction: float
    barriers: tuple[tuple[float, float, float, float], ...]
    result: Result


@dataclass(frozen=True, kw_only=True)
class Kinematics:
    """A session's motion, sampled at `SAMPLE_RATE` from 0 s; `TAIL` seconds longer than `duration`.

    `position`, `velocity` (n, 2): the intended hand, m and m/s. `plan` (n, 2): what is prepared, the
    vector to the target in units of 0.1 m between target onset and movement, else 0. `phase` (n,).
    `recorded`, `recorded_velocity` (n, 2): with tremor. `gaze` (n, 2): m.
    """

    duration: float
    position: FloatArray
    velocity: FloatArray
    plan: FloatArray
    phase: NDArray[np.int8]
    progress: FloatArray
    recorded: FloatArray
    recorded_velocity: FloatArray
    gaze: FloatArray
    trials: tuple[Trial, ...]


class _Script:
    """What happens when, as it is written down: strokes, plans and glances, and where the hand is."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hand = np.zeros(2)
        self.free = 0.0  # when the last stroke ends
        self.strokes: list[tuple[float, float, FloatArray, float, float]] = []
        self.plans: list[tuple[float, float, FloatArray]] = []
        self.glances: list[tuple[float, FloatArray]] = [(0.0, np.zeros(2))]

    def stroke(self, start: float, length: float, to: FloatArray, bow: float) -> None:
        """Move the hand to `to` within `length` seconds, at most `bow` metres off the straight line."""
        skew = float(self.rng.uniform(-0.35, 0.15))
        self.strokes.append((start, length, to - self.hand, bow, skew))
        self.hand = to
        self.free = max(self.free, start + length)

    def go_to(self, start: float, length: float, to: FloatArray, bow: float, miss: float) -> None:
        """A main stroke that ends about `miss` of the way off, then a correction that overlaps it."""
        way = to - self.hand
        off = self.rng.normal(0.0, miss, 2)
        aim = to + way * (off[0] - 0.5 * miss) + np.array([-way[1], way[0]]) * off[1]
        self.stroke(start, length, aim, bow)
        if self.rng.random() < 0.7:
            late = start + length * self.rng.uniform(0.7, 1.0)
            self.stroke(late, self.rng.uniform(0.2, 0.32), to, 0.0)


def reaches(task: Task, minutes: float, rng: np.random.Generator) -> Kinematics:
    """A session of `task` of about `minutes`, whole trials only, with the last trial's end as its own."""
    script = _Script(rng)
    trials: list[Trial] = []
    start = 0.0 if task.between[1] == 0 else float(np.round(rng.uniform(*task.between), 3))
    while True:
        trial = _trial(task, script, start)
        if trial.stop > 60.0 * minutes and trials:
            break
        trials.append(trial)
        start = _next_start(task, script, trial.stop)
    return _render(script, tuple(trials))


def _next_start(task: Task, script: _Script, stop: float) -> float:
    """When the next trial starts; between trials of a continuous recording the hand wanders back."""
    if task.between[1] == 0:
        return float(np.ceil(np.round(stop * 10, 6)) / 10)  # the next tenth of a second
    gap = float(script.rng.uniform(*task.between))
    _return(script, stop + 0.15, gap - 0.15)
    return round(stop + gap, 3)


def _return(script: _Script, start: float, room: float) -> None:
    """Back to the centre within `room` seconds, sometimes by way of somewhere else."""
    rng = script.rng
    start = max(start, script.free)
    if room > 1.3 or rng.random() < 0.15:
        detour = rng.uniform(0.35, 0.5)
        script.stroke(start, detour, script.hand * 0.5 + rng.normal(0.0, 0.025, 2), rng.normal(0, 0.008))
        start += detour * rng.uniform(0.8, 1.2)
    home = rng.normal(0.0, 0.004, 2)
    script.go_to(start, rng.uniform(0.4, 0.65), home, rng.normal(0.0, 0.006), miss=0.08)


def _trial(task: Task, script: _Script, start: float) -> Trial:
    """One attempt from `start`, written into the script."""
    rng = script.rng
    angle = 2 * np.pi * (rng.integers(task.directions) / task.directions if task.directions else rng.random())
    distance = rng.uniform(*task.distance)
    target = distance * np.array([np.cos(angle), np.sin(angle)])
    result: Result = "R"
    if rng.random() < task.failures:
        result = ("A", "F", "I")[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
    if task.between[1] == 0 and np.hypot(*script.hand) > 0.02:
        _return(script, start + rng.uniform(0.05, 0.2), 1.0)
    target_on = max(start, script.free) + rng.uniform(0.25, 0.5)
    script.glances.append((script.free, np.zeros(2)))
    delay = rng.uniform(*task.delay)
    go_cue = target_on + delay
    onset = go_cue + float(np.clip(rng.normal(0.3, 0.05), 0.18, 0.5))
    script.glances.append((target_on + rng.uniform(0.16, 0.26), target))
    bow, barriers = _obstacle(task, rng, target)
    move_onset = np.nan
    if result == "A":
        quit_at = target_on + rng.uniform(0.15, 0.85) * delay
        script.plans.append((target_on, quit_at, target))
        script.stroke(quit_at, rng.uniform(0.3, 0.45), script.hand + rng.normal(0.0, 0.02, 2), 0.0)
        stop, go_cue = quit_at + 0.25, np.nan
    elif result == "I":
        script.plans.append((target_on, go_cue + 0.4, target))
        stop = go_cue + rng.uniform(0.8, 1.0)
    else:
        script.plans.append((target_on, onset, target))
        length = rng.uniform(*task.movement) * (distance / max(task.distance)) ** 0.3
        end = target if result == "R" else target * rng.uniform(0.6, 0.8) + rng.normal(0.0, 0.01, 2)
        script.go_to(onset, length, end, bow, miss=0.06)
        stop, move_onset = script.free + rng.uniform(0.3, 0.5), onset
    times = np.round([start, stop, target_on, go_cue, move_onset, delay], 3).tolist()
    return Trial(
        start=times[0], stop=times[1], target_on=times[2], go_cue=times[3], move_onset=times[4],
        delay=times[5], target=(float(target[0]), float(target[1])), direction=float(angle),
        barriers=barriers, result=result,
    )


def _obstacle(
    task: Task, rng: np.random.Generator, target: FloatArray
) -> tuple[float, tuple[tuple[float, float, float, float], ...]]:
    """How far the reach is bowed (m), and the barriers that make it so (x, y, half width, half height)."""
    bow = float(rng.normal(0.0, 0.004))
    if rng.random() >= task.barriers:
        return bow, ()
    side = 1.0 if rng.random() < 0.5 else -1.0
    bow += side * rng.uniform(0.3, 0.5) * float(np.hypot(*target))
    middle = 0.5 * target
    wing = 1.3 * target
    return bow, ((*middle.tolist(), 0.012, 0.012), (*wing.tolist(), 0.02, 0.008))


def _render(script: _Script, trials: tuple[Trial, ...]) -> Kinematics:
    """Sample a script at 1 kHz."""
    rng = script.rng
    duration = trials[-1].stop
    n = round((duration + TAIL) * SAMPLE_RATE)
    position, busy = np.zeros((n, 2)), np.zeros(n, dtype=bool)
    progress, fastest = np.full(n, np.nan), np.zeros(n)
    for start, length, displacement, bow, skew in script.strokes:
        first, last = (int(np.clip(t * SAMPLE_RATE + 1, 0, n)) for t in (start, start + length))
        s = (np.arange(first, last) / SAMPLE_RATE - start) / length
        s += skew * s * (1 - s)
        along = s**3 * (10 - 15 * s + 6 * s**2)
        aside = 64 * (s * (1 - s)) ** 3 * bow / (np.hypot(*displacement) + 1e-9)
        normal = np.array([-displacement[1], displacement[0]])
        position[first:last] += np.outer(along, displacement) + np.outer(aside, normal)
        position[last:] += displacement
        busy[first:last] = True
        pace = (s * (1 - s)) ** 2 * np.hypot(*displacement) / length
        leads = pace >= fastest[first:last]
        progress[first:last][leads] = s[leads]
        fastest[first:last] = np.maximum(pace, fastest[first:last])
    pace = np.hypot(*np.gradient(position, 1 / SAMPLE_RATE, axis=0).T)[:, None]
    position += WOBBLE * pace * _band_noise(rng, n, 0.8, 4.0, 1.0)  # noise that grows with speed
    position += _band_noise(rng, n, 0.1, 1.2, 0.8e-3)  # sway
    recorded = position + _band_noise(rng, n, 7.0, 11.0, 0.06e-3)
    plan = _plan(script, n)
    phase = np.where(busy, MOVING, np.where(np.any(np.abs(plan) > 0.05, axis=1), PLANNING, RESTING))
    return Kinematics(
        duration=duration,
        position=position,
        velocity=np.gradient(position, 1 / SAMPLE_RATE, axis=0),
        plan=plan,
        phase=phase.astype(np.int8),
        progress=progress,
        recorded=recorded,
        recorded_velocity=np.gradient(recorded, 1 / SAMPLE_RATE, axis=0),
        gaze=_gaze(script, n),
        trials=trials,
    )


def _plan(script: _Script, n: int) -> FloatArray:
    """Preparation: rises within 0.15 s of the target's onset, and gives way to the movement."""
    plan = np.zeros((n, 2))
    t = np.arange(n) / SAMPLE_RATE
    for shown, over, target in script.plans:
        rows = slice(round(shown * SAMPLE_RATE), min(n, round((over + 0.2) * SAMPLE_RATE)))
        rise = _ramp((t[rows] - shown - 0.13) / 0.15)
        fall = _ramp((t[rows] - over + 0.02) / 0.15)
        plan[rows] += np.outer(rise * (1 - fall), target / 0.1)
    return plan


def _gaze(script: _Script, n: int) -> FloatArray:
    """Fixations joined by saccades of 40 ms, with a millimetre of wander."""
    times, places = [], []
    before = script.glances[0][1]
    for time, place in sorted(script.glances, key=lambda glance: glance[0]):
        times += [time, time + 0.04]
        places += [before, place]
        before = place
    t = np.arange(n) / SAMPLE_RATE
    gaze = np.stack([np.interp(t, times, np.array(places)[:, axis]) for axis in (0, 1)], axis=1)
    return gaze + _band_noise(script.rng, n, 0.2, 3.0, 1e-3)


def _ramp(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _band_noise(rng: np.random.Generator, n: int, low: float, high: float, rms: float) -> FloatArray:
    """Gaussian noise (n, 2) between two frequencies (Hz, soft edges), of the given RMS per axis."""
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    gain = 1 / (1 + (low / np.maximum(frequency, 1e-9)) ** 8) / (1 + (frequency / high) ** 8)
    shape = (len(frequency), 2)
    spectrum = gain[:, None] * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    noise = np.fft.irfft(spectrum, n, axis=0)
    return np.asarray(noise * (rms / noise.std(axis=0)), dtype=np.float64)
