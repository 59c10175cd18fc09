"""The sessions of a simulation, and how each of them is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurobrick.simulate import kinematics, layouts, population
from neurobrick.simulate.kinematics import FloatArray
from neurobrick.simulate.layouts import Layout, Recording
from neurobrick.simulate.population import Population
from neurobrick.simulate.subjects import Subject, another

# Independent streams of random numbers: for the parts of a session, and for the subject.
MOTION, UNITS, SPIKES, LABELS, SUBJECT = range(5)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Sessions, dealt to the subjects in turn.

    A session depends on its subject, its day and the seed, and not on the number of subjects and
    sessions. Its units also depend on the units of the subject's earlier days.
    """

    layout: Layout
    subjects: int  # how many
    units: Sequence[int]  # number of units of each session
    minutes: float  # length of each session
    seed: int

    def subject_and_day(self, number: int) -> tuple[int, int]:
        """Subject and day of session `number`. All of them count from 0."""
        day, subject = divmod(number, self.subjects)
        return subject, day

    def name(self, number: int) -> str:
        """The id that a session will have once prepared."""
        return f"{self.layout.dandiset}/{self.layout.stem(*self.subject_and_day(number))}"

    def subject(self, subject: int) -> Subject:
        """How a subject's units are distributed. The first subject is the same for every seed."""
        return another(self._rng(subject, 0, SUBJECT)) if subject else Subject()

    def populations(self) -> Iterator[Population]:
        """The units of each session."""
        subjects = [self.subject(subject) for subject in range(self.subjects)]
        last: dict[int, Population] = {}
        for number, n in enumerate(self.units):
            subject, day = self.subject_and_day(number)
            who, rng = subjects[subject], self._rng(subject, day, UNITS)
            last[subject] = (
                population.next_session(who, last[subject], n, self.minutes, rng)
                if day
                else population.first_session(who, n, self.minutes, rng)
            )
            yield last[subject]

    def record(self, number: int, units: Population) -> Recording:
        """A session's motion, and the spikes of its `units` while it was observed."""
        subject, day = self.subject_and_day(number)
        task = self.layout.task
        motion = kinematics.reaches(task, self.minutes, self._rng(subject, day, MOTION))
        rng = self._rng(subject, day, SPIKES)
        spikes = population.draw_spikes(units, motion, task.reach_speed, rng)
        observed = layouts.observed_times(self.layout, motion)
        return Recording(
            motion=motion,
            population=units,
            spikes=[_within(times, observed) for times in spikes],
            observed=observed,
            rng=self._rng(subject, day, LABELS),
        )

    def write(self, folder: Path, number: int, recording: Recording) -> Path:
        """Write a session's file into the dandiset's `folder`, whole or not at all."""
        subject, day = self.subject_and_day(number)
        path = folder / self.layout.path(subject, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        dandiset = self.layout.dandiset
        identifier = f"neurobrick-simulation-{dandiset}-{self.seed}-{subject}-{day}"
        try:
            layouts.write(partial, self.layout, subject, day, identifier, recording)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _rng(self, subject: int, day: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, subject, day, stream])


def _within(times: FloatArray, observed: FloatArray) -> FloatArray:
    """The times inside the observed intervals. The first interval starts at 0."""
    row = np.searchsorted(observed[:, 0], times, side="right") - 1
    return times[times < observed[row, 1]]
