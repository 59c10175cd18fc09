"""Behavior: its place in the file, its times, its units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import (
    BehavioralEvents,
    BehavioralTimeSeries,
    CompassDirection,
    Position,
    PupilTracking,
    SpatialSeries,
)

from tests.support.labs import SECONDS, Behavior, Truth, add_units, lab, new_file, save, trains

N = 500


def recording(rng: np.random.Generator) -> tuple[NWBFile, list[np.ndarray]]:
    """A file with two units and nothing else yet."""
    spikes = trains(rng, 2)
    file = new_file()
    add_units(file, spikes)
    return file, spikes


def spatial(name: str, data: np.ndarray, **fields: Any) -> SpatialSeries:
    return SpatialSeries(name=name, data=data, reference_frame="room", **fields)


def regular(n: int = N, rate: float = 50.0, start: float = 0.0) -> np.ndarray:
    """The timestamps of a rate and a starting time."""
    return np.arange(n) / rate + start


@lab
def samples_inside_trials_only(path: Path, rng: np.random.Generator) -> Truth:
    """Millimeters with a conversion, 1 kHz with a gap after each trial, column names (000128)."""
    file, spikes = recording(rng)
    ticks = np.concatenate([np.arange(k * 2000, k * 2000 + 1930) for k in range(9)])
    data = rng.normal(size=(len(ticks), 2)) * 100
    series = spatial("hand_pos", data, unit="m", conversion=0.001, timestamps=ticks / 1000,
                     comments="columns=[x,y]")  # fmt: skip
    file.create_processing_module("behavior", "reaching").add(series)
    save(file, path).close()
    return Truth(spikes, {"hand_pos": Behavior(ticks / 1000, data * 0.001, "m")}, notes=("8 gaps",))


@lab
def containers_of_every_kind(path: Path, rng: np.random.Generator) -> Truth:
    """Position, CompassDirection, BehavioralTimeSeries, BehavioralEvents and PupilTracking."""
    file, spikes = recording(rng)
    module = file.create_processing_module("behavior", "all")
    truth = {}

    def fields(name: str, unit: str, symbol: str, factor: float, *width: int) -> dict[str, Any]:
        values = rng.normal(size=(N, *width))
        truth[name] = Behavior(regular(), values.reshape(N, -1) * factor, symbol)
        return {"name": name, "data": values, "unit": unit, "rate": 50.0}

    module.add(Position(spatial_series=spatial(**fields("head", "cm", "m", 0.01, 2))))
    heading = spatial(**fields("heading", "degrees", "rad", np.pi / 180))
    module.add(CompassDirection(spatial_series=heading))
    emg = [TimeSeries(**fields(f"emg_{k}", "mV", "V", 1e-3)) for k in range(4)]
    module.add(BehavioralTimeSeries(name="emg", time_series=emg))
    module.add(BehavioralEvents(time_series=TimeSeries(**fields("lick", "ms", "s", 1e-3))))
    module.add(PupilTracking(time_series=TimeSeries(**fields("pupil", "mm", "m", 1e-3))))
    save(file, path).close()
    return Truth(spikes, truth)


@lab
def modules_of_its_own(path: Path, rng: np.random.Generator) -> Truth:
    """A wheel on its irregular clock, and smoothed on a regular clock (000409)."""
    file, spikes = recording(rng)
    stamps = np.sort(rng.uniform(0, SECONDS, 300))
    turned, smooth = np.cumsum(rng.normal(size=300)) * 0.01, rng.normal(size=N)
    wheel = file.create_processing_module("wheel", "wheel")
    wheel.add(spatial("WheelPosition", turned, unit="radians", timestamps=stamps))
    wheel.add(TimeSeries(name="WheelVelocitySmoothed", data=smooth, unit="rad/s", rate=25.0))
    save(file, path).close()
    return Truth(
        spikes,
        {
            "WheelPosition": Behavior(stamps, turned[:, None], "rad"),
            "WheelVelocitySmoothed": Behavior(regular(rate=25.0), smooth[:, None], "rad/s"),
        },
    )


@lab
def the_same_name_twice(path: Path, rng: np.random.Generator) -> Truth:
    """finger_pos and finger_vel both hold series index and mrs, in the unknown unit AU (000953)."""
    file, spikes = recording(rng)
    truth = {}
    for container in ("finger_pos", "finger_vel"):
        series = []
        for name in ("index", "mrs"):
            values = rng.normal(size=N)
            series.append(TimeSeries(name=name, data=values, unit="AU", rate=50.0))
            truth[f"{container}.{name}"] = Behavior(regular(), values[:, None], "AU")
        file.add_acquisition(BehavioralTimeSeries(name=container, time_series=series))
    save(file, path).close()
    return Truth(spikes, truth, notes=("unit 'AU' is not known",))


@lab
def raw_and_processed_alike(path: Path, rng: np.random.Generator) -> Truth:
    """RedLED in acquisition and again in processing; -1 for a lost light is kept (000056)."""
    file, spikes = recording(rng)
    raw, smooth = rng.uniform(0, 600, (N, 2)), rng.uniform(0, 6, (N, 2))
    raw[10:20] = -1.0
    file.add_acquisition(spatial("RedLED", raw, unit="pixels", rate=50.0))
    module = file.create_processing_module("behavior", "tracking")
    position = Position(name="SubjectPosition")
    position.add_spatial_series(spatial("RedLED", smooth, unit="cm", rate=50.0))
    module.add(position)
    save(file, path).close()
    return Truth(
        spikes,
        {
            "acquisition.RedLED": Behavior(regular(), raw, "pixels"),
            "SubjectPosition.RedLED": Behavior(regular(), smooth * 0.01, "m"),
        },
        notes=("unit 'pixels' is not known",),
    )


@lab
def running_on_linked_timestamps(path: Path, rng: np.random.Generator) -> Truth:
    """Timestamps that are a link to those of another series; a series of NaN only (000021)."""
    file, spikes = recording(rng)
    stamps = np.cumsum(rng.uniform(0.02, 0.04, N))
    speed, rotation = rng.normal(size=N) * 30, rng.normal(size=N)
    first = TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=stamps)
    module = file.create_processing_module("running", "running")
    module.add(first)
    module.add(
        TimeSeries(name="running_wheel_rotation", data=rotation, unit="rad", timestamps=first)
    )
    ends = TimeSeries(
        name="running_speed_end_times", data=np.full(N, np.nan), unit="cm/s", timestamps=stamps
    )
    module.add(ends)
    save(file, path).close()
    return Truth(
        spikes,
        {
            "running_speed": Behavior(stamps, speed[:, None] * 0.01, "m/s"),
            "running_wheel_rotation": Behavior(stamps, rotation[:, None], "rad"),
            "running_speed_end_times": Behavior(stamps, np.full((N, 1), np.nan), "m/s"),
        },
        notes=("500 of 500 samples hold NaN",),
    )


@lab
def timestamps_in_two_rows(path: Path, rng: np.random.Generator) -> Truth:
    """Timestamps of shape (2, n), which pynwb refuses: left."""
    file, spikes = recording(rng)
    file.create_processing_module("running", "running").add(
        TimeSeries(name="running_speed", data=rng.normal(size=N), unit="cm/s", timestamps=regular())
    )
    with save(file, path) as saved:
        group = saved["processing/running/running_speed"]
        attributes = dict(group["timestamps"].attrs)
        del group["timestamps"]
        group["timestamps"] = np.stack([regular(), regular() + 0.02])
        group["timestamps"].attrs.update(attributes)
    left = {"processing/running/running_speed": "(2, 500) timestamps for 500 samples"}
    return Truth(spikes, left=left, by_pynwb=False)


@lab
def a_starting_time_in_a_list(path: Path, rng: np.random.Generator) -> Truth:
    """starting_time of shape (1,), samples of shape (n, 1): MATLAB has no scalars, no vectors."""
    file, spikes = recording(rng)
    values = rng.normal(size=(N, 1))
    file.add_acquisition(
        TimeSeries(name="lever", data=values, unit="mm", rate=100.0, starting_time=3.5)
    )
    with save(file, path) as saved:
        group = saved["acquisition/lever"]
        attributes = dict(group["starting_time"].attrs)
        del group["starting_time"]
        group["starting_time"] = np.array([3.5])
        group["starting_time"].attrs.update(attributes)
    stamps = np.arange(N) / 100.0 + 3.5
    return Truth(spikes, {"lever": Behavior(stamps, values * 0.001, "m")}, by_pynwb=False)


@lab
def counts_of_a_converter(path: Path, rng: np.random.Generator) -> Truth:
    """int16 with a conversion and an offset, in centimeters."""
    file, spikes = recording(rng)
    counts = rng.integers(-2000, 2000, (N, 3)).astype(np.int16)
    file.add_acquisition(
        spatial("finger", counts, unit="cm", conversion=0.005, offset=2.0, rate=50.0)
    )
    save(file, path).close()
    values = ((counts * 0.005 + 2.0) * 0.01).astype(np.float32)
    return Truth(spikes, {"finger": Behavior(regular(), values, "m")})


@lab
def a_conversion_that_is_nan(path: Path, rng: np.random.Generator) -> Truth:
    """The default unit, meters, with conversion NaN: values are kept, noted (000070)."""
    file, spikes = recording(rng)
    values = rng.normal(size=(N, 3)) * 50
    hand = spatial("Hand", values, unit="meters", conversion=float("nan"), rate=50.0)
    file.create_processing_module("behavior", "maze").add(Position(spatial_series=hand))
    save(file, path).close()
    return Truth(
        spikes,
        {"Hand": Behavior(regular(), values, "meters")},
        notes=("conversion nan", "may not be 'meters'"),
    )


@lab
def a_conversion_that_was_never_set(path: Path, rng: np.random.Generator) -> Truth:
    """A hand that moves by 120 m, with conversion 1: kept, noted."""
    file, spikes = recording(rng)
    values = np.linspace(-120, 120, N)
    file.add_acquisition(spatial("hand", values, unit="meters", rate=50.0))
    save(file, path).close()
    return Truth(
        spikes,
        {"hand": Behavior(regular(), values[:, None], "m")},
        notes=("perhaps it is in another unit",),
    )


@lab
def a_camera_that_lost_frames(path: Path, rng: np.random.Generator) -> Truth:
    """Samples of NaN, timestamps of NaN, and two samples at the same time."""
    file, spikes = recording(rng)
    stamps, values = regular(), rng.normal(size=(N, 2))
    values[20:25] = np.nan
    stamps[[7, 300]] = np.nan
    stamps[100] = stamps[99]
    file.add_acquisition(spatial("nose", values, unit="m", timestamps=stamps))
    save(file, path).close()
    kept = np.isfinite(stamps)
    return Truth(
        spikes,
        {"nose": Behavior(stamps[kept], values[kept], "m")},
        notes=("2 samples without a time", "5 of 498 samples hold NaN", "1 samples share a time"),
    )


@lab
def a_camera_that_wavers(path: Path, rng: np.random.Generator) -> Truth:
    """Timestamps that fall twice, by milliseconds, as those of IBL's cameras: sorted, noted."""
    file, spikes = recording(rng)
    stamps, values = regular(), rng.normal(size=(N, 2))
    stamps[[100, 300]] -= 0.025
    file.add_acquisition(spatial("paw", values, unit="m", timestamps=stamps))
    save(file, path).close()
    order = np.argsort(stamps, kind="stable")
    truth = Behavior(stamps[order], values[order], "m")
    return Truth(spikes, {"paw": truth}, notes=("fall 2 times, by at most 0.005 s",))


