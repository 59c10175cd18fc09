"""Times as integer ticks, where that loses nothing.

Acquisition systems stamp events on a grid: `tick / rate + offset`. Such times are kept as integers,
a quarter of the bytes after compression, but only if the formula gives every one back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
TickArray = NDArray[np.int64]

# Sampling rates of the field's acquisition systems, in Hz: Blackrock, Plexon, Neuropixels, Open
# Ephys and SpikeGadgets 30 k; Plexon 40 k; Neuralynx 32 k and 30.303 k; Intan 20 k and 25 k;
# TDT 25 MHz / 1024; and the usual rates of behavior.
ACQUISITION_RATES = (30000.0, 20000.0, 25000.0, 32000.0, 40000.0, 24414.0625, 10000.0, 1000.0)

_PROBE = 512  # times tried before the whole array is


@dataclass(frozen=True)
class Clock:
    """The grid of times `tick / rate + offset`."""

    rate: float  # Hz
    offset: float = 0.0  # seconds

    def times(self, ticks: NDArray[np.integer], into: FloatArray | None = None) -> FloatArray:
        """The times (n,) in seconds of `ticks` (n,); written to `into` if that is given."""
        times = np.divide(ticks, self.rate, out=into, dtype=np.float64)
        if self.offset:
            times += self.offset
        return times

    def ticks(self, times: FloatArray) -> TickArray | None:
        """The ticks (n,) int64 of `times` (n,), or None unless all come back bit for bit."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint((times - self.offset) * self.rate)
        if not np.all(np.abs(scaled) < 2.0**52):  # beyond, or NaN: no longer an exact integer
            return None
        ticks = scaled.astype(np.int64)
        # Compared as bits, so that -0.0 is not taken for 0.0.
        same = np.array_equal(self.times(ticks).view(np.int64), times.view(np.int64))
        return ticks if same else None


def find_clock(times: FloatArray, hints: Iterable[Clock] = ()) -> tuple[Clock, TickArray] | None:
    """The first clock on whose grid all of `times` (n,) lie exactly, with their ticks.

    `hints` are tried first, then the field's acquisition rates. None if no grid holds them all.
    """
    times = np.ascontiguousarray(times, dtype=np.float64)
    for clock in (*hints, *(Clock(rate) for rate in ACQUISITION_RATES)):
        if clock.ticks(times[:_PROBE]) is None:
            continue
        ticks = clock.ticks(times)
        if ticks is not None:
            return clock, ticks
    return None


def sampling_clock(timestamps: FloatArray) -> Clock | None:
    """A clock of the median interval of regular `timestamps` (n,); None if n < 2."""
    if len(timestamps) < 2:
        return None
    period = float(np.median(np.diff(timestamps)))
    if not np.isfinite(period) or period <= 0:
        return None
    rate = 1.0 / period
    # 99.99999999 Hz is what rounding leaves of 100 Hz.
    whole = float(round(rate))
    return Clock(whole if whole and abs(rate - whole) < 1e-6 * rate else rate)


def runs(ticks: TickArray) -> NDArray[np.int64]:
    """Runs of consecutive `ticks` (n,), as (k, 2): first tick and number of ticks of each."""
    if not len(ticks):
        return np.zeros((0, 2), dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], np.diff(ticks) != 1]))
    counts = np.diff(np.append(first, len(ticks)))
    return np.stack([ticks[first], counts], axis=1).astype(np.int64)


def ticks_of_runs(segments: NDArray[np.int64]) -> TickArray:
    """The ticks (n,) int64 of `segments` (k, 2); the inverse of `runs`."""
    first, count = segments[:, 0], segments[:, 1]
    position = np.arange(int(count.sum()), dtype=np.int64)
    return position + np.repeat(first - (np.cumsum(count) - count), count)
