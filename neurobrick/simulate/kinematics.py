"""Delayed reaches of a hand in the plane, at 1 kHz, with the plans of a motor cortex.

A session is a list of strokes: minimum-jerk displacements (Flash & Hogan 1985, J. Neurosci. 5:1688)
with a skewed clock and a bow to one side. A reach is a main stroke that ends a little off the
target, and a corrective one. The way back and movements between trials are strokes, too. Sway and a
noise that grows with speed are added. The recorded hand also has tremor, which no unit encodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Point = tuple[float, float]  # x, y in m
Result = Literal["R", "A", "F", "I"]

SAMPLE_RATE = 1000  # Hz
TAIL = 1.0  # s simulated beyond the end, because units lead the hand
SWAY = 0.8e-3  # m RMS, below 1.2 Hz
TREMOR = 0.06e-3  # m RMS, 7 to 11 Hz
WOBBLE = 0.008  # m RMS for each m/s of speed, 0.8 to 4 Hz (Harris & Wolpert 1998, Nature 394:780)

# Phases of the hand: at rest, at rest with a plan, or in one of six parts of a stroke.
RESTING, PLANNING, MOVING = 0, 1, 2
STROKE_PARTS = 6
N_PHASES = MOVING + STROKE_PARTS


@dataclass(frozen=True, kw_only=True)
class Task:
    """The reaching task of one laboratory. Pairs are ranges."""

    distance: tuple[float, float]  # m from the centre to the target
    directions: int  # number of equally spaced targets; 0 for targets anywhere
    barriers: float  # probability that a reach is bowed around an obstacle
    delay: tuple[float, float]  # s from the target to the go cue
    movement: tuple[float, float]  # s of a reach
    # s from the end of a trial to the next start; None: the next tenth of a second
    between: tuple[float, float] | None
    failures: float  # probability that a trial is not rewarded
    reach_speed: float  # m/s, a typical peak; the unit of velocity that tuning is in


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
    """One attempt. Times are in s from the session's start; NaN: did not happen."""

    start: float
    stop: float
    target_on: float
    go_cue: float
    move_onset: float
    delay: float  # s from the target to the go cue
    target: Point
    direction: float  # rad, of the target
    decoys: tuple[Point, ...]  # shown with the target, not reached for
    barriers: tuple[tuple[float, float, float, float], ...]  # m: x, y, half width, half height
    result: Result  # R: rewarded, A: aborted before the go cue, F: reach missed, I: no reach


@dataclass(frozen=True, kw_only=True)
class Kinematics:
    """A session's motion, sampled at `SAMPLE_RATE` from 0 s to `TAIL` seconds after its end."""

    duration: float  # s
    position: FloatArray  # (n, 2) m, the intended hand
    velocity: FloatArray  # (n, 2) m/s, the intended hand
    plan: FloatArray  # (n, 2) m, the vector to the target from its onset to the movement, else 0
    phase: NDArray[np.int64]  # (n,) below N_PHASES
    recorded: FloatArray  # (n, 2) m, the hand with tremor
    recorded_velocity: FloatArray  # (n, 2) m/s, the hand with tremor
    gaze: FloatArray  # (n, 2) m
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Stroke:
    """One movement of the hand."""

    start: float  # s
    length: float  # s
    displacement: FloatArray  # (2,) m
    bow: float  # m off the straight line
    skew: float  # of the clock; 0 for a symmetric speed


