"""File formats: Zarr, extensions, compression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.file import Subject

from tests.support.labs import LABS, Behavior, Truth, add_units, lab, new_file, save, trains
from tests.support.zarr_files import convert, has_hdmf_zarr

N = 400


def recording(rng: np.random.Generator, file: NWBFile | None = None) -> tuple[NWBFile, Truth]:
    """Three units, a wheel and trials with texts."""
    file = file or new_file()
    spikes, values = trains(rng, 3), rng.normal(size=(N, 2))
    add_units(file, spikes)
    file.add_acquisition(TimeSeries(name="wheel", data=values, unit="cm", rate=25.0))
    file.add_trial_column("result", "text")
    for k in range(5):
        file.add_trial(start_time=3.0 * k, stop_time=3.0 * k + 2, result="RA"[k % 2])
    times = np.array([[3.0 * k, 3.0 * k + 2] for k in range(5)])
    wheel = Behavior(np.arange(N) / 25.0, values * 0.01, "m")
    return file, Truth(spikes, {"wheel": wheel}, {"trials": times})


def _as_zarr(*options: str) -> Callable[[Path, np.random.Generator], Truth]:
    def write(path: Path, rng: np.random.Generator) -> Truth:
        file, truth = recording(rng)
        source = path.with_suffix(".hdf5")
        save(file, source).close()
        convert(source, path, *options)
        return Truth(truth.spikes, truth.behavior, truth.intervals, by_pynwb=False)

    write.__doc__ = f"NWB as Zarr v2, exported by hdmf-zarr {' '.join(options)}".strip() + "."
    return write


# hdmf-zarr needs zarr 2, in an environment of its own that `make test` sets up.
if has_hdmf_zarr():
    LABS["zarr_of_hdmf"] = _as_zarr()
    LABS["zarr_in_small_chunks"] = _as_zarr("--chunk-rows", "37")
    LABS["zarr_in_nested_folders"] = _as_zarr("--nested")
    LABS["zarr_with_gzip"] = _as_zarr("--compressor", '{"id": "gzip", "level": 1}')


def _restored(path: Path, compression: str | None, chunks: tuple[int, ...] | None) -> None:
    """Write the arrays of units and behavior again, compressed and chunked."""
    with h5py.File(path, "r+") as file:
        for name in ("units/spike_times", "acquisition/wheel/data", "units/spike_times_index"):
            attributes, data = dict(file[name].attrs), file[name][:]
            del file[name]
            rows = chunks and (min(chunks[0], len(data)), *data.shape[1:])
            shuffle = compression == "gzip"
            file.create_dataset(
                name, data=data, chunks=rows, compression=compression, shuffle=shuffle
            ).attrs.update(attributes)


@lab
def compressed_with_gzip(path: Path, rng: np.random.Generator) -> Truth:
    """Chunks of odd sizes, shuffled and deflated."""
    file, truth = recording(rng)
    save(file, path).close()
    _restored(path, "gzip", (77,))
    return truth


@lab
def compressed_with_lzf(path: Path, rng: np.random.Generator) -> Truth:
    """Compressed with LZF, which only h5py has."""
    file, truth = recording(rng)
    save(file, path).close()
    _restored(path, "lzf", (1000,))
    return truth


@lab
def in_one_piece(path: Path, rng: np.random.Generator) -> Truth:
    """Contiguous arrays, as early versions of matnwb wrote them."""
    file, truth = recording(rng)
    save(file, path).close()
    _restored(path, None, None)
    return truth


@lab
def of_the_latest_hdf5(path: Path, rng: np.random.Generator) -> Truth:
    """A file of HDF5's newest format, as h5repack writes it."""
    file, truth = recording(rng)
    source = path.with_suffix(".hdf5")
    save(file, source).close()
    with h5py.File(source) as old, h5py.File(path, "w", libver="latest") as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    return Truth(truth.spikes, truth.behavior, truth.intervals, by_pynwb=False)


@lab
def extensions_that_are_not_here(path: Path, rng: np.random.Generator) -> Truth:
    """Units, series, trials and subject of a lab's own types, without their specification."""
    file, truth = recording(rng)
    with save(file, path) as saved:
        del saved["specifications"]
        for name, kind in (
            ("units", "MyUnits"),
            ("acquisition/wheel", "MyWheel"),
            ("intervals/trials", "MyTrials"),
            ("general/subject", "IblSubject"),
        ):
            saved[name].attrs.update(neurodata_type=kind, namespace="my-lab")
        saved["general/subject"].attrs["expected_water_ml"] = 1.5
    return Truth(truth.spikes, truth.behavior, truth.intervals, by_pynwb=False)


@lab
def without_a_subject(path: Path, rng: np.random.Generator) -> Truth:
    """No subject."""
    file, truth = recording(rng, new_file(subject=False))
    save(file, path).close()
    return truth


@lab
def subject_with_a_date_of_birth(path: Path, rng: np.random.Generator) -> Truth:
    """A subject with the common name of its species, and without an age."""
    file = new_file(subject=False)
    file.subject = Subject(subject_id="M1", species="mouse", sex="U")
    file, truth = recording(rng, file)
    save(file, path).close()
    return truth


@lab
def links_inside_the_file(path: Path, rng: np.random.Generator) -> Truth:
    """Data that is a soft link to the data of another series: kept. A link to a group: left."""
    file, truth = recording(rng)
    with save(file, path) as saved:
        again = saved.create_group("acquisition/again")
        again.attrs.update(saved["acquisition/wheel"].attrs)
        again["data"] = h5py.SoftLink("/acquisition/wheel/data")
        again["starting_time"] = h5py.SoftLink("/acquisition/wheel/starting_time")
        saved["processing/elsewhere"] = h5py.SoftLink("/acquisition/wheel")
    behavior = {**truth.behavior, "again": truth.behavior["wheel"]}
    left = {"processing/elsewhere": "a link to /acquisition/wheel"}
    return Truth(truth.spikes, behavior, truth.intervals, left, by_pynwb=False)
