"""Units and spike times: their place in the file, their index, the columns beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from pynwb.misc import Units

from tests.support.labs import LABS, SECONDS, Truth, add_units, lab, new_file, save, trains


def replaced(group: h5py.Group, name: str, data: np.ndarray) -> h5py.Dataset:
    """The dataset `name` with other data, and its attributes."""
    attributes = dict(group[name].attrs)
    del group[name]
    made = group.create_dataset(name, data=data)
    made.attrs.update(attributes)
    return made


def _indexed_by(dtype: str) -> Callable[[Path, np.random.Generator], Truth]:
    def write(path: Path, rng: np.random.Generator) -> Truth:
        spikes = [times[:30] for times in trains(rng, 4)]
        file = new_file()
        add_units(file, spikes)
        with save(file, path) as saved:
            index = saved["units/spike_times_index"][:]
            replaced(saved["units"], "spike_times_index", index.astype(dtype))
        return Truth(spikes)

    write.__doc__ = f"An index of {dtype}; dandisets have six types of index."
    return write


for _dtype in ("uint8", "uint16", "uint32", "uint64", "int32", "int64"):
    LABS[f"index_of_{_dtype}"] = _indexed_by(_dtype)


@lab
def as_matlab_writes_units(path: Path, rng: np.random.Generator) -> Truth:
    """Columns of shape (n, 1), empty descriptions, an index without target: matnwb (000017)."""
    spikes = trains(rng, 3)
    file = new_file()
    file.add_unit_column("depth", "um")
    add_units(file, spikes, depth=[1.0, 2.0, 3.0])
    with save(file, path) as saved:
        units = saved["units"]
        replaced(units, "depth", units["depth"][:].reshape(-1, 1)).attrs["description"] = ""
        del units["spike_times_index"].attrs["target"]
    return Truth(spikes, columns={"depth": [1.0, 2.0, 3.0]}, by_pynwb=False)


@lab
def ids_of_nine_digits(path: Path, rng: np.random.Generator) -> Truth:
    """Ids of nine digits, as the Allen Institute has them (000021)."""
    spikes = trains(rng, 2)
    file = new_file()
    add_units(file, spikes, id=[950_910_352, 950_910_364])
    save(file, path).close()
    return Truth(spikes, columns={"id": [950_910_352, 950_910_364]})


@lab
def units_without_spikes(path: Path, rng: np.random.Generator) -> Truth:
    """The first, a middle and the last unit never fire."""
    a, b = trains(rng, 2)
    spikes = [np.zeros(0), a, np.zeros(0), b, np.zeros(0)]
    file = new_file()
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes)


@lab
def units_in_a_processing_module(path: Path, rng: np.random.Generator) -> Truth:
    """Units at processing/ecephys/units only (000897, 000947, 001275)."""
    spikes = trains(rng, 3)
    file = new_file()
    table = Units(name="units", description="sorted")
    for times in spikes:
        table.add_unit(spike_times=times)
    file.create_processing_module("ecephys", "sorted").add(table)
    save(file, path).close()
    return Truth(spikes, units_path="processing/ecephys/units")


@lab
def units_beside_the_ground_truth(path: Path, rng: np.random.Generator) -> Truth:
    """A second units table in processing, the ground truth of a simulation: left (000618)."""
    spikes = trains(rng, 3)
    file = new_file()
    add_units(file, spikes)
    table = Units(name="ground_truth_units", description="simulated")
    table.add_unit(spike_times=[0.5, 1.5])
    file.create_processing_module("ecephys", "truth").add(table)
    save(file, path).close()
    return Truth(spikes, left={"processing/ecephys/ground_truth_units": "another units table"})


def with_electrodes(rng: np.random.Generator, areas: list[str]) -> tuple:
    """A file with one electrode for each of `areas`, and its electrode groups."""
    file = new_file()
    device = file.create_device("probe")
    groups = {}
    for area in areas:
        if area not in groups:
            groups[area] = file.create_electrode_group(area, "shank", area, device)
        file.add_electrode(group=groups[area], location=area)
    return file, groups


@lab
def fifty_electrodes_a_unit(path: Path, rng: np.random.Generator) -> Truth:
    """Units with many electrodes; a unit has an area if all its electrodes are in it (000017)."""
    spikes = trains(rng, 3)
    file, _ = with_electrodes(rng, ["VISp"] * 60 + ["CA1"] * 60)
    add_units(file, spikes, electrodes=[list(range(50)), list(range(60, 110)), list(range(30, 90))])
    save(file, path).close()
    return Truth(spikes, columns={"area": ["VISp", "CA1", None]})


@lab
def one_electrode_a_unit_without_index(path: Path, rng: np.random.Generator) -> Truth:
    """An electrodes column of int8 without an index, one electrode a unit (000207)."""
    spikes = trains(rng, 3)
    file, _ = with_electrodes(rng, ["amygdala", "hippocampus"])
    add_units(file, spikes, electrodes=[[0], [1], [1]])
    with save(file, path) as saved:
        units = saved["units"]
        replaced(units, "electrodes", np.array([0, 1, 1], np.int8))
        del units["electrodes_index"]
    return Truth(
        spikes, columns={"area": ["amygdala", "hippocampus", "hippocampus"]}, by_pynwb=False
    )


@lab
def groups_of_electrodes_by_reference(path: Path, rng: np.random.Generator) -> Truth:
    """A column electrode_group of object references: left."""
    spikes = trains(rng, 2)
    file, groups = with_electrodes(rng, ["M1", "PMd"])
    add_units(file, spikes, electrode_group=[groups["M1"], groups["PMd"]])
    save(file, path).close()
    return Truth(spikes, left={"units/electrode_group": "references"})


@lab
def waveforms_beside_spikes(path: Path, rng: np.random.Generator) -> Truth:
    """Doubly ragged waveforms, much larger than the spikes, and mean waveforms: left (000688)."""
    spikes = [times[:5] for times in trains(rng, 2)]
    file = new_file()
    waveforms = [[rng.normal(size=(2, 8)) for _ in times] for times in spikes]
    means = [rng.normal(size=8), rng.normal(size=8)]
    add_units(file, spikes, waveforms=waveforms, waveform_mean=means)
    save(file, path).close()
    return Truth(spikes, left={"units/waveforms": "waveforms", "units/waveform_mean": "waveforms"})


@lab
def a_doubly_ragged_column(path: Path, rng: np.random.Generator) -> Truth:
    """A column of lists of lists that are no waveforms: kept."""
    spikes = trains(rng, 3)
    fields = [[[1, 2], [3]], [], [[4, 5, 6]]]
    file = new_file()
    add_units(file, spikes)
    file.units.add_column("place_fields", "bins of each field", data=fields, index=2)
    save(file, path).close()
    return Truth(spikes, columns={"place_fields": fields})


@lab
def one_value_a_spike(path: Path, rng: np.random.Generator) -> Truth:
    """Amplitudes of single spikes: left (000409)."""
    spikes = trains(rng, 3)
    file = new_file()
    add_units(file, spikes)
    amplitudes = [rng.normal(size=len(times)) for times in spikes]
    file.units.add_column("spike_amplitudes_uV", "uV", data=amplitudes, index=True)
    save(file, path).close()
    return Truth(spikes, left={"units/spike_amplitudes_uV": "one value a spike"})


@lab
def quality_metrics(path: Path, rng: np.random.Generator) -> Truth:
    """Columns of numbers with NaN, texts and booleans: kept."""
    spikes = trains(rng, 3)
    file = new_file()
    columns = {"quality": ["good", "mua", "good"], "fails": [True, False, False]}
    for name in columns:
        file.add_unit_column(name, "of the sorting")
    add_units(file, spikes, **columns)
    file.units.add_column("isi_violations", "share", data=[0.5, np.nan, 0.0])
    save(file, path).close()
    return Truth(spikes, columns=columns)


@lab
def observed_in_parts(path: Path, rng: np.random.Generator) -> Truth:
    """obs_intervals that differ between units, and spikes outside of them: kept, noted."""
    spikes = trains(rng, 2)
    file = new_file()
    add_units(file, spikes, obs_intervals=[[[0.0, 8.0]], [[4.0, 9.0], [12.0, 18.0]]])
    save(file, path).close()
    return Truth(spikes, notes=("outside the units' obs_intervals",))


@lab
def spikes_before_zero(path: Path, rng: np.random.Generator) -> Truth:
    """A session that starts before its time zero: negative times, -1 among them, are kept."""
    spikes = [np.concatenate([[-3.25, -1.0, -0.5], times]) for times in trains(rng, 2)]
    file = new_file()
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes)


@lab
def spikes_out_of_order(path: Path, rng: np.random.Generator) -> Truth:
    """Spikes in no order: sorted, noted."""
    spikes = trains(rng, 2)
    raw = [spikes[0], rng.permutation(spikes[1])]
    file = new_file()
    add_units(file, raw)
    save(file, path).close()
    return Truth(spikes, notes=("spikes of 1 units were unsorted",), raw_spikes=raw)


@lab
def padded_with_nan(path: Path, rng: np.random.Generator) -> Truth:
    """Units of one length, padded with NaN: dropped, counted."""
    spikes = [times[:n] for times, n in zip(trains(rng, 3), (40, 30, 35), strict=True)]
    raw = [np.pad(times, (0, 40 - len(times)), constant_values=np.nan) for times in spikes]
    file = new_file()
    add_units(file, raw)
    save(file, path).close()
    return Truth(spikes, notes=("15 spike times are not finite",), raw_spikes=raw)


@lab
def minus_one_for_no_spike(path: Path, rng: np.random.Generator) -> Truth:
    """-1 for no spike, in a recording without other times before zero: dropped, counted."""
    spikes = trains(rng, 2)
    raw = [np.concatenate([[-1.0], times]) for times in spikes]
    file = new_file()
    add_units(file, raw)
    save(file, path).close()
    return Truth(spikes, notes=("2 spike times are -1",), raw_spikes=raw)


@lab
def spikes_twice(path: Path, rng: np.random.Generator) -> Truth:
    """The same time twice in a unit: kept, counted."""
    spikes = [np.sort(np.concatenate([times, times[:7]])) for times in trains(rng, 2)]
    file = new_file()
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes, notes=("14 spikes repeat the time",))


@lab
def off_any_grid(path: Path, rng: np.random.Generator) -> Truth:
    """Times that are multiples of no sampling period."""
    spikes = [np.sort(rng.uniform(0, SECONDS, 150)) for _ in range(3)]
    file = new_file()
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes)


@lab
def times_in_single_precision(path: Path, rng: np.random.Generator) -> Truth:
    """float32 spike times: the same numbers, as float64."""
    spikes = [np.unique(times.astype(np.float32)).astype(np.float64) for times in trains(rng, 2)]
    file = new_file()
    add_units(file, spikes)
    with save(file, path) as saved:
        times = saved["units/spike_times"][:].astype(np.float32)
        replaced(saved["units"], "spike_times", times)
    return Truth(spikes)


@lab
def a_resolution_of_the_sampler(path: Path, rng: np.random.Generator) -> Truth:
    """Units with a resolution: it is metadata, the times are in seconds (000941)."""
    spikes = trains(rng, 2)
    file = new_file()
    file.units = Units(name="units", description="sorted", resolution=1 / 30000)
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes)


@lab
def three_hundred_quiet_units(path: Path, rng: np.random.Generator) -> Truth:
    """A Neuropixels probe: most units fire a few times only."""
    spikes = [np.sort(rng.integers(0, 600_000, rng.integers(0, 12))) / 30000 for _ in range(300)]
    spikes = [np.unique(times) for times in spikes]
    file = new_file()
    add_units(file, spikes)
    save(file, path).close()
    return Truth(spikes)
