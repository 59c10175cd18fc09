"""Delayed reaches of a hand in the plane, at 1 kHz, with what a motor cortex would plan.

A session is a list of strokes: minimum-jerk displacements (Flash & Hogan 1985, J. Neurosci. 5:1688)
with a skewed clock and a bow to one side. A reach is a main stroke that ends a little off and a
corrective one; the way back, and what the hand does between trials, are strokes as well. To these
come sway, noise that grows with speed, and in what is recorded tremor, which no unit encodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Place = tuple[float, float]
Result = Literal["R", "A", "F", "I"]

SAMPLE_RATE = 1000  # Hz
TAIL = 1.0  # s simulated beyond the end, because units lead the hand
SWAY = 0.8e-3  # m RMS, below 1.2 Hz
TREMOR = 0.06e-3  # m RMS, 7 to 11 Hz
WOBBLE = 0.008  # m RMS for each m/s of speed, 0.8 to 4 Hz (Harris & Wolpert 1998, Nature 394:780)

# What the hand is doing: at rest, at rest with a plan, or in one of six parts of a stroke.
RESTING, PLANNING, MOVING = 0, 1, 2
STROKE_PARTS = 6
N_PHASES = MOVING + STROKE_PARTS


@dataclass(frozen=True, kw_only=True)
class Task:
    """How one laboratory's reaching task runs; lengths in m, times in s.

    `directions` is the number of equally spaced targets, 0 for anywhere; `between` the range of the
    time from a trial's end to the next one's start, or None where the recording skips to the next
    tenth of a second; `barriers` the chance that a reach is bowed around an obstacle; `reach_speed`
    a typical peak speed in m/s, in units of which units are tuned to velocity.
    """

    distance: tuple[float, float]
    directions: int
    barriers: float
    delay: tuple[float, float]
    movement: tuple[float, float]
    between: tuple[float, float] | None
    failures: float
    reach_speed: float


MAZE = Task(
    distance=(0.06, 0.14),
    directions=0,
    barriers=0.4,
    delay=(0.35, 0.95),
    movement=(0.38, 0.65),
    between=None,
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

    `direction` is the angle of the target; `decoys` are shown with it and not reached for;
    `barriers` are boxes (x, y, half width, half height). `result` is R (rewarded), A (aborted
    before the go cue), F (the reach missed) or I (no reach).
    """

    start: float
    stop: float
    target_on: float
    go_cue: float
    move_onset: float
    delay: float
    target: Place
    direction: float
    decoys: tuple[Place, ...]
    barriers: tuple[tuple[float, float, float, float], ...]
    result: Result


@dataclass(frozen=True, kw_only=True)
class Kinematics:
    """A session's motion, sampled at `SAMPLE_RATE` from 0 s; `TAIL` seconds longer than `duration`.

    `position`, `velocity` (n, 2): the intended hand, m and m/s. `plan` (n, 2): what is prepared,
    the vector to the target in m between target onset and movement, else 0. `phase` (n,): below
    `N_PHASES`. `recorded`, `recorded_velocity` (n, 2): with tremor. `gaze` (n, 2): m.
    """

    duration: float
    position: FloatArray
    velocity: FloatArray
    plan: FloatArray
    phase: NDArray[np.int64]
    recorded: FloatArray
    recorded_velocity: FloatArray
    gaze: FloatArray
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Stroke:
    start: float
    length: float
    displacement: FloatArray
    bow: float
    skew: float


