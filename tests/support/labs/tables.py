"""Trials and other interval tables: their names, their places, their columns."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from hdmf.common import DynamicTable
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from tests.support.labs import Truth, add_units, lab, new_file, save, trains

TIMES = np.array([[0.5, 2.0], [2.5, 4.0], [5.0, 7.5], [8.0, 8.5]])


def recording(rng: np.random.Generator) -> tuple[NWBFile, list[np.ndarray]]:
    """A file with two units and nothing else yet."""
    spikes = trains(rng, 2)
    file = new_file()
    add_units(file, spikes)
    return file, spikes


def intervals(name: str, times: np.ndarray = TIMES, **columns: list[object]) -> TimeIntervals:
    """A table of `times` with columns of values."""
    table = TimeIntervals(name=name, description="of a test")
    for start, stop in times:
        table.add_interval(start_time=start, stop_time=stop)
    for column, values in columns.items():
        table.add_column(column, "of a test", data=values)
    return table


@lab
def trials_without_times(path: Path, rng: np.random.Generator) -> Truth:
    """A trial whose stop is NaN, and trials that overlap: kept, noted."""
    file, spikes = recording(rng)
    times = np.array([[0.0, 4.0], [3.0, np.nan], [3.5, 9.0], [10.0, 12.0]])
    file.add_time_intervals(intervals("trials", times))
    save(file, path).close()
    return Truth(spikes, intervals={"trials": times}, notes=("NaN start or stop", "overlap"))


@lab
def trials_out_of_order(path: Path, rng: np.random.Generator) -> Truth:
    """Trials sorted by condition, and a trial that stops before it starts: kept, noted."""
    file, spikes = recording(rng)
    times = np.array([[8.0, 9.0], [1.0, 2.0], [5.0, 4.0], [3.0, 3.5]])
    file.add_time_intervals(intervals("trials", times))
    save(file, path).close()
    notes = ("not in the order", "1 rows stop before they start")
    return Truth(spikes, intervals={"trials": times}, notes=notes)


@lab
def no_trials_at_all(path: Path, rng: np.random.Generator) -> Truth:
    """No interval table: 39 of 110 dandisets with spikes have none."""
    file, spikes = recording(rng)
    save(file, path).close()
    return Truth(spikes)


@lab
def tables_of_other_names(path: Path, rng: np.random.Generator) -> Truth:
    """Presentations of stimuli (000021), an encoding table (000207), epochs with tags, gaps."""
    file, spikes = recording(rng)
    for name in ("drifting_gratings_presentations", "encoding_table"):
        file.add_time_intervals(intervals(name, contrast=[0.1, 0.8, np.nan, 1.0]))
    for start, stop in TIMES:
        file.add_epoch(start_time=start, stop_time=stop, tags=["maze", "left"])
    file.add_invalid_time_interval(start_time=9.0, stop_time=9.5)
    save(file, path).close()
    found = dict.fromkeys(("drifting_gratings_presentations", "encoding_table", "epochs"), TIMES)
    return Truth(spikes, intervals={**found, "invalid_times": np.array([[9.0, 9.5]])})


@lab
def states_in_a_module(path: Path, rng: np.random.Generator) -> Truth:
    """Sleep states of float32, in processing/behavior (000056, 000939)."""
    file, spikes = recording(rng)
    module = file.create_processing_module("behavior", "states")
    module.add(intervals("states", label=["wake", "nrem", "rem", "wake"]))
    with save(file, path) as saved:
        group = saved["processing/behavior/states"]
        for name in ("start_time", "stop_time"):
            attributes, data = dict(group[name].attrs), group[name][:].astype(np.float32)
            del group[name]
            group.create_dataset(name, data=data).attrs.update(attributes)
    return Truth(spikes, intervals={"states": TIMES.astype(np.float32).astype(np.float64)})


@lab
def columns_of_every_kind(path: Path, rng: np.random.Generator) -> Truth:
    """Texts, booleans, arrays of four numbers, ragged lists that may be empty, lists of lists."""
    file, spikes = recording(rng)
    table = intervals("trials", result=["R", "A", "R", "F"], rewarded=[True, False, True, False])
    table.add_column("target_corners", "m", data=rng.normal(size=(4, 4)))
    table.add_column("target_pos", "mm", data=[[1, 2], [], [3, 4, 5, 6], [7, 8]], index=True)
    table.add_column("frames", "rows", data=[[[1, 2], [3]], [], [[4]], [[5, 6]]], index=2)
    file.add_time_intervals(table)
    save(file, path).close()
    return Truth(spikes, intervals={"trials": TIMES})


@lab
def trials_that_point_at_series(path: Path, rng: np.random.Generator) -> Truth:
    """A timeseries column of references: left (000070). A column called start: kept, renamed."""
    file, spikes = recording(rng)
    file.add_time_intervals(intervals("trials", start=["a", "b", "c", "d"]))
    with save(file, path) as saved:
        table = saved["intervals/trials"]
        reference = np.array([table.ref] * 4, dtype=h5py.ref_dtype)
        table.create_dataset("timeseries", data=reference, dtype=h5py.ref_dtype)
        table.attrs["colnames"] = [*table.attrs["colnames"], "timeseries"]
    left = {"intervals/trials/timeseries": "references"}
    notes = ("the file's column start is called start_in_file",)
    return Truth(spikes, intervals={"trials": TIMES}, left=left, notes=notes, by_pynwb=False)


@lab
def two_tables_of_one_name(path: Path, rng: np.random.Generator) -> Truth:
    """Ripples of two probes, in two modules."""
    file, spikes = recording(rng)
    later = TIMES + 10
    for name, times in (("probe_a", TIMES), ("probe_b", later)):
        file.create_processing_module(name, "fields").add(intervals("ripples", times))
    save(file, path).close()
    return Truth(spikes, intervals={"probe_a.ripples": TIMES, "probe_b.ripples": later})


@lab
def a_table_without_times(path: Path, rng: np.random.Generator) -> Truth:
    """A table of rewards without start and stop: left."""
    file, spikes = recording(rng)
    table = DynamicTable(name="rewards", description="given")
    table.add_column("size", "ul")
    table.add_row(size=1.0)
    file.create_processing_module("behavior", "rewards").add(table)
    save(file, path).close()
    left = {"processing/behavior/rewards": "without start and stop"}
    return Truth(spikes, left=left)