@lab
def timestamps_in_milliseconds(path: Path, rng: np.random.Generator) -> Truth:
    """Timestamps whose attribute unit says milliseconds: brought to seconds, noted."""
    file, spikes = recording(rng)
    values, ticks = rng.normal(size=N), np.arange(N) * 20.0
    file.add_acquisition(TimeSeries(name="lever", data=values, unit="m", timestamps=ticks))
    with save(file, path) as saved:
        saved["acquisition/lever/timestamps"].attrs["unit"] = "milliseconds"
    truth = Behavior(ticks / 1000, values[:, None], "m")
    return Truth(spikes, {"lever": truth}, notes=("timestamps are in milliseconds",))


@lab
def a_bin_width_for_a_rate(path: Path, rng: np.random.Generator) -> Truth:
    """A rate of 0.02, for bins of 20 ms: the series would last 7 hours, and is left."""
    file, spikes = recording(rng)
    file.add_acquisition(TimeSeries(name="lever", data=rng.normal(size=N), unit="m", rate=0.02))
    save(file, path).close()
    return Truth(spikes, left={"acquisition/lever": "is a bin width, or in kHz"})


@lab
def time_along_the_last_axis(path: Path, rng: np.random.Generator) -> Truth:
    """Data of shape (2, n) with a rate: kept as it is, noted, and no decoding target."""
    file, spikes = recording(rng)
    values = rng.normal(size=(2, N))
    file.add_acquisition(TimeSeries(name="lever", data=values, unit="m", rate=50.0))
    save(file, path).close()
    notes = ("perhaps its time lies along the last axis",)
    return Truth(spikes, {"lever": Behavior(regular(2), values, "m")}, notes=notes)


