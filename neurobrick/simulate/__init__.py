"""Motor-cortex sessions with known ground truth, written as NWB dandisets.

    simulate(Path("sim"), layout="000128", sessions=4)

writes `sim/000128/draft/sub-…/….nwb`, a `dandiset.yaml`, and `simulation.json`, which holds every
unit's true parameters and, for each session, the decoding R2 of an oracle. The oracle knows the
true rate functions and the statistics of the hand. It decodes the hand's velocity from the spikes
that were written (`oracle`).

How the hand moves is in `kinematics`, how units fire in `population`, how subjects differ in
`subjects`. `sessions` makes one session at a time, for a corpus that is too large for `simulate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurobrick.simulate import kinematics, layouts, oracle
from neurobrick.simulate.kinematics import FloatArray, Kinematics
from neurobrick.simulate.layouts import Recording
from neurobrick.simulate.oracle import R2
from neurobrick.simulate.sessions import Simulation

__all__ = ["R2", "SimulatedSession", "simulate"]

LAYOUTS = {layout.dandiset: layout for layout in (layouts.MC_MAZE, layouts.PERICH_MILLER)}
MOST_SUBJECTS, MOST_UNITS = 8, 500


@dataclass(frozen=True, kw_only=True)
class SimulatedSession:
    """One session as it was written."""

    path: Path
    session: str  # the id of the session once it is prepared
    n_units: int
    n_spikes: int
    duration_s: float
    oracle_r2: R2  # over all samples of rewarded trials
    # Over the part of rewarded trials in which the registry scores decoders of the dandiset: in
    # 000128 from 0.25 s before to 0.45 s after the onset of the movement, in 000688 from the go cue
    # to the end of the trial.
    oracle_r2_reaching: R2


def simulate(
    out: Path,
    *,
    layout: Literal["000128", "000688"] = "000128",
    sessions: int = 4,
    subjects: int = 1,
    units: int = 60,
    minutes: float = 5.0,
    seed: int = 0,
    progress: Callable[[SimulatedSession], None] | None = None,
) -> list[SimulatedSession]:
    """Write `sessions` sessions in all, dealt to the `subjects` in turn.

    Files of the same names are replaced.

    Each subject has its own statistics of tuning. Part of its units persist from one session to the
    next. A session depends on neither `sessions` nor `subjects`: the first four sessions of eight
    are the same as all sessions of four. `progress` is called with each session when its file is in
    place.

    Returns the sessions in the order of their numbers. Raises ValueError for an argument out of
    range.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is one of {', '.join(LAYOUTS)}, not {layout!r}")
    for name, value, low, high in (
        ("sessions", sessions, 1, 1000),
        ("subjects", subjects, 1, MOST_SUBJECTS),
        ("units", units, 1, MOST_UNITS),
        ("minutes", minutes, 0.5, 240),
        ("seed", seed, 0, 2**63),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    chosen = LAYOUTS[layout]
    root = Path(out) / chosen.dandiset / "draft"
    root.mkdir(parents=True, exist_ok=True)
    _replace(root / "dandiset.yaml", _dandiset_yaml(chosen).encode())
    simulation = Simulation(
        layout=chosen, subjects=subjects, units=[units] * sessions, minutes=minutes, seed=seed
    )
    made: list[SimulatedSession] = []
    records: list[dict[str, Any]] = []
    for number, array in enumerate(simulation.populations()):
        recording = simulation.record(number, array)
        path = simulation.write(root, number, recording)
        session = _describe(simulation, number, recording, path)
        made.append(session)
        records.append(_record(root, session, recording))
        if progress is not None:
            progress(session)
    summary = {
        "dandiset": chosen.dandiset,
        "seed": seed,
        "minutes": minutes,
        "subjects": {chosen.subjects[k]: asdict(simulation.subject(k)) for k in range(subjects)},
        "sessions": records,
    }
    _replace(root / "simulation.json", json.dumps(summary).encode())
    return made


def _describe(
    simulation: Simulation, number: int, recording: Recording, path: Path
) -> SimulatedSession:
    """A session as it was written, with the scores of the oracle."""
    layout, motion = simulation.layout, recording.motion
    decoded = oracle.decode(
        recording.population, recording.spikes, recording.observed, motion, layout.task.reach_speed
    )
    rewarded = [trial for trial in motion.trials if trial.result == "R"]
    return SimulatedSession(
        path=path,
        session=simulation.name(number),
        n_units=len(recording.population),
        n_spikes=sum(len(times) for times in recording.spikes),
        duration_s=motion.duration,
        oracle_r2=_score(decoded, motion, [(trial.start, trial.stop) for trial in rewarded]),
        oracle_r2_reaching=_score(decoded, motion, [layout.scored(trial) for trial in rewarded]),
    )


def _score(decoded: FloatArray, motion: Kinematics, times: list[tuple[float, float]]) -> R2:
    """R2 of the recorded hand's velocity over the samples in `times`."""
    edges = np.rint(np.array(times) * kinematics.SAMPLE_RATE).astype(np.int64)
    rows = np.concatenate([np.arange(start, stop) for start, stop in edges])
    return oracle.r2(decoded[rows], motion.recorded_velocity[rows])


def _record(root: Path, session: SimulatedSession, recording: Recording) -> dict[str, Any]:
    """The entry of a session in simulation.json."""
    array = recording.population
    return {
        "path": session.path.relative_to(root).as_posix(),
        "session": session.session,
        "n_units": session.n_units,
        "n_spikes": session.n_spikes,
        "duration_s": session.duration_s,
        "oracle_r2": session.oracle_r2._asdict(),
        "oracle_r2_reaching": session.oracle_r2_reaching._asdict(),
        "units": {
            name: np.round(getattr(array, name), 6).tolist() for name in array.__dataclass_fields__
        },
    }


def _dandiset_yaml(layout: layouts.Layout) -> str:
    return (
        f"identifier: DANDI:{layout.dandiset}\n"
        f"name: '{layout.title} (simulated in the layout of dandiset {layout.dandiset})'\n"
        f"description: '{layouts.NOTE}'\n"
        "version: draft\n"
        "license:\n- spdx:CC0-1.0\n"
    )


def _replace(path: Path, content: bytes) -> None:
    """Write a small file as a whole: a reader never sees a part of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
