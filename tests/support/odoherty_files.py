"""Files as MATLAB 7.3 writes them, with the variables of Zenodo record 3854034.

HDF5 behind a header of 512 bytes; every array transposed and marked with its class; cells as
references into `#refs#`, the empty ones to arrays that hold their dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

USERBLOCK = 512
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64 HDF5 schema 1.00 ."

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Session:
    """What MATLAB would show: `spikes[channel][unit]` (j, 1), positions (k, d)."""

    chan_names: list[str]
    spikes: list[list[Floats]]
    t: Floats
    cursor_pos: Floats
    finger_pos: Floats
    target_pos: Floats


def session(channels: int = 6, units: int = 3, orientation: bool = False, seed: int = 0) -> Session:
    """A session of 12 s; each channel has unsorted spikes, every other one sorted ones, too; the
    last is silent."""
    rng = np.random.default_rng(seed)
    n, start = 3000, 148.984
    t = start + np.arange(n) / 250

    def train(count: int) -> Floats:
        return np.sort(start + rng.uniform(0, n / 250, count)).reshape(-1, 1)

    spikes = [
        [
            train(0 if channel == channels - 1 or (unit and channel % 2) else 20 + channel + unit)
            for unit in range(units)
        ]
        for channel in range(channels)
    ]
    finger = np.cumsum(rng.normal(scale=0.1, size=(n, 6)), axis=0)
    areas = ["M1" if channel < channels // 2 else "S1" for channel in range(channels)]
    return Session(
        chan_names=[f"{area} {k % (channels // 2) + 1:03d}" for k, area in enumerate(areas)],
        spikes=spikes,
        t=t,
        cursor_pos=-10 * finger[:, 1:3] + [3.0, -40.0],
        finger_pos=finger if orientation else finger[:, :3],
        target_pos=np.repeat(rng.integers(-5, 5, (n // 250, 2)) * 15.0, 250, axis=0),
    )


def write(path: Path, held: Session) -> Path:
    """Write `held` to `path`."""
    with h5py.File(path, "w", userblock_size=USERBLOCK) as file:
        refs = _References(file)
        _cells(file, "chan_names", refs, [[refs.text(name)] for name in held.chan_names])
        _numbers(file, "cursor_pos", held.cursor_pos)
        _numbers(file, "finger_pos", held.finger_pos)
        _cells(file, "spikes", refs, [[refs.numbers(u) for u in row] for row in held.spikes])
        _numbers(file, "t", held.t.reshape(-1, 1))
        _numbers(file, "target_pos", held.target_pos)
        snippets = [[np.zeros((len(u), 48)) for u in row] for row in held.spikes]
        _cells(file, "wf", refs, [[refs.numbers(u) for u in row] for row in snippets])
    with path.open("r+b") as stream:
        stream.write(HEADER.ljust(124) + b"\x00\x02IM")
    return path


def with_spikes(held: Session, channel: int, unit: int, times: list[float]) -> Session:
    """`held` with other spikes in one cell."""
    spikes = [list(row) for row in held.spikes]
    spikes[channel][unit] = np.array(times).reshape(-1, 1)
    return replace(held, spikes=spikes)


class _References:
    """`#refs#`, where the contents of cells are."""

    def __init__(self, file: h5py.File) -> None:
        self.group = file.create_group("#refs#")
        empty = self._add(np.zeros(2, np.uint64), "canonical empty")
        empty.attrs["MATLAB_empty"] = np.uint8(1)

    def numbers(self, values: Floats) -> h5py.Reference:
        """A reference to a matrix of doubles."""
        if values.size:
            return self._add(values.T, "double", compressed=True).ref
        dataset = self._add(np.array(values.shape, np.uint64), "double")
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
        return dataset.ref

    def text(self, value: str) -> h5py.Reference:
        """A reference to a row of characters."""
        codes = np.frombuffer(value.encode("utf-16-le"), np.uint16)
        dataset = self._add(codes.reshape(-1, 1), "char")
        dataset.attrs["MATLAB_int_decode"] = np.int32(2)
        return dataset.ref

    def _add(
        self, data: NDArray[np.generic], matlab_class: str, compressed: bool = False
    ) -> h5py.Dataset:
        options = {"chunks": data.shape, "compression": "gzip"} if compressed else {}
        dataset = self.group.create_dataset(f"r{len(self.group)}", data=data, **options)
        dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
        return dataset


def _cells(file: h5py.File, name: str, refs: _References, rows: list[list[h5py.Reference]]) -> None:
    cells = np.empty((len(rows[0]), len(rows)), dtype=h5py.ref_dtype)
    for channel, row in enumerate(rows):
        cells[:, channel] = row
    file.create_dataset(name, data=cells).attrs["MATLAB_class"] = np.bytes_("cell")


def _numbers(file: h5py.File, name: str, values: Floats) -> None:
    chunks = (values.shape[1], 1000)
    dataset = file.create_dataset(name, data=values.T, chunks=chunks, compression="gzip")
    dataset.attrs["MATLAB_class"] = np.bytes_("double")
