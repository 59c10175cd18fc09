"""A file as pynwb reads it: the reference that slices are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pynwb

# Factors from the units that the tests' files declare to SI, written down by hand.
TO_SI = {"cm": 0.01, "mm": 0.001, "degrees": np.pi / 180, "cm/s": 0.01, "cm/s^2": 0.01}


@dataclass(frozen=True)
class Reference:
    """The content of one file."""

    spike_times: list[np.ndarray]  # of each unit, (n,) seconds
    series: dict[str, tuple[np.ndarray, np.ndarray]]  # by path: timestamps (n,), SI values (n, d)
    trials: dict[str, np.ndarray]  # start_time and stop_time, (trials,) seconds


def read(path: Path) -> Reference:
    """Read `path` with pynwb."""
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        series = [item for item in file.objects.values() if isinstance(item, pynwb.TimeSeries)]
        behavior = [s for s in series if not isinstance(s, pynwb.ecephys.ElectricalSeries)]
        return Reference(
            spike_times=[np.asarray(file.units["spike_times"][k]) for k in range(len(file.units))],
            series={_path(series): _in_si(series) for series in behavior},
            trials={name: np.asarray(file.trials[name][:]) for name in ("start_time", "stop_time")}
            if file.trials is not None
            else {},
        )


def _path(series: pynwb.TimeSeries) -> str:
    return str(series.data.parent.name).strip("/")


def _in_si(series: pynwb.TimeSeries) -> tuple[np.ndarray, np.ndarray]:
    data = np.asarray(series.data[:], dtype=np.float64)
    values = (data * series.conversion + series.offset) * TO_SI.get(series.unit, 1.0)
    if series.timestamps is not None:
        stamps = np.asarray(series.timestamps[:])
    else:
        stamps = np.arange(len(data)) / series.rate + series.starting_time
    return stamps, values.reshape(len(data), -1)
