"""When the samples of a series were taken. docs/policies.md states each policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import JUMP, Blocks, without_small_falls
from neurobrick.harmonize.si import in_seconds, seconds_in
from neurobrick.readers.raw import RawSeries
from neurobrick.registry import BehaviorSpec

FloatArray = NDArray[np.float64]

# Some cameras' timestamps fall by milliseconds, a few times in a session. More falls than this are
# no such fault: the array may not be a time.
MOST_FALLS = 0.01  # of all steps
FEW_FALLS = 3  # allowed in any series, however short


@dataclass(frozen=True)
class SampleTimes:
    """The times of the samples that have one, sorted."""

    stamps: FloatArray  # (k,) s, finite, sorted
    rows: NDArray[np.int64] | None  # (k,) rows of the data in that order; None: all n, as they are
    clock: Clock | None  # as the file declares it; None where it gives timestamps


def sample_times(
    raw: RawSeries,
    spec: BehaviorSpec,
    shape: tuple[int, ...],
    blocks: Blocks | None,
    ledger: Ledger,
) -> SampleTimes | None:
    """The times of the samples of `raw`, whose data have this `shape`, in seconds.

    None, with the reason in the ledger, when the times cannot be trusted.
    """
    fault = declared_fault(raw)
    if fault is None and raw.timestamps is None and blocks is None:
        clock = _clock(raw)
        return SampleTimes(clock.times(np.arange(shape[0])), None, clock)
    stamps = np.zeros(0)
    if fault is None:
        stamps = _read(raw, spec, shape[0], ledger)
        fault = _count_fault(stamps, shape)
    if fault is None and blocks is not None:
        laid = _laid(stamps, blocks)
        stamps = stamps if laid is None else laid
        fault = "its times fit the blocks of the clock in more than one way, or in none"
        fault = fault if laid is None else None
    fault = fault or _order_fault(stamps)
    if fault is not None:
        ledger.leave(raw.path, fault)
        return None
    return _with_times(raw.path, stamps, ledger)


def declared_fault(raw: RawSeries) -> str | None:
    """Why the clock that a series declares cannot be used; None if it can."""
    unit = seconds_in(raw.time_unit)
    if unit is None or (unit != 1.0 and raw.rate is not None):
        return f"its clock is in {raw.time_unit!r}, not in seconds"
    if raw.rate is None:
        return None
    # A clock that runs backwards or stands still, or a last sample that is infinitely late.
    if not (0 < raw.rate < np.inf and np.isfinite(max(raw.shape) / raw.rate)):
        return f"its rate is {raw.rate:g} Hz"
    start = raw.starting_time or 0.0
    return None if np.isfinite(start) else f"its starting time is {start:g}"


def _clock(raw: RawSeries) -> Clock:
    return Clock(cast("float", raw.rate), raw.starting_time or 0.0)


def _read(raw: RawSeries, spec: BehaviorSpec, n_samples: int, ledger: Ledger) -> FloatArray:
    """The times as the file gives them, in seconds: (n,), or of another shape, which is a fault."""
    if raw.timestamps is None:
        return _clock(raw).times(np.arange(n_samples))
    stamps = raw.timestamps()
    if "first_row_of_timestamps" in spec.repairs and stamps.ndim == 2:
        stamps = stamps[0]
    if stamps.ndim == 2 and stamps.shape[1] == 1:
        stamps = stamps[:, 0]  # MATLAB has no vectors
    unit = seconds_in(raw.time_unit) or 1.0
    if unit != 1.0:
        ledger.note(f"{raw.path}: timestamps are in {raw.time_unit}: brought to seconds")
    return in_seconds(stamps, unit)


def _count_fault(stamps: FloatArray, shape: tuple[int, ...]) -> str | None:
    """Why `stamps` are not one time for each sample of data of that `shape`."""
    if stamps.shape == shape[:1]:
        return None
    hint = ""
    if len(shape) == 2 and stamps.shape == shape[1:]:
        hint = "; they may lie along its other axis: repairs: [transpose]"
    elif stamps.ndim == 2 and stamps.shape[1] == shape[0]:
        hint = "; repairs: [first_row_of_timestamps] takes the first row"
    count = str(len(stamps)) if stamps.ndim == 1 else f"{stamps.shape}"
    return f"{count} timestamps for {shape[0]} samples{hint}"


def _laid(stamps: FloatArray, blocks: Blocks) -> FloatArray | None:
    """`stamps` (n,) on the one clock of the session; None if it is not clear to which blocks they
    belong."""
    laid = blocks.lay(stamps)
    if laid is not None:
        return laid
    # A clock that wavers falls more often than there are blocks.
    known = np.isfinite(stamps)
    rows = blocks.assign(without_small_falls(stamps[known]))
    if rows is None:
        return None
    laid = stamps.copy()
    laid[known] += blocks.shift[rows]
    return laid


def _order_fault(stamps: FloatArray) -> str | None:
    """How `stamps` (n,) run backwards; None if they rise, or waver a few times."""
    steps = np.diff(stamps[np.isfinite(stamps)])
    falls = int((steps < 0).sum())
    if not falls:
        return None
    if steps.min() > -JUMP and falls <= max(FEW_FALLS, MOST_FALLS * len(steps)):
        return None
    row = int(np.argmax(steps < 0)) + 1
    return f"its timestamps run backwards {falls} times, first at row {row}"


def _with_times(path: str, stamps: FloatArray, ledger: Ledger) -> SampleTimes | None:
    """The samples whose time is finite, in the order of time."""
    rows = np.flatnonzero(np.isfinite(stamps))
    if len(rows) < len(stamps):
        ledger.note(f"{path}: {len(stamps) - len(rows)} samples without a time dropped")
    if not len(rows):
        ledger.leave(path, "no sample has a time")
        return None
    steps = np.diff(stamps[rows])
    if falls := int((steps < 0).sum()):
        rows = rows[np.argsort(stamps[rows], kind="stable")]
        ledger.note(
            f"{path}: timestamps fall {falls} times, by at most {-steps.min():.3g} s; sorted by"
            " time"
        )
    elif len(rows) == len(stamps):
        return SampleTimes(stamps, None, None)
    return SampleTimes(stamps[rows], rows, None)
