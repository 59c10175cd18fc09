"""NWB files in the manners of several labs, written by pynwb from a seed.

Each function of `LAYOUTS` writes one file; what is in it is then read back with pynwb, the
reference that slices are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject

Write = Callable[[NWBFile, np.random.Generator], None]

SECONDS = 30.0


def new_file(identifier: str) -> NWBFile:
    """An NWB file with a subject and nothing else."""
    return NWBFile(
        session_description="written by a test",
        identifier=identifier,
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        session_id=identifier,
        subject=Subject(subject_id="S1", species="Macaca mulatta", sex="M", age="P5Y"),
    )


def write(path: Path, layout: Write, seed: int = 0) -> Path:
    """Write `layout` to `path`."""
    file = new_file(path.stem)
    layout(file, np.random.default_rng(seed))
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def spike_trains(rng: np.random.Generator, n_units: int, rate: float = 8.0) -> list[np.ndarray]:
    """Sorted spike times on a 30 kHz grid, one array a unit."""
    counts = rng.poisson(rate * SECONDS, n_units)
    return [np.sort(rng.integers(0, int(SECONDS * 30000), n)) / 30000 for n in counts]


def regular(file: NWBFile, rng: np.random.Generator) -> None:
    """Integers with a conversion, a rate and a starting time; centimeters; in a container."""
    for times in spike_trains(rng, 6):
        file.add_unit(spike_times=times)
    data = rng.integers(-2000, 2000, (3000, 2)).astype(np.int16)
    series = SpatialSeries(
        name="cursor_pos", data=data, conversion=0.01, offset=0.5, unit="cm",
        reference_frame="screen", rate=100.0, starting_time=0.25,
    )  # fmt: skip
    module = file.create_processing_module("behavior", "kinematics")
    module.add(Position(spatial_series=series))
    file.add_trial_column("result", "R, A or F")
    file.add_trial_column("target_dir", "radians")
    for k in range(14):
        file.add_trial(
            start_time=2.0 * k, stop_time=2.0 * k + 1.5, result="RAF"[k % 3],
            target_dir=np.nan if k == 3 else k / 7,
        )  # fmt: skip


def irregular(file: NWBFile, rng: np.random.Generator) -> None:
    """Off-grid spikes, an irregular clock, degrees, one dimension, epochs with tags."""
    for n in (200, 0, 50):
        file.add_unit(spike_times=np.sort(rng.uniform(0, SECONDS, n)))
    stamps = np.cumsum(rng.uniform(0.01, 0.03, 1200))
    heading = TimeSeries(
        name="heading",
        data=rng.normal(size=1200).astype(np.float32),
        unit="degrees",
        timestamps=stamps,
    )
    file.create_processing_module("behavior", "tracking").add(heading)
    file.add_epoch(start_time=0.0, stop_time=12.0, tags=["run", "maze"])
    file.add_epoch(start_time=12.0, stop_time=SECONDS, tags=["rest"])


def with_gaps(file: NWBFile, rng: np.random.Generator) -> None:
    """Samples inside trials only, timestamps on a 1 kHz grid; obs_intervals; millimeters."""
    starts = np.round(np.cumsum(rng.uniform(1.5, 2.2, 12)), 1)
    stops = np.append(starts[1:] - np.round(rng.uniform(0, 0.1, 11), 3), starts[-1] + 1.5)
    ticks = np.concatenate(
        [np.arange(round(a * 1000), round(b * 1000)) for a, b in zip(starts, stops, strict=True)]
    )
    series = TimeSeries(
        name="hand_vel", data=rng.normal(size=(len(ticks), 2)) * 100, conversion=0.001,
        unit="m/s", timestamps=ticks / 1000, comments="columns=[x,y]",
    )  # fmt: skip
    file.create_processing_module("behavior", "kinematics").add(series)
    file.add_unit_column("heldout", "whether the benchmark hides it")
    intervals = np.stack([starts, stops], axis=1)
    for k, times in enumerate(spike_trains(rng, 5)):
        inside = np.any((times[:, None] >= starts) & (times[:, None] < stops), axis=1)
        file.add_unit(
            spike_times=times[inside], obs_intervals=intervals, heldout=k % 2 == 0, id=1031 + 10 * k
        )
    for start, stop in intervals:
        file.add_trial(start_time=start, stop_time=stop)


def shared_names(file: NWBFile, rng: np.random.Generator) -> None:
    """One series name at two paths, spaces and other letters in names, electrodes with areas."""
    device = file.create_device("array")
    for area in ("M1", "PMd"):
        group = file.create_electrode_group(area, "array", area, device)
        for _ in range(2):
            file.add_electrode(group=group, location=area)
    for k, times in enumerate(spike_trains(rng, 4)):
        file.add_unit(spike_times=times, electrodes=[k])
    for name, unit in (("raw", "AU"), ("smooth finger", "AU"), ("Läufer ∆x", "mm")):
        data = rng.normal(size=(600, 3))
        series = TimeSeries(name="index", data=data, unit=unit, rate=20.0, starting_time=0.0)
        file.add_acquisition(BehavioralTimeSeries(name=name, time_series=series))


def beside_voltage(file: NWBFile, rng: np.random.Generator) -> None:
    """Behavior directly in acquisition, next to raw voltage that is to be left."""
    device = file.create_device("probe")
    group = file.create_electrode_group("shank", "probe", "CA1", device)
    file.add_electrode(group=group, location="CA1")
    region = file.create_electrode_table_region([0], "all")
    for times in spike_trains(rng, 3):
        file.add_unit(spike_times=times, electrodes=[0], electrode_group=group)
    voltage = rng.integers(-99, 99, (5000, 1)).astype(np.int16)
    file.add_acquisition(
        ElectricalSeries(name="voltage", data=voltage, electrodes=region, rate=1000.0)
    )
    file.add_acquisition(TimeSeries(name="wheel", data=rng.normal(size=900), unit="rad", rate=30.0))


LAYOUTS: dict[str, Write] = {
    layout.__name__: layout
    for layout in (regular, irregular, with_gaps, shared_names, beside_voltage)
}