class _Script:
    """A session as it is written down: strokes, plans, glances, and where the hand is by now."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hand = np.zeros(2)
        self.free = 0.0  # when the last stroke ends
        self.strokes: list[_Stroke] = []
        self.plans: list[tuple[float, float, FloatArray]] = []
        self.glances: list[tuple[float, FloatArray]] = [(0.0, np.zeros(2))]

    def stroke(self, start: float, length: float, to: FloatArray, bow: float = 0.0) -> None:
        """Move the hand to `to` within `length` seconds, `bow` metres off the straight line."""
        skew = float(self.rng.uniform(-0.35, 0.15))
        self.strokes.append(_Stroke(start, length, to - self.hand, bow, skew))
        self.hand = to
        self.free = max(self.free, start + length)

    def go_to(self, start: float, length: float, to: FloatArray, bow: float, miss: float) -> None:
        """A main stroke that ends off by about `miss` of the way, then one that corrects it."""
        way = to - self.hand
        off = self.rng.normal(0.0, miss, 2)
        aim = to + way * (off[0] - 0.5 * miss) + np.array([-way[1], way[0]]) * off[1]
        self.stroke(start, length, aim, bow)
        if self.rng.random() < 0.7:
            self.stroke(
                start + length * self.rng.uniform(0.7, 1.0), self.rng.uniform(0.2, 0.32), to
            )

    def go_home(self, start: float, room: float) -> None:
        """Back to the centre, sometimes by way of somewhere else, more often with `room` (s) to."""
        rng = self.rng
        start = max(start, self.free)
        if room > 1.3 or rng.random() < 0.15:
            detour = rng.uniform(0.35, 0.5)
            somewhere = self.hand * 0.5 + rng.normal(0.0, 0.025, 2)
            self.stroke(start, detour, somewhere, rng.normal(0.0, 0.008))
            start += detour * rng.uniform(0.8, 1.2)
        home = rng.normal(0.0, 0.004, 2)
        self.go_to(start, rng.uniform(0.4, 0.65), home, rng.normal(0.0, 0.006), miss=0.08)


def reaches(task: Task, minutes: float, rng: np.random.Generator) -> Kinematics:
    """A session of `task`: as many whole trials as fit into `minutes`, at least one."""
    script = _Script(rng)
    trials: list[Trial] = []
    start = 0.0 if task.between is None else round(rng.uniform(*task.between), 3)
    while True:
        trial = _trial(task, script, start)
        if trial.stop > 60.0 * minutes and trials:
            return _render(script, tuple(trials))
        trials.append(trial)
        if task.between is None:
            start = float(np.ceil(round(trial.stop * 10, 6)) / 10)
        else:
            gap = rng.uniform(*task.between)
            script.go_home(trial.stop + 0.15, gap - 0.15)
            start = round(trial.stop + gap, 3)


def _trial(task: Task, script: _Script, start: float) -> Trial:
    """One attempt from `start`, written into the script."""
    rng = script.rng
    turn = rng.integers(task.directions) / task.directions if task.directions else rng.random()
    direction, distance = 2 * np.pi * turn, rng.uniform(*task.distance)
    target = distance * np.array([np.cos(direction), np.sin(direction)])
    result: Result = "R"
    if rng.random() < task.failures:
        result = ("A", "F", "I")[int(rng.choice(3, p=(0.55, 0.3, 0.15)))]
    if task.between is None and np.hypot(*script.hand) > 0.02:
        script.go_home(start + rng.uniform(0.05, 0.2), room=1.0)
    script.glances.append((max(start, script.free), np.zeros(2)))
    target_on = max(start, script.free) + rng.uniform(0.25, 0.5)
    delay = rng.uniform(*task.delay)
    go_cue, move_onset = target_on + delay, np.nan
    onset = go_cue + float(np.clip(rng.normal(0.3, 0.05), 0.18, 0.5))
    bow, barriers, decoys = _obstacles(task, rng, target)
    if result == "A":
        shown = rng.random() < 0.6
        quits = target_on + (rng.uniform(0.15, 0.85) * delay if shown else -0.1)
        if shown:
            script.plans.append((target_on, quits, target))
        script.stroke(quits, rng.uniform(0.3, 0.45), script.hand + rng.normal(0.0, 0.02, 2))
        stop, go_cue, target_on = quits + 0.25, np.nan, target_on if shown else np.nan
    elif result == "I":
        script.plans.append((target_on, go_cue + 0.4, target))
        stop = go_cue + rng.uniform(0.8, 1.0)
    else:
        script.plans.append((target_on, onset, target))
        length = rng.uniform(*task.movement) * (distance / max(task.distance)) ** 0.3
        short = target * rng.uniform(0.6, 0.8) + rng.normal(0.0, 0.01, 2)
        script.go_to(onset, length, target if result == "R" else short, bow, miss=0.06)
        stop, move_onset = script.free + rng.uniform(0.3, 0.5), onset
    if not np.isnan(target_on):
        script.glances.append((target_on + rng.uniform(0.16, 0.26), target))
    return Trial(
        start=start,
        stop=round(stop, 3),
        target_on=round(target_on, 3),
        go_cue=round(go_cue, 3),
        move_onset=round(move_onset, 3),
        delay=round(delay, 3),
        target=_place(target),
        direction=float(direction),
        decoys=decoys,
        barriers=barriers,
        result=result,
    )


def _obstacles(
    task: Task, rng: np.random.Generator, target: FloatArray
) -> tuple[float, tuple[tuple[float, float, float, float], ...], tuple[Place, ...]]:
    """How far the reach is bowed (m), the barriers that make it so, and decoys behind barriers."""
    bow = float(rng.normal(0.0, 0.004))
    if rng.random() >= task.barriers:
        return bow, (), ()
    bow += rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 0.5) * float(np.hypot(*target))
    barriers = ((*_place(0.5 * target), 0.012, 0.012), (*_place(1.3 * target), 0.02, 0.008))
    if rng.random() < 0.5:
        return bow, barriers, ()
    left = np.array([-target[1], target[0]])
    return bow, barriers, (_place(left), _place(-left))


def _place(xy: FloatArray) -> Place:
    return float(xy[0]), float(xy[1])


def _render(script: _Script, trials: tuple[Trial, ...]) -> Kinematics:
    """Sample a script at 1 kHz."""
    rng = script.rng
    duration = trials[-1].stop
    n = round((duration + TAIL) * SAMPLE_RATE)
    position, part = _strokes(script.strokes, n)
    pace = np.sum(np.gradient(position, 1 / SAMPLE_RATE, axis=0) ** 2, axis=1)
    speed = np.sqrt(pace + 0.1**2) - 0.1  # without a kink where the hand turns back
    position += WOBBLE * speed[:, None] * _band_noise(rng, n, 0.8, 4.0)
    position += SWAY * _band_noise(rng, n, 0.1, 1.2)
    recorded = position + TREMOR * _band_noise(rng, n, 7.0, 11.0)
    plan = _plan(script, n)
    resting = np.where(np.any(np.abs(plan) > 0.005, axis=1), PLANNING, RESTING)
    return Kinematics(
        duration=duration,
        position=position,
        velocity=np.gradient(position, 1 / SAMPLE_RATE, axis=0),
        plan=plan,
        phase=np.where(part < 0, resting, MOVING + part),
        recorded=recorded,
        recorded_velocity=np.gradient(recorded, 1 / SAMPLE_RATE, axis=0),
        gaze=_gaze(script, n),
        trials=trials,
    )


def _strokes(strokes: list[_Stroke], n: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Their sum (n, 2), and which part of the fastest one each sample is in, -1 for none."""
    position, ended = np.zeros((n, 2)), np.zeros((n + 1, 2))
    part, fastest = np.full(n, -1), np.zeros(n)
    for stroke in strokes:
        times = (stroke.start, stroke.start + stroke.length)
        first, last = (int(np.clip(t * SAMPLE_RATE + 1, 0, n)) for t in times)
        s = (np.arange(first, last) / SAMPLE_RATE - stroke.start) / stroke.length
        s += stroke.skew * s * (1 - s)
        length = float(np.hypot(*stroke.displacement)) + 1e-9
        normal = np.array([-stroke.displacement[1], stroke.displacement[0]]) / length
        position[first:last] += np.outer(s**3 * (10 - 15 * s + 6 * s**2), stroke.displacement)
        position[first:last] += np.outer(64 * (s * (1 - s)) ** 3, stroke.bow * normal)
        ended[last] += stroke.displacement
        pace = (s * (1 - s)) ** 2 * length / stroke.length
        leads = np.flatnonzero(pace >= fastest[first:last])
        part[first + leads] = np.clip(s[leads] * STROKE_PARTS, 0, STROKE_PARTS - 1)
        fastest[first:last] = np.maximum(pace, fastest[first:last])
    return position + np.cumsum(ended[:n], axis=0), part