@lab
def series_whose_times_are_wrong(path: Path, rng: np.random.Generator) -> Truth:
    """Timestamps that run backwards by 4 s, too few of them, a rate of 0, a start of NaN: left."""
    file, spikes = recording(rng)
    backwards = regular()
    backwards[250:] -= 4.0
    values = rng.normal(size=N)
    for name, stamps in (("backwards", backwards), ("short", regular()), ("good", regular())):
        file.add_acquisition(TimeSeries(name=name, data=values, unit="m", timestamps=stamps))
    for name in ("still", "never"):
        file.add_acquisition(TimeSeries(name=name, data=values, unit="m", rate=10.0))
    with save(file, path) as saved:
        group = saved["acquisition/short"]
        attributes = dict(group["timestamps"].attrs)
        del group["timestamps"]
        group["timestamps"] = regular(N - 3)
        group["timestamps"].attrs.update(attributes)
        saved["acquisition/still/starting_time"].attrs["rate"] = 0.0
        saved["acquisition/never/starting_time"][()] = np.nan
    return Truth(
        spikes,
        {"good": Behavior(regular(), values[:, None], "m")},
        left={
            "acquisition/backwards": "run backwards 1 times, first at row 250",
            "acquisition/short": "497 timestamps for 500 samples",
            "acquisition/still": "rate is 0",
            "acquisition/never": "starting time is nan",
        },
        by_pynwb=False,
    )


