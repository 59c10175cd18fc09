"""A simulated session as an NWB file laid out like those of a published dandiset.

`MC_MAZE` is dandiset 000128 (1 kHz samples inside trials only, series directly in the behavior
module, mm with a conversion), `PERICH_MILLER` is 000688 (100 Hz without gaps, series in containers,
cm). Names, tables, columns, dtypes and units follow the published files; the contents are
simulated, and the files say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.simulate.kinematics import (
    CENTER_OUT,
    MAZE,
    SAMPLE_RATE,
    FloatArray,
    Kinematics,
    Task,
    Trial,
)
from neurobrick.simulate.population import Population

if TYPE_CHECKING:
    from pynwb import NWBFile

NOTE = "Simulated by neurobrick; not a recording of an animal."
AREAS = {1: "M1", 2: "PMd"}
TARGET_HALF_WIDTH = 1.0  # cm, of the center-out targets


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The parts of a simulated session that are written to its file."""

    motion: Kinematics
    population: Population
    spikes: list[FloatArray]  # of each unit, (n,) s
    observed: FloatArray  # (m, 2) starts and stops in s
    rng: np.random.Generator  # for labels of the file


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one dandiset lays out its sessions. Days count from 0."""

    dandiset: str
    title: str
    task: Task
    subjects: tuple[str, ...]  # their names
    first_day: datetime
    session_name: Callable[[datetime], str]  # day → session entity of the file's name
    tail: str  # of the file's name, before the modality
    session_id: Callable[[str, str], str]  # subject, session name → session_id in the file
    gaps: bool  # recording stops between trials
    # The start and stop, in s, of the part of a rewarded trial on which decoders of this dandiset
    # are compared, as in data_manifest.yaml.
    scored: Callable[[Trial], tuple[float, float]]
    fill: Callable[[NWBFile, Recording], None]  # writes the contents

    def start(self, day: int) -> datetime:
        """When the session of a day begins."""
        return self.first_day + timedelta(days=day)

    def stem(self, subject: int, day: int) -> str:
        """The file's name without its modality tail."""
        return f"sub-{self.subjects[subject]}_ses-{self.session_name(self.start(day))}{self.tail}"

    def path(self, subject: int, day: int) -> Path:
        """The file's place in its dandiset."""
        name = f"{self.stem(subject, day)}_behavior+ecephys.nwb"
        return Path(f"sub-{self.subjects[subject]}") / name


def observed_times(layout: Layout, motion: Kinematics) -> FloatArray:
    """The times of recording: starts and stops (m, 2) in s."""
    if layout.gaps:
        return np.array([(trial.start, trial.stop) for trial in motion.trials])
    return np.array([(0.0, motion.duration)])