def _plan(script: _Script, n: int) -> FloatArray:
    """Preparation: rises about 0.2 s after the target's onset, and gives way to the movement."""
    plan = np.zeros((n, 2))
    t = np.arange(n) / SAMPLE_RATE
    for shown, over, target in script.plans:
        rows = slice(round(shown * SAMPLE_RATE), min(n, round((over + 0.2) * SAMPLE_RATE)))
        rise = _ramp((t[rows] - shown - 0.13) / 0.15)
        fall = _ramp((t[rows] - over + 0.02) / 0.15)
        plan[rows] += np.outer(rise * (1 - fall), target)
    return plan


def _gaze(script: _Script, n: int) -> FloatArray:
    """Fixations joined by saccades of 40 ms, with a millimetre of wander."""
    times: list[float] = []
    places: list[FloatArray] = []
    before = script.glances[0][1]
    for time, place in sorted(script.glances, key=lambda glance: glance[0]):
        times += [time, time + 0.04]
        places += [before, place]
        before = place
    t = np.arange(n) / SAMPLE_RATE
    fixed = np.stack([np.interp(t, times, np.array(places)[:, xy]) for xy in (0, 1)], axis=1)
    return np.asarray(fixed + 1e-3 * _band_noise(script.rng, n, 0.2, 3.0))


def _ramp(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _band_noise(rng: np.random.Generator, n: int, low: float, high: float) -> FloatArray:
    """Gaussian noise (n, 2) of unit RMS an axis between two frequencies (Hz), with soft edges."""
    length = 1 << max(13, (n - 1).bit_length())  # a length that is quick to transform
    frequency = np.arange(round(4 * high / SAMPLE_RATE * length)) * (SAMPLE_RATE / length)
    gain = 1 / (1 + (low / np.maximum(frequency, 1e-9)) ** 8) / (1 + (frequency / high) ** 8)
    spectrum = rng.standard_normal((2, len(gain))) + 1j * rng.standard_normal((2, len(gain)))
    noise = np.fft.irfft(gain * spectrum, length, axis=1)
    noise /= np.sqrt(2 * np.sum(gain**2) * 2) / length
    return np.asarray(noise[:, :n].T, dtype=np.float64)