@lab
def keypoints_in_three_axes(path: Path, rng: np.random.Generator) -> Truth:
    """Samples of shape (keypoints, 2): laid out flat, noted. A series without samples: left."""
    file, spikes = recording(rng)
    values = rng.normal(size=(N, 4, 2)).astype(np.float32)
    file.add_acquisition(TimeSeries(name="pose", data=values, unit="m", rate=50.0))
    file.add_acquisition(TimeSeries(name="none", data=np.zeros(0), unit="m", rate=50.0))
    save(file, path).close()
    return Truth(
        spikes,
        {"pose": Behavior(regular(), values.reshape(N, 8), "m")},
        left={"acquisition/none": "empty"},
        notes=("laid out flat",),
    )


@lab
def many_strings_for_one_unit(path: Path, rng: np.random.Generator) -> Truth:
    """Six spellings of meters per second."""
    file, spikes = recording(rng)
    truth = {}
    factors = {"cm/s": 0.01, "mm/sec": 0.001, "meters per second": 1.0, "m / s": 1.0}
    factors |= {"m s^-1": 1.0, "m·s⁻¹": 1.0}
    for k, (unit, factor) in enumerate(factors.items()):
        values = rng.normal(size=N)
        file.add_acquisition(TimeSeries(name=f"v{k}", data=values, unit=unit, rate=50.0))
        truth[f"v{k}"] = Behavior(regular(), values[:, None] * factor, "m/s")
    save(file, path).close()
    return Truth(spikes, truth)


@lab
def odd_names(path: Path, rng: np.random.Generator) -> Truth:
    """Spaces, dots, percent signs, letters beyond ASCII."""
    file, spikes = recording(rng)
    truth = {}
    for name in ("left paw", "Läufer ∆x", "cam.1; nose", "50%2F50", ".hidden", "COM1"):
        values = rng.normal(size=N)
        file.add_acquisition(TimeSeries(name=name, data=values, unit="m", rate=50.0))
        truth[name] = Behavior(regular(), values[:, None], "m")
    save(file, path).close()
    return Truth(spikes, truth)


@lab
def a_series_called_timestamps(path: Path, rng: np.random.Generator) -> Truth:
    """A TimeSeries whose name is timestamps (000021)."""
    file, spikes = recording(rng)
    values = rng.normal(size=N)
    module = file.create_processing_module("stimulus", "times")
    module.add(TimeSeries(name="timestamps", data=values, unit="s", timestamps=regular()))
    save(file, path).close()
    return Truth(spikes, {"timestamps": Behavior(regular(), values[:, None], "s")})
