"""Validation reports data that are wrong, and is silent about data that are right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, Intervals
from neurobrick.checks import derivatives, plausibility, validate
from neurobrick.checks.finding import Finding
from neurobrick.schema import Series, SessionData
from neurobrick.store import SessionStore


def series(times: np.ndarray, values: np.ndarray, unit: str = "m", columns: str = "xy") -> Series:
    return Series(times, values, unit, "somewhere", unit, columns=tuple(columns))


def said(findings: Iterable[Finding], level: str) -> str:
    return "\n".join(f"{f.subject}: {f.text}" for f in findings if f.level == level)


def reach(seconds: float = 60.0, rate: float = 100.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (n,) s, a smooth position (n, 2) m, and its true velocity (n, 2) m/s."""
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * rate)) / rate
    hz, phase = rng.uniform(0.2, 2.0, (2, 6)), rng.uniform(0, 6, (2, 6))
    angle = 2 * np.pi * times[:, None, None] * hz + phase
    position = 0.05 * np.sin(angle).sum(axis=2)
    velocity = (0.05 * 2 * np.pi * hz * np.cos(angle)).sum(axis=2)
    return times, position, velocity


def test_refractory_violations_equal_a_count_interval_by_interval() -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 20_000, 3000)) / 10_000
    units = rng.integers(0, 5, 3000)
    units[units == 3] = 4  # unit 3 is silent
    share, counts = plausibility.violations(times, units, 5)
    for unit in range(5):
        own = [t for t, u in zip(times, units, strict=True) if u == unit]
        steps = [b - a for a, b in pairwise(own) if b > a]
        assert counts[unit] == len(steps)
        if steps:
            assert share[unit] == pytest.approx(sum(s < 0.0015 for s in steps) / len(steps))
        else:
            assert np.isnan(share[unit])


def test_multi_units_are_distinguished_from_single_units() -> None:
    rng = np.random.default_rng(2)
    single = np.cumsum(0.003 + rng.exponential(0.02, 2000))  # never within 3 ms
    multi = np.cumsum(rng.exponential(0.02, 2000))  # a Poisson train: 7 % within 1.5 ms
    times = np.concatenate([single, multi])
    units = np.repeat([0, 1], 2000)
    order = np.argsort(times)
    (found,) = plausibility.refractory(times[order], units[order], 2)
    assert found.text.startswith("1 of 2 have more than 2%")


def test_rates_that_no_neuron_reaches() -> None:
    units = np.repeat([0, 2, 3], [100, 6_000, 50])
    found = plausibility.firing_rates(units, 4, duration=10.0)
    assert said(found, "warning") == (
        "units: 2 fire above 500 Hz on average, up to 600 Hz: noise, several neurons, or times not"
        " in seconds"
    )
    assert said(found, "info") == "units: 1 of 4 never fire"
    assert plausibility.firing_rates(units, 4, duration=20.0) == [
        f for f in found if f.level == "info"
    ]


def test_a_unit_that_is_stored_twice() -> None:
    rng = np.random.default_rng(3)
    trains = [np.unique(rng.integers(0, 60_000, 900)) / 1000 for _ in range(6)]  # ms
    trains[4] = np.union1d(trains[1][::2], trains[4][:100])
    times = np.concatenate([*trains, trains[0][:3]])  # three spikes of unit 0 twice
    units = np.concatenate([np.full(len(t), k) for k, t in enumerate(trains)] + [np.zeros(3, int)])
    order = np.argsort(times, kind="stable")
    found = plausibility.duplicates(times[order], units[order].astype(np.int32), 6)
    shared = len(np.intersect1d(trains[1], trains[4]))
    assert said(found, "info") == "units: spikes that a unit has twice: 3"
    assert said(found, "warning") == (
        f"units: 1 and 4 share {shared} of {len(trains[4])} spikes: one neuron twice?"
    )


@pytest.mark.parametrize("factor", [1.0, 100.0, 0.01, 10.0])
def test_the_factor_of_a_velocity_is_found(factor: float) -> None:
    times, position, velocity = reach()
    found = derivatives.derivatives(
        {
            "hand_pos": series(times, position),
            "hand_vel": series(times, factor * velocity, "m/s"),
        }
    )
    (finding,) = found
    assert finding.subject == "hand_vel"
    assert finding.level == ("info" if factor == 1 else "error")
    if factor != 1:
        assert f"it is {factor:g} times the derivative of hand_pos" in finding.text


