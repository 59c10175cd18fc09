"""Series that are no behavior: voltage, fields, pictures, words, markers, fluorescence."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from pynwb import TimeSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.image import ImageSeries
from pynwb.misc import AnnotationSeries, IntervalSeries

from tests.support.labs import Truth, lab, save
from tests.support.labs.series import N, recording, regular


@lab
def voltage_and_fields(path: Path, rng: np.random.Generator) -> Truth:
    """Raw voltage in acquisition, LFP in a container, a fast analog signal: left."""
    file, spikes = recording(rng)
    device = file.create_device("probe")
    group = file.create_electrode_group("shank", "probe", "CA1", device)
    file.add_electrode(group=group, location="CA1")
    region = file.create_electrode_table_region([0], "all")
    raw = rng.integers(-99, 99, (4000, 1)).astype(np.int16)
    for name in ("voltage", "more"):
        file.add_acquisition(ElectricalSeries(name=name, data=raw, electrodes=region, rate=200.0))
    lfp = LFP(
        electrical_series=ElectricalSeries(name="lfp", data=raw, electrodes=region, rate=200.0)
    )
    file.create_processing_module("ecephys", "fields").add(lfp)
    analog = rng.normal(size=60_000)
    file.add_acquisition(TimeSeries(name="sync", data=analog, unit="V", rate=30_000.0))
    with save(file, path) as saved:  # a lab's own extension of ElectricalSeries, not installed here
        saved["acquisition/more"].attrs["neurodata_type"] = "MyVoltage"
        saved["acquisition/more"].attrs["namespace"] = "my-lab"
    return Truth(
        spikes,
        left={
            "acquisition/voltage": "voltage traces",
            "acquisition/more": "voltage traces",
            "processing/ecephys/LFP/lfp": "voltage traces",
            "acquisition/sync": "sampled at 30000 Hz",
        },
        by_pynwb=False,
    )


@lab
def pictures_and_words(path: Path, rng: np.random.Generator) -> Truth:
    """Video in another file, annotations, markers, events without values, stimuli: left."""
    file, spikes = recording(rng)
    file.add_acquisition(
        ImageSeries(
            name="video",
            external_file=["video.avi"],
            format="external",
            unit="n.a.",
            timestamps=regular(5),
            starting_frame=[0],
        )
    )
    notes = AnnotationSeries(name="notes", data=["began", "ended"], timestamps=[0.0, 9.0])
    file.add_acquisition(notes)
    markers = IntervalSeries(name="licks", data=[1, -1], timestamps=[1.0, 2.0])
    file.add_acquisition(markers)
    file.add_stimulus(TimeSeries(name="tone", data=np.zeros(N), unit="V", rate=50.0))
    with save(file, path) as saved:
        events = saved.create_group("acquisition/events")
        events.attrs.update(neurodata_type="Events", namespace="ndx-events", description="licks")
        events["timestamps"] = regular(9)
    return Truth(
        spikes,
        left={
            "acquisition/video": "images",
            "acquisition/notes": "text annotations",
            "acquisition/licks": "markers",
            "acquisition/events": "without values",
            "stimulus/presentation/tone": "a stimulus",
        },
        by_pynwb=False,
    )


@lab
def imaging_beside_units(path: Path, rng: np.random.Generator) -> Truth:
    """Fluorescence and imaging in a file with sorted spikes: left."""
    file, spikes = recording(rng)
    with save(file, path) as saved:
        for name, kind, mark in (
            ("dff", "RoiResponseSeries", "rois"),
            ("two_photon", "MyTwoPhotonSeries", "imaging_plane"),
        ):
            group = saved.create_group(f"processing/ophys/Fluorescence/{name}")
            group.attrs.update(neurodata_type=kind, namespace="core")
            group["data"], group["timestamps"] = rng.normal(size=(N, 3)), regular()
            group[mark] = h5py.SoftLink("/general/nowhere")
    return Truth(
        spikes,
        left={
            "processing/ophys/Fluorescence/dff": "fluorescence",
            "processing/ophys/Fluorescence/two_photon": "imaging",
        },
        by_pynwb=False,
    )