class _Script:
    """The strokes, plans and glances of a session so far, and where the hand is."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hand = np.zeros(2)
        self.free = 0.0  # when the last stroke ends
        self.strokes: list[_Stroke] = []
        self.plans: list[tuple[float, float, FloatArray]] = []  # start and stop in s, target in m
        self.glances: list[tuple[float, FloatArray]] = [(0.0, np.zeros(2))]  # s, point in m

    def stroke(self, start: float, length: float, to: FloatArray, bow: float = 0.0) -> None:
        """Move the hand to `to` within `length` seconds, `bow` metres off the straight line."""
        skew = float(self.rng.uniform(-0.35, 0.15))
        self.strokes.append(_Stroke(start, length, to - self.hand, bow, skew))
        self.hand = to
        self.free = max(self.free, start + length)

    def go_to(self, start: float, length: float, to: FloatArray, bow: float, miss: float) -> None:
        """A main stroke that misses by about the share `miss` of the way, then a corrective one."""
        way = to - self.hand
        off = self.rng.normal(0.0, miss, 2)
        aim = to + way * (off[0] - 0.5 * miss) + np.array([-way[1], way[0]]) * off[1]
        self.stroke(start, length, aim, bow)
        if self.rng.random() < 0.7:
            self.stroke(
                start + length * self.rng.uniform(0.7, 1.0), self.rng.uniform(0.2, 0.32), to
            )

    def go_home(self, start: float, room: float) -> None:
        """Back to the centre. A detour is likelier where there is more time (`room`, s)."""
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
    """A session of `task`: the whole trials that fit into `minutes`, at least one."""
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
    """One attempt from `start` (s). Its strokes, plan and glances are added to the script."""
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
        target=_point(target),
        direction=float(direction),
        decoys=decoys,
        barriers=barriers,
        result=result,
    )


def _obstacles(
    task: Task, rng: np.random.Generator, target: FloatArray
) -> tuple[float, tuple[tuple[float, float, float, float], ...], tuple[Point, ...]]:
    """The bow of the reach in m, the barriers that it avoids, and decoys behind barriers."""
    bow = float(rng.normal(0.0, 0.004))
    if rng.random() >= task.barriers:
        return bow, (), ()
    bow += rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 0.5) * float(np.hypot(*target))
    barriers = ((*_point(0.5 * target), 0.012, 0.012), (*_point(1.3 * target), 0.02, 0.008))
    if rng.random() < 0.5:
        return bow, barriers, ()
    left = np.array([-target[1], target[0]])
    return bow, barriers, (_point(left), _point(-left))


def _point(xy: FloatArray) -> Point:
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
    """The sum of the strokes (n, 2), and for each sample the part of the fastest stroke that it is
    in, -1 for none."""
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
    """The plan (n, 2): it rises about 0.2 s after the target's onset and falls at the movement."""
    plan = np.zeros((n, 2))
    t = np.arange(n) / SAMPLE_RATE
    for shown, over, target in script.plans:
        rows = slice(round(shown * SAMPLE_RATE), min(n, round((over + 0.2) * SAMPLE_RATE)))
        rise = _ramp((t[rows] - shown - 0.13) / 0.15)
        fall = _ramp((t[rows] - over + 0.02) / 0.15)
        plan[rows] += np.outer(rise * (1 - fall), target)
    return plan


def _gaze(script: _Script, n: int) -> FloatArray:
    """The gaze (n, 2): fixations, saccades of 40 ms between them, and a millimetre of drift."""
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
    """0 below 0, 1 above 1, smooth in between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _band_noise(rng: np.random.Generator, n: int, low: float, high: float) -> FloatArray:
    """Gaussian noise (n, 2) of unit RMS an axis between two frequencies (Hz), with soft edges."""
    length = 1 << max(13, (n - 1).bit_length())  # a power of 2: a fast transform
    frequency = np.arange(round(4 * high / SAMPLE_RATE * length)) * (SAMPLE_RATE / length)
    gain = 1 / (1 + (low / np.maximum(frequency, 1e-9)) ** 8) / (1 + (frequency / high) ** 8)
    spectrum = rng.standard_normal((2, len(gain))) + 1j * rng.standard_normal((2, len(gain)))
    noise = np.fft.irfft(gain * spectrum, length, axis=1)
    noise /= np.sqrt(2 * np.sum(gain**2) * 2) / length
    return np.asarray(noise[:, :n].T, dtype=np.float64)