def test_noise_gaps_jumps_and_other_clocks_raise_no_alarm() -> None:
    rng = np.random.default_rng(4)
    times, position, velocity = reach(120, 1000)
    position = position + rng.normal(0, 1e-4, position.shape)  # 0.1 mm: 0.1 m/s between samples
    position += 5.0 * (times[:, None] // 10)  # put elsewhere every 10 s
    velocity[5000:5200] = np.nan
    kept = (times % 7) > 1  # recording stops for a second, every seven
    camera = np.sort(rng.uniform(0, 120, 8000))
    seen = np.stack([np.interp(camera, times, column) for column in position.T], axis=1)
    for track in (series(times[kept], position[kept]), series(camera, seen)):
        (found,) = derivatives.derivatives(
            {"Position": track, "Velocity": series(times[kept], velocity[kept], "m/s")}
        )
        assert found.level == "info", found


def test_a_heading_that_passes_two_pi_has_not_jumped() -> None:
    times = np.arange(3000) / 50
    turned = 3 * times[:, None] + np.sin(times)[:, None]
    behavior = {
        "head_angle": series(times, turned % (2 * np.pi), "rad", "z"),
        "head_velocity": series(times, 3 + np.cos(times)[:, None], "rad/s", "z"),
    }
    (found,) = derivatives.derivatives(behavior)
    assert found.level == "info"


def test_a_velocity_of_something_else_is_reported() -> None:
    times, position, velocity = reach()
    track = series(times, position)

    def of(values: np.ndarray, unit: str = "m/s") -> Finding:
        (found,) = derivatives.derivatives(
            {"hand_pos": track, "hand_vel": series(times, values, unit)}
        )
        return found

    assert "does not follow hand_pos" in of(velocity[:, ::-1]).text
    assert "does not follow hand_pos" in of(np.roll(velocity, 3000, axis=0)).text
    assert "the sign turned" in of(-velocity).text
    assert "the sign turned" in of(velocity * [1, -1]).text
    assert {of(velocity[:, ::-1]).level, of(-velocity).level} == {"warning"}
    assert of(3 * velocity, "AU").level == "info"  # AU is no known unit


def test_names_pair_velocities_with_positions() -> None:
    times = np.arange(3.0)
    names = [
        "cursor_pos", "cursor_vel", "cursor_acc", "hand_vel", "Position.LED", "Velocity.LED",
        "WheelPositionSmoothed", "WheelVelocitySmoothed", "joint_ang", "joint_vel", "position",
    ]  # fmt: skip
    behavior = {name: series(times, np.zeros((3, 2))) for name in names}
    behavior |= dict.fromkeys(("arm_pos", "arm_angle", "arm_vel"), behavior["position"])
    behavior["finger_pos"] = series(times, np.zeros((3, 3)), columns="xyz")
    behavior["finger_vel"] = series(times, np.zeros((3, 2)))
    assert set(derivatives.pairs(behavior)) == {
        ("cursor_pos", "cursor_vel"),
        ("cursor_vel", "cursor_acc"),
        ("Position.LED", "Velocity.LED"),
        ("WheelPositionSmoothed", "WheelVelocitySmoothed"),
        ("joint_ang", "joint_vel"),
    }


def test_dead_missing_frozen_and_uneven_samples() -> None:
    times, position, _ = reach(600, 10)

    def of(times: np.ndarray, values: np.ndarray, *, target: bool = True) -> list[Finding]:
        return plausibility.samples("led", series(times, values), is_target=target)

    assert of(times, position) == []
    dead = position * [1, 0]
    assert said(of(times, dead), "warning") == "led: column y never changes"
    assert said(of(times, dead, target=False), "warning") == ""
    missing = position.copy()
    missing[:4000, 1] = np.nan
    assert said(of(times, missing), "warning") == "led: 66.7% of its samples are missing (NaN)"
    frozen = position.copy()
    frozen[2000:3000] = frozen[2000]
    assert "changes from 200.0 to 299.9 s" in said(of(times, frozen), "warning")
    uneven = np.sort(np.random.default_rng(5).uniform(0, 600, len(times)))
    assert "its clock is uneven" in said(of(uneven, position), "info")


def session_of(corpus: Dataset, name: str) -> SessionData:
    return validate.load(SessionStore.at(corpus.root / "local" / f"{name}.zarr"))


def test_simulated_and_written_sessions_have_no_faults(corpus: Dataset) -> None:
    for session in corpus:
        found = validate.validate(SessionStore.at(corpus.root / f"{session}.zarr"))
        assert said(found, "error") == ""
        if "Sim" in session:
            assert said(found, "warning") == ""
            assert "it is the derivative of" in said(found, "info")


def test_clocks_that_never_meet(corpus: Dataset) -> None:
    session = session_of(corpus, "sub-A_ses-regular")
    (name, track), *_ = session.behavior.items()
    later = replace(session, behavior={name: replace(track, timestamps=track.timestamps + 1e6)})
    assert f"{name}: no spike falls into its time" in said(validate.coverage(later), "error")
    assert said(validate.coverage(session), "error") == ""


def test_trials_and_spikes_of_another_time(corpus: Dataset) -> None:
    session = session_of(corpus, "sub-A_ses-regular")
    trials = session.intervals["trials"]
    moved = pa.table({name: np.asarray(trials[name]) + 1e4 for name in ("start", "stop")})
    some = pa.concat_tables([trials.select(["start", "stop"]), moved.slice(0, 3)])
    n = trials.num_rows
    found = validate.coverage(replace(session, intervals={"trials": moved}))
    assert said(found, "error") == f"trials: {n} of {n} rows lie outside the recorded time"
    found = validate.coverage(replace(session, intervals={"trials": some}))
    assert said(found, "warning") == f"trials: 3 of {n + 3} rows lie outside the recorded time"
    half = replace(session, domain=Intervals([0.0], [15.0]), intervals={})
    outside = int(np.sum(session.spike_times >= 15.0))
    assert f"spikes: {outside:,} of" in said(validate.coverage(half), "warning")


def test_splits_without_anything_to_score(corpus: Dataset) -> None:
    session = session_of(corpus, "sub-A_ses-regular")
    assert validate.division(session) == []
    scored_in_train = replace(session, evaluation=session.splits["train"])
    assert said(validate.division(scored_in_train), "warning") == (
        "splits: nothing of valid is scored\nsplits: nothing of test is scored"
    )
    untested = replace(session, splits={k: v for k, v in session.splits.items() if k != "test"})
    assert said(validate.division(untested), "warning") == "splits: test is empty"
    unscored = replace(session, evaluation=Intervals.empty())
    assert "no time of the session is scored" in said(validate.division(unscored), "warning")


@pytest.mark.parametrize(
    ("ratio", "level"), [(1.0, None), (2.9, None), (4.0, "warning"), (1000.0, "error")]
)
@pytest.mark.parametrize("longer", ["hand", "trials", "domain"])
def test_what_lasts_longer_than_the_spikes(
    longer: str, ratio: float, level: str | None, corpus: Dataset
) -> None:
    """A clock in another unit makes a session of a minute one of hours."""
    session = session_of(corpus, "sub-A_ses-regular")
    seconds = session.spike_times[-1] - session.spike_times[0]
    ends = np.array([0.0, ratio * seconds])
    changed = {
        "hand": {"behavior": {"hand": series(ends, np.zeros((2, 2)))}},
        "trials": {"intervals": {"trials": pa.table({"start": ends[:1], "stop": ends[1:]})}},
        "domain": {"domain": Intervals(ends[:1], ends[1:])},
    }[longer]
    plain = replace(session, behavior={}, intervals={})
    findings = validate.extent(replace(plain, **changed))
    if level is None:
        assert findings == []
    else:
        (finding,) = findings
        assert (finding.subject, finding.level) == (longer, level)
        assert "perhaps its clock is not in seconds" in finding.text


@pytest.mark.parametrize(("shape", "odd"), [((2, 3000), True), ((3000, 2), False)])
def test_a_series_with_its_axes_exchanged(
    shape: tuple[int, int], odd: bool, corpus: Dataset
) -> None:
    session = session_of(corpus, "sub-A_ses-regular")
    wide = series(np.arange(shape[0]) / 50, np.zeros(shape), columns="")
    text = said(validate.extent(replace(session, behavior={"hand_vel": wide})), "warning")
    assert ("repairs: [transpose]" in text) == odd


def test_a_session_without_a_target_says_what_there_is(corpus: Dataset) -> None:
    session = session_of(corpus, "sub-A_ses-regular")
    without = replace(session, metadata=session.metadata.model_copy(update={"target": None}))
    assert said(validate.target(session), "info") == ""
    (name, *_) = session.behavior
    assert name in said(validate.target(without), "info")
    assert "no behavior" in said(validate.target(replace(without, behavior={})), "info")
