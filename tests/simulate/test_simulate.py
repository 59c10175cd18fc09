"""Simulated sessions: what is in their files, whether units and hand are as stated, the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.behavior import SpatialSeries

from neurobrick.simulate import LAYOUTS, SimulatedSession, simulate
from neurobrick.simulate.kinematics import MAZE, reaches
from neurobrick.simulate.oracle import decode, r2
from neurobrick.simulate.population import Population, draw_spikes, first_session
from neurobrick.simulate.sessions import Simulation
from neurobrick.simulate.subjects import Subject

pytestmark = pytest.mark.slow

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Written:
    """A simulated dandiset: what simulate() returned, its files as they read, and the truth."""

    root: Path
    sessions: list[SimulatedSession]
    files: list[Any]
    truth: dict[str, Any]

    def spikes(self, session: int = 0) -> list[FloatArray]:
        return [np.asarray(times) for times in self.files[session].units["spike_times"]]

    def true_units(self, session: int = 0) -> dict[str, FloatArray]:
        return {k: np.array(v) for k, v in self.truth["sessions"][session]["units"].items()}


def opened(out: Path, sessions: list[SimulatedSession]) -> Iterator[Written]:
    root = sessions[0].path.parents[1]
    assert root.is_relative_to(out)
    streams = [NWBHDF5IO(session.path, "r") for session in sessions]
    truth = json.loads((root / "simulation.json").read_text())
    yield Written(root, sessions, [stream.read() for stream in streams], truth)
    for stream in streams:
        stream.close()


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    out = tmp_path_factory.mktemp("maze")
    yield from opened(out, simulate(out, sessions=2, minutes=4.0, seed=3))


@pytest.fixture(scope="module")
def center_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    out = tmp_path_factory.mktemp("center_out")
    yield from opened(
        out, simulate(out, layout="000688", sessions=3, subjects=2, units=40, minutes=2.0, seed=4)
    )


def hand(file: Any, name: str = "hand_vel") -> tuple[FloatArray, FloatArray]:
    """Timestamps (n,) and SI values (n, 2) of a series of 000128."""
    series = file.processing["behavior"][name]
    return series.timestamps[:], series.data[:] * series.conversion


def test_a_maze_file_has_the_layout_of_000128(maze: Written) -> None:
    session, file = maze.sessions[0], maze.files[0]
    stem = "sub-SimJ_ses-20090912_desc-train"
    assert session.path == maze.root / "sub-SimJ" / f"{stem}_behavior+ecephys.nwb"
    assert session.session == f"000128/{stem}"
    assert (maze.root.parent.name, maze.root.name) == ("000128", "draft")
    assert "identifier: DANDI:000128" in (maze.root / "dandiset.yaml").read_text()
    assert (file.session_id, file.subject.subject_id) == ("20090912", "SimJ")
    assert file.subject.species == "Macaca mulatta"
    behavior = file.processing["behavior"].data_interfaces
    assert set(behavior) == {"cursor_pos", "eye_pos", "hand_pos", "hand_vel"}
    for name, series in behavior.items():
        assert type(series) is (TimeSeries if name == "hand_vel" else SpatialSeries)
        assert series.unit == ("m/s" if name == "hand_vel" else "m")
        assert (series.conversion, series.comments) == (0.001, "columns=[x,y]")
        assert series.data.shape == (*series.timestamps.shape, 2)
        assert series.timestamps.dtype == series.data.dtype == np.float64
    units = file.units
    assert units.colnames == ("heldout", "spike_times", "obs_intervals", "electrodes")
    assert len(units) == session.n_units == 60
    ids = units.id[:]
    assert np.all(np.diff(ids) > 0)
    assert ids.min() > 1000
    assert units["heldout"].data.dtype == bool
    assert session.n_spikes == sum(len(times) for times in maze.spikes())
    assert set(units["electrodes"][0]["location"]) <= {"M1", "PMd"}


def test_maze_trials_have_the_columns_of_000128(maze: Written) -> None:
    trials = maze.files[0].trials.to_dataframe()
    columns = (
        "start_time stop_time target_on_time go_cue_time move_onset_time rt delay success "
        "trial_type trial_version maze_id num_targets target_pos num_barriers barrier_pos "
        "active_target split"
    )
    assert list(trials.columns) == columns.split()
    assert trials["rt"].dtype == trials["delay"].dtype == np.int64
    good = trials[trials["success"]]
    assert np.allclose(good["rt"], (good["move_onset_time"] - good["go_cue_time"]) * 1e3)
    assert np.allclose(good["delay"], (good["go_cue_time"] - good["target_on_time"]) * 1e3, atol=1)
    assert set(good["split"]) == {"train", "val"}
    failed = trials[~trials["success"]]
    assert 0 < len(failed) < 0.25 * len(trials)
    assert set(failed["split"]) == {"none"}
    assert failed["move_onset_time"].isna().any()
    for _, trial in trials.iterrows():
        assert np.shape(trial["target_pos"]) == (trial["num_targets"], 2)
        assert np.reshape(trial["barrier_pos"], (-1, 4)).shape == (trial["num_barriers"], 4)
        assert np.asarray(trial["target_pos"]).dtype == np.int16
    assert len({len(row) for row in trials["barrier_pos"]}) > 1


def test_maze_samples_exist_only_inside_trials(maze: Written) -> None:
    file = maze.files[0]
    times, _ = hand(file)
    start, stop = file.trials["start_time"][:], file.trials["stop_time"][:]
    assert np.allclose(start * 10, np.rint(start * 10), atol=1e-9)
    gaps = start[1:] - stop[:-1]
    assert gaps.min() > -1e-9
    assert 0.05 < gaps.max() < 0.1
    trial = np.searchsorted(start, times + 1e-6, side="right") - 1
    assert np.all(times < stop[trial] - 1e-6)
    assert len(times) == round(float(np.sum(stop - start)) * 1000)
    steps = np.diff(times)
    assert np.allclose(steps[np.diff(trial) == 0], 0.001, atol=1e-9)
    for observed, spikes in zip(file.units["obs_intervals"], maze.spikes(), strict=True):
        assert np.array_equal(observed, np.column_stack([start, stop]))
        assert np.all(spikes < stop[np.searchsorted(start, spikes, side="right") - 1])


def test_velocity_is_the_derivative_of_position(maze: Written) -> None:
    times, position = hand(maze.files[0], "hand_pos")
    _, velocity = hand(maze.files[0])
    inside = np.diff(times) < 0.0015
    slope = np.diff(position, axis=0)[inside] / 0.001
    middle = (velocity[1:] + velocity[:-1])[inside] / 2
    assert np.abs(slope - middle).max() < 3e-3
    assert 0.3 < np.hypot(*velocity.T).max() < 1.5  # m/s, as monkeys reach


def test_a_center_out_file_has_the_layout_of_000688(center_out: Written) -> None:
    assert [
        session.path.relative_to(center_out.root).as_posix() for session in center_out.sessions
    ] == [
        "sub-SimC/sub-SimC_ses-CO-20160909_behavior+ecephys.nwb",
        "sub-SimM/sub-SimM_ses-CO-20160909_behavior+ecephys.nwb",
        "sub-SimC/sub-SimC_ses-CO-20160910_behavior+ecephys.nwb",
    ]
    file = center_out.files[0]
    assert file.session_id == "sub-SimC_ses-CO-20160909"
    behavior = file.processing["behavior"]
    position = behavior["Position"]["cursor_pos"]
    velocity = behavior["Velocity"]["cursor_vel"]
    change = behavior["Acceleration"]["cursor_acc"]
    assert [series.unit for series in (position, velocity, change)] == ["cm", "cm/s", "cm/s^2"]
    for series in (position, velocity, change):
        assert np.allclose(np.diff(series.timestamps[:]), 0.01)
        assert series.conversion == 1.0
    assert np.abs(position.data[:]).max() < 15
    slope = np.gradient(position.data[:], 0.01, axis=0)
    assert r2(slope, velocity.data[:]).mean > 0.99
    assert np.array_equal(file.units.id[:], np.arange(40))
    assert {"bank", "pin", "label"} <= set(file.electrodes.colnames)
    trials = file.trials.to_dataframe()
    names = (
        "start_time stop_time target_on_time go_cue_time target_id target_dir target_corners result"
    )
    assert list(trials.columns) == names.split()
    everything = np.concatenate([f.trials["result"][:] for f in center_out.files])
    assert {"R", "A"} <= set(everything) <= {"R", "A", "F", "I"}
    aborted = trials["result"] == "A"
    assert trials["go_cue_time"].isna().equals(aborted)
    eighths = trials.loc[~trials["target_dir"].isna(), "target_dir"] / (np.pi / 4)
    assert np.allclose(eighths, np.rint(eighths))


def test_reaches_end_at_their_targets(center_out: Written) -> None:
    for file in center_out.files:
        position = file.processing["behavior"]["Position"]["cursor_pos"]
        trials = file.trials.to_dataframe().query("result == 'R'")
        last = np.searchsorted(position.timestamps[:], trials["stop_time"]) - 1
        target = 8 * np.column_stack([np.cos(trials["target_dir"]), np.sin(trials["target_dir"])])
        assert np.hypot(*(position.data[:][last] - target).T).mean() < 1.0


def test_the_archive_accepts_the_files(maze: Written, center_out: Written) -> None:
    inspector = pytest.importorskip("nwbinspector")
    for written in (maze, center_out):
        found = inspector.inspect_nwbfile_object(
            written.files[0],
            config=inspector.load_config("dandi"),
            importance_threshold=inspector.Importance.CRITICAL,
        )
        assert list(found) == []


def test_spikes_lie_on_the_clock_and_leave_room_between(maze: Written) -> None:
    for times in maze.spikes():
        ticks = np.rint(times * 30_000)
        assert np.array_equal(ticks / 30_000, times)
        assert np.all(np.diff(ticks) >= 45)
    busiest = max(maze.spikes(), key=len)
    intervals = np.diff(busiest)
    early, later = (np.sum((intervals >= a) & (intervals < a + 0.002)) for a in (0.0015, 0.01))
    assert early < 0.7 * later


def test_rates_are_those_of_motor_cortex(maze: Written) -> None:
    rates = np.array([len(times) for times in maze.spikes()]) / maze.sessions[0].duration_s
    assert 4 < np.median(rates) < 14
    assert rates.max() < 80
    assert 0.02 < np.mean(rates < 0.7) < 0.3


def test_a_units_lag_and_direction_can_be_found_again(maze: Written) -> None:
    times, velocity = hand(maze.files[0])
    grid = np.arange(0, maze.sessions[0].duration_s, 0.01)
    smooth = np.column_stack([np.interp(grid, times, velocity[:, axis]) for axis in (0, 1)])
    shifts = np.arange(0, 22)
    true = maze.true_units()
    lag_errors, angle_errors = [], []
    for i, spikes in enumerate(maze.spikes()):
        depth = float(np.hypot(*true["tuning"][i, 2:4]))
        if len(spikes) < 1500 or depth < 0.6:
            continue
        counts = np.histogram(spikes, np.append(grid, grid[-1] + 0.01))[0].astype(float)
        fits = []
        for shift in shifts:
            x = np.column_stack([smooth[shift:], np.ones(len(grid) - shift)])
            weights, residual, *_ = np.linalg.lstsq(x, counts[: len(x)], rcond=None)
            fits.append((residual[0] / len(x), weights[:2]))
        best = int(np.argmin([fit[0] for fit in fits]))
        lag_errors.append(shifts[best] * 0.01 - true["lag"][i])
        angle = np.subtract(
            *(np.arctan2(w[1], w[0]) for w in (fits[best][1], true["tuning"][i, 2:4]))
        )
        angle_errors.append(abs((angle + np.pi) % (2 * np.pi) - np.pi))
    assert len(lag_errors) >= 8
    assert np.median(np.abs(lag_errors)) < 0.03
    assert abs(np.mean(lag_errors)) < 0.02
    assert np.median(angle_errors) < np.deg2rad(20)


def test_units_come_and_go_between_sessions(maze: Written) -> None:
    first, second = maze.true_units(0), maze.true_units(1)
    both, i, j = np.intersect1d(first["neuron"], second["neuron"], return_indices=True)
    assert 0.5 < len(both) / 60 < 0.9
    assert np.array_equal(first["id"][i], second["id"][j])
    assert np.array_equal(maze.files[1].units.id[:], second["id"])
    change = np.abs(first["tuning"][i] - second["tuning"][j])
    assert 0 < change.mean() < 0.3 * np.abs(first["tuning"]).mean()
    assert np.abs(first["lag"][i] - second["lag"][j]).max() < 0.02
    new = np.setdiff1d(second["neuron"], first["neuron"])
    assert new.min() > first["neuron"].max()


def test_a_seed_fixes_everything_but_the_number_of_sessions(maze: Written, tmp_path: Path) -> None:
    (again,) = simulate(tmp_path / "again", sessions=1, minutes=4.0, seed=3)
    (other,) = simulate(tmp_path / "other", sessions=1, minutes=4.0, seed=5)
    assert again.oracle_r2 == pytest.approx(maze.sessions[0].oracle_r2)
    with NWBHDF5IO(again.path, "r") as stream:
        file = stream.read()
        for mine, theirs in zip(file.units["spike_times"], maze.spikes(), strict=True):
            assert np.array_equal(mine, theirs)
        assert np.array_equal(hand(file)[1], hand(maze.files[0])[1])
        assert file.trials.to_dataframe()["split"].equals(
            maze.files[0].trials.to_dataframe()["split"]
        )
    assert other.n_spikes != again.n_spikes


def populations(subjects: int, units: list[int], seed: int = 0) -> list[Population]:
    """The units of the sessions of a simulation of which nothing is written."""
    chosen = {"layout": LAYOUTS["000688"], "minutes": 2.0, "seed": seed}
    return list(Simulation(subjects=subjects, units=units, **chosen).populations())


def test_subjects_differ_in_how_their_units_are_distributed() -> None:
    subjects = [[], [], [], [], [], [], []]
    for number, array in enumerate(populations(7, [400] * 21)):
        subjects[number % 7].append(array)

    def told_apart(value: Any) -> float:
        """How far subjects lie apart, in how far the sessions of one do (both SD)."""
        found = np.array([[value(array) for array in days] for days in subjects])
        return float(found.mean(axis=1).std() / found.std(axis=1).mean())

    def axis(array: Population) -> float:
        """How far the preferred directions of velocity keep to the x axis, either way."""
        return float(np.mean(np.cos(2 * np.arctan2(array.tuning[:, 3], array.tuning[:, 2]))))

    assert told_apart(lambda array: np.median(array.log_rate)) > 2
    for columns in ([0, 1], [2, 3], [5, 6]):
        assert told_apart(lambda a, c=columns: np.median(np.hypot(*a.tuning[:, c].T))) > 2
    assert told_apart(lambda array: np.mean(array.tuning[:, 4])) > 2
    assert told_apart(lambda array: np.mean(array.lag)) > 2
    assert told_apart(lambda array: np.std(np.diff(array.gain))) > 2
    assert told_apart(axis) > 2


def test_preferred_directions_have_the_density_that_is_said() -> None:
    subject = Subject(crowding=0.7, axis=0.4)
    found = subject.directions(100_000, np.random.default_rng(0))
    assert 0 <= found.min() < found.max() <= 2 * np.pi
    counts, edges = np.histogram(found, 24, (0, 2 * np.pi))
    middle = (edges[1:] + edges[:-1]) / 2
    assert np.allclose(counts / 1e5 * 24, 1 + 0.7 * np.cos(2 * (middle - 0.4)), atol=0.06)


def test_a_session_is_the_same_however_many_there_are() -> None:
    few, many, alone = populations(2, [30] * 4), populations(7, [30] * 14), populations(1, [30] * 2)
    for one, other in ((few[1], many[1]), (few[2], many[7]), (few[3], many[8]), (few[2], alone[1])):
        for name in Population.__dataclass_fields__:
            assert np.array_equal(getattr(one, name), getattr(other, name))
    other = populations(2, [30] * 4, seed=1)
    assert not np.array_equal(few[1].tuning, other[1].tuning)


def test_units_turn_over_and_drift_from_day_to_day() -> None:
    days = populations(1, [500] * 8)
    staying = [np.isin(days[0].neuron, day.neuron).mean() for day in days]
    assert np.allclose(staying, 0.7 ** np.arange(8), atol=0.06)
    turns = []
    for before, after in pairwise(days):
        _, i, j = np.intersect1d(before.neuron, after.neuron, return_indices=True)
        assert np.array_equal(before.id[i], after.id[j])
        angle = [np.arctan2(t[:, 3], t[:, 2]) for t in (before.tuning[i], after.tuning[j])]
        turns.append((angle[1] - angle[0] + np.pi) % (2 * np.pi) - np.pi)
    assert np.rad2deg(np.std(np.concatenate(turns))) == pytest.approx(8, abs=0.5)


def test_sessions_may_differ_in_their_number_of_units() -> None:
    units = [200, 40, 150, 60, 60, 1, 1, 30, 1, 2]
    days = populations(1, units)
    assert [len(day) for day in days] == units
    newest = -1
    for before, day in zip([None, *days], days, strict=False):
        assert len(set(day.id)) == len(set(day.neuron)) == len(day)
        known = [] if before is None else before.neuron
        new = np.setdiff1d(day.neuron, known)
        assert np.all(new > newest)  # never a number that a lost unit had
        newest = max(newest, day.neuron.max())


def test_one_session_is_written_by_itself(center_out: Written, tmp_path: Path) -> None:
    chosen = {"layout": LAYOUTS["000688"], "minutes": 2.0, "seed": 4}
    simulation = Simulation(subjects=2, units=[40] * 3, **chosen)
    third = list(simulation.populations())[2]
    path = simulation.write(tmp_path, 2, simulation.record(2, third))
    assert simulation.name(2) == center_out.sessions[2].session
    assert path.name == center_out.sessions[2].path.name
    with NWBHDF5IO(path, "r") as stream:
        for mine, theirs in zip(
            stream.read().units["spike_times"], center_out.spikes(2), strict=True
        ):
            assert np.array_equal(mine, theirs)
    stated = center_out.truth["subjects"]
    assert set(stated) == {"SimC", "SimM"}
    assert stated["SimC"] != stated["SimM"]


def binned(times: FloatArray, observed: FloatArray, spikes: list[FloatArray]) -> FloatArray:
    """Square roots of counts in 20 ms bins that end around `times`, from -0.3 to +0.3 s."""
    edges = np.arange(-0.3, observed.max() + 0.32, 0.02)
    counts = np.sqrt(np.stack([np.histogram(s, edges)[0] for s in spikes], axis=1))
    bins = np.rint((times - edges[0]) / 0.02).astype(int)
    padded = np.pad(counts, ((0, 31), (0, 0)))
    return np.concatenate([padded[bins + lag] for lag in range(-15, 16, 2)], axis=1)


def ridge_r2(file: Any, spikes: list[FloatArray]) -> float:
    """Held-out R2 of the best of many ridge decoders, over rewarded trials."""
    trials = file.trials.to_dataframe()
    times, velocity = hand(file)
    rows = np.flatnonzero(np.rint(times * 1000) % 20 == 10)
    trial = np.searchsorted(trials["start_time"].to_numpy(), times[rows], side="right") - 1
    kept = trials["success"].to_numpy()[trial]
    rows, trial = rows[kept], trial[kept]
    x, y = binned(times[rows], times, spikes), velocity[rows]
    penalties = np.logspace(1.5, 4, 6)
    decoded = np.zeros((len(penalties), *y.shape))
    for fold in range(4):
        test = trial % 4 == fold
        mean_x, mean_y = x[~test].mean(axis=0), y[~test].mean(axis=0)
        train = x[~test] - mean_x
        values, vectors = np.linalg.eigh(train.T @ train)
        target = vectors.T @ (train.T @ (y[~test] - mean_y))
        inputs = (x[test] - mean_x) @ vectors
        for k, penalty in enumerate(penalties):
            decoded[k, test] = inputs @ (target / (values + penalty)[:, None]) + mean_y
    return max(r2(guess, y).mean for guess in decoded)


def test_the_oracle_beats_a_tuned_ridge_and_is_not_perfect(maze: Written) -> None:
    ridge = ridge_r2(maze.files[0], maze.spikes())
    oracle = maze.sessions[0].oracle_r2
    assert 0.4 < ridge < 0.85
    assert ridge + 0.08 < oracle.mean < 0.97
    assert oracle.mean == pytest.approx((oracle.x + oracle.y) / 2)
    stated = maze.truth["sessions"][0]["oracle_r2"]
    assert stated == oracle._asdict()


def test_the_oracle_reads_spikes_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    array = first_session(Subject(), 60, 2.0, rng)
    motion, elsewhere = (reaches(MAZE, 2.0, rng) for _ in range(2))
    rows = round(motion.duration * 1000)
    observed = np.array([[0.0, motion.duration]])
    velocity = motion.recorded_velocity[:rows]

    def score(of: Any, units: slice = slice(None)) -> float:
        spikes = draw_spikes(array, of, MAZE.reach_speed, rng)
        some = type(array)(**{k: getattr(array, k)[units] for k in array.__dataclass_fields__})
        heard = decode(some, spikes[units], observed, motion, MAZE.reach_speed)
        return r2(heard, velocity).mean

    full = score(motion)
    assert full > 0.8
    assert score(motion, slice(0, 60, 4)) < full - 0.05
    assert score(elsewhere) < 0.05


def test_files_are_in_place_when_they_are_reported(tmp_path: Path) -> None:
    seen = []

    def progress(session: SimulatedSession) -> None:
        seen.append((session.session, session.path.exists()))

    made = simulate(tmp_path, sessions=2, units=8, minutes=0.5, progress=progress)
    assert seen == [(session.session, True) for session in made]
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessions": 0},
        {"subjects": 9},
        {"units": 0},
        {"minutes": 0.0},
        {"seed": -1},
        {"layout": "1"},
    ],
)
def test_arguments_out_of_range_are_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        simulate(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())