def write(
    path: Path, layout: Layout, subject: int, day: int, identifier: str, recording: Recording
) -> None:
    """Write one NWB file. A file at `path` is replaced."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    name = layout.subjects[subject]
    session = layout.session_name(layout.start(day))
    nwb = NWBFile(
        session_description=f"{layout.title}. {NOTE}",
        identifier=identifier,
        session_start_time=layout.start(day),
        session_id=layout.session_id(name, session),
        experiment_description=NOTE,
        experimenter=["Simulation, neurobrick"],
        institution="none (simulated)",
        keywords=["simulated", "motor cortex", "reaching"],
        subject=Subject(
            subject_id=name,
            species="Macaca mulatta",
            sex="M",
            age=f"P{8 + subject}Y",
            description=NOTE,
        ),
    )
    layout.fill(nwb, recording)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The file path provided")  # it need not end in .nwb
        with NWBHDF5IO(path, "w") as io:
            io.write(nwb)


def _fill_maze(nwb: NWBFile, recording: Recording) -> None:
    """The contents of a file of 000128."""
    from pynwb import TimeSeries
    from pynwb.behavior import SpatialSeries

    motion = recording.motion
    heldout = recording.rng.random(len(recording.spikes)) < 0.25
    _add_electrodes(nwb, {})
    _add_units(
        nwb,
        recording,
        ids=recording.population.id,
        columns=[("heldout", "held out for evaluation", heldout)],
    )
    nwb.trials = _table("trials", "reaching trials", _maze_trials(recording))
    rows = _observed_rows(recording.observed)
    timestamps = rows / SAMPLE_RATE
    behavior = nwb.create_processing_module("behavior", "hand, cursor and eye")
    cursor = motion.recorded + np.array([0.0, 0.02])
    for series, metres, what in (
        ("cursor_pos", cursor, "cursor position"),
        ("eye_pos", motion.gaze, "eye position on the screen"),
        ("hand_pos", motion.recorded, "hand position"),
    ):
        behavior.add(
            SpatialSeries(
                name=series,
                data=_packed(_stepped(metres[rows] * 1e3, 2.0**-10)),
                timestamps=_packed(timestamps),
                unit="m",
                conversion=0.001,
                reference_frame="centre of the screen",
                description=what,
                comments="columns=[x,y]",
            )
        )
    behavior.add(
        TimeSeries(
            name="hand_vel",
            data=_packed(_stepped(motion.recorded_velocity[rows] * 1e3, 2.0**-7)),
            timestamps=_packed(timestamps),
            unit="m/s",
            conversion=0.001,
            description="hand velocity",
            comments="columns=[x,y]",
        )
    )


def _fill_center_out(nwb: NWBFile, recording: Recording) -> None:
    """The contents of a file of 000688."""
    from pynwb import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

    motion = recording.motion
    pins = np.arange(192) % 96
    _add_electrodes(
        nwb,
        {
            "bank": ("bank of the connector", np.array(list("ABC"))[pins // 32].tolist()),
            "pin": ("pin of the bank", (pins % 32 + 1).tolist()),
            "label": ("label of the electrode", [f"elec{pin + 1}" for pin in pins]),
        },
    )
    _add_units(nwb, recording, ids=np.arange(len(recording.spikes)), columns=[])
    nwb.trials = _table("trials", "center-out trials", _center_out_trials(motion.trials))
    rows = np.arange(0, round(motion.duration * SAMPLE_RATE), 10)
    acceleration = np.gradient(motion.recorded_velocity, 1 / SAMPLE_RATE, axis=0)

    def cursor(kind: type, name: str, what: str, unit: str, metres: FloatArray, **more: str) -> Any:
        return kind(
            name=name,
            data=_packed(_stepped(metres[rows] * 100, 2.0**-10)),
            timestamps=_packed(rows / SAMPLE_RATE),
            unit=unit,
            description=what,
            comments="columns=[x,y]",
            **more,
        )

    frame = {"reference_frame": "centre of the workspace"}
    position = cursor(
        SpatialSeries, "cursor_pos", "cursor position", "cm", motion.recorded, **frame
    )
    velocity = cursor(TimeSeries, "cursor_vel", "cursor velocity", "cm/s", motion.recorded_velocity)
    change = cursor(TimeSeries, "cursor_acc", "cursor acceleration", "cm/s^2", acceleration)
    behavior = nwb.create_processing_module("behavior", "cursor")
    behavior.add(Position(name="Position", spatial_series=position))
    behavior.add(BehavioralTimeSeries(name="Velocity", time_series=velocity))
    behavior.add(BehavioralTimeSeries(name="Acceleration", time_series=change))


def _maze_trials(recording: Recording) -> list[tuple[str, str, Any]]:
    """Columns of the trials table of 000128; places in mm, rt and delay in ms."""
    trials, rng = recording.motion.trials, recording.rng
    success = np.array([trial.result == "R" for trial in trials])
    split = np.where(success, np.where(rng.random(len(trials)) < 0.25, "val", "train"), "none")
    targets = [_millimetres([t.target, *t.decoys], 2) for t in trials]
    barriers = [_millimetres(t.barriers, 4) for t in trials]
    reaction = np.rint((_of(trials, "move_onset") - _of(trials, "go_cue")) * 1e3)
    rt = np.where(np.isnan(reaction), -1, reaction).astype(np.int64)
    version = np.array([(len(t.barriers) > 0) + (len(t.decoys) > 0) for t in trials])
    kind = np.array([round(t.direction / (2 * np.pi) * 36) % 36 + 1 for t in trials])
    return [
        *_times(trials),
        ("target_on_time", "target onset, s", _of(trials, "target_on")),
        ("go_cue_time", "go cue, s; NaN if the trial was aborted before", _of(trials, "go_cue")),
        ("move_onset_time", "onset of the reach, s; NaN if none", _of(trials, "move_onset")),
        ("rt", "reaction time, ms; -1 if none", rt),
        ("delay", "planned delay, ms", np.rint(_of(trials, "delay") * 1e3).astype(np.int64)),
        ("success", "whether the reach was rewarded", success),
        ("trial_type", "condition, by direction of the target", kind),
        ("trial_version", "0: no barriers, 1: barriers, 2: barriers and decoys", version),
        ("maze_id", "which maze was shown", kind * 3 + version),
        ("num_targets", "number of targets", np.array([len(t) for t in targets])),
        ("target_pos", "targets x, y, mm", targets),
        ("num_barriers", "number of barriers", np.array([len(b) for b in barriers])),
        ("barrier_pos", "barriers x, y, half sizes, mm", barriers),
        ("active_target", "row of the target to reach", np.zeros(len(trials), dtype=np.int64)),
        ("split", "train, val, or none for trials to leave out", split.tolist()),
    ]


def _center_out_trials(trials: Sequence[Trial]) -> list[tuple[str, str, Any]]:
    """Columns of the trials table of 000688; places in cm."""
    shown = ~np.isnan(_of(trials, "target_on"))
    angle = np.where(shown, _of(trials, "direction"), np.nan)
    centre = np.where(shown[:, None], np.array([t.target for t in trials]) * 100, np.nan)
    number = np.rint(angle / (2 * np.pi) * CENTER_OUT.directions)
    half = TARGET_HALF_WIDTH * np.array([-1.0, 1.0, 1.0, -1.0])
    return [
        *_times(trials),
        ("target_on_time", "target onset, s; NaN if it was not shown", _of(trials, "target_on")),
        ("go_cue_time", "go cue, s; NaN if the trial was aborted before", _of(trials, "go_cue")),
        ("target_id", "which target, NaN if none was shown", number),
        ("target_dir", "direction of the target, rad", (angle + np.pi) % (2 * np.pi) - np.pi),
        ("target_corners", "upper left and lower right corner, cm", np.tile(centre, (1, 2)) + half),
        ("result", "R reward, A abort, F fail, I incomplete", [t.result for t in trials]),
    ]


def _millimetres(places: Sequence[tuple[float, ...]], width: int) -> NDArray[np.int16]:
    return np.rint(np.array(places).reshape(-1, width) * 1e3).astype(np.int16)


def _of(trials: Sequence[Trial], name: str) -> FloatArray:
    return np.array([getattr(trial, name) for trial in trials], dtype=np.float64)


def _times(trials: Sequence[Trial]) -> list[tuple[str, str, Any]]:
    return [
        ("start_time", "start of the trial, s", _of(trials, "start")),
        ("stop_time", "end of the trial, s", _of(trials, "stop")),
    ]


def _table(name: str, description: str, columns: list[tuple[str, str, Any]]) -> Any:
    from pynwb.epoch import TimeIntervals

    names = [column for column, _, _ in columns]
    return TimeIntervals(
        name=name, description=description, columns=_vectors(columns), colnames=names
    )


def _vectors(columns: list[tuple[str, str, Any]]) -> list[Any]:
    """Columns of a table from (name, description, values). A list of arrays makes a ragged one.

    They are passed as whole arrays: of a list, hdmf checks the type of every single element.
    """
    from hdmf.common import VectorData, VectorIndex

    made: list[Any] = []
    for name, what, values in columns:
        ragged = isinstance(values, list) and isinstance(values[0], np.ndarray)
        flat = np.concatenate(values) if ragged else values
        made.append(VectorData(name=name, description=what, data=flat))
        if ragged:
            ends = np.cumsum([len(rows) for rows in values])
            made.append(VectorIndex(name=f"{name}_index", target=made[-1], data=ends))
    return made


def _add_electrodes(nwb: NWBFile, columns: dict[str, tuple[str, list[Any]]]) -> None:
    """Two arrays of 96 electrodes."""
    device = nwb.create_device("Utah arrays", description="two simulated arrays of 96 electrodes")
    for name, (what, _) in columns.items():
        nwb.add_electrode_column(name, what)
    for array, area in AREAS.items():
        group = nwb.create_electrode_group(
            f"electrode_group_{area}", description=f"array in {area}", location=area, device=device
        )
        for row in range(96 * (array - 1), 96 * array):
            more = {name: values[row] for name, (_, values) in columns.items()}
            nwb.add_electrode(group=group, location=area, **more)


def _add_units(
    nwb: NWBFile, recording: Recording, ids: NDArray[np.int64], columns: list[tuple[str, str, Any]]
) -> None:
    """The units table. Where the recording has gaps, with the times of observation of each unit."""
    from hdmf.common import DynamicTableRegion, ElementIdentifiers, VectorIndex
    from pynwb.misc import Units

    population, n = recording.population, len(recording.spikes)
    columns = [*columns, ("spike_times", "spike times, s", recording.spikes)]
    if len(recording.observed) > 1:
        columns.append(("obs_intervals", "observed times, s", [recording.observed] * n))
    rows = 96 * (population.id // 1000 - 1) + population.id % 1000 // 10 - 1
    electrodes = DynamicTableRegion(
        name="electrodes", data=rows, description="electrode of each unit", table=nwb.electrodes
    )
    index = VectorIndex(name="electrodes_index", target=electrodes, data=np.arange(1, n + 1))
    nwb.units = Units(
        name="units",
        description="simulated units",
        id=ElementIdentifiers(name="id", data=ids),
        columns=[*_vectors(columns), electrodes, index],
        colnames=[*(name for name, _, _ in columns), "electrodes"],
    )


def _observed_rows(observed: FloatArray) -> NDArray[np.int64]:
    """Samples in the observed intervals."""
    edges = np.rint(observed * SAMPLE_RATE).astype(np.int64)
    return np.concatenate([np.arange(start, stop) for start, stop in edges])


def _stepped(values: FloatArray, step: float) -> FloatArray:
    """Rounded to a power of two, like the resolution of a tracker. Such values compress well."""
    return np.rint(values / step) * step


def _packed(values: FloatArray) -> Any:
    """`values`, to be compressed in the file."""
    from hdmf.backends.hdf5.h5_utils import H5DataIO

    return H5DataIO(values, compression="gzip", compression_opts=1, shuffle=True)


MC_MAZE = Layout(
    dandiset="000128",
    title="Delayed reaches around barriers",
    task=MAZE,
    subjects=("SimJ", "SimN", "SimA", "SimB", "SimD", "SimE", "SimF", "SimG"),
    first_day=datetime(2009, 9, 12, 12, tzinfo=UTC),
    session_name=lambda day: f"{day:%Y%m%d}",
    tail="_desc-train",
    session_id=lambda subject, session: session,
    gaps=True,
    scored=lambda trial: (trial.move_onset - 0.25, min(trial.move_onset + 0.45, trial.stop)),
    fill=_fill_maze,
)
PERICH_MILLER = Layout(
    dandiset="000688",
    title="Delayed center-out reaches",
    task=CENTER_OUT,
    subjects=("SimC", "SimM", "SimA", "SimB", "SimD", "SimE", "SimF", "SimG"),
    first_day=datetime(2016, 9, 9, 12, tzinfo=UTC),
    session_name=lambda day: f"CO-{day:%Y%m%d}",
    tail="",
    session_id=lambda subject, session: f"sub-{subject}_ses-{session}",
    gaps=False,
    scored=lambda trial: (trial.go_cue, trial.stop),
    fill=_fill_center_out,
)
