"""A series of the file → a behavior in SI on sorted time. docs/policies.md states each policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import Blocks
from neurobrick.harmonize.si import readings, to_si
from neurobrick.harmonize.timestamps import declared_fault, sample_times
from neurobrick.readers.raw import Array, RawSeries
from neurobrick.registry import BehaviorSpec
from neurobrick.schema import Scaling, Series

# Larger values are noted if no conversion is declared: perhaps they are in another unit.
LIKELY = {"m": 10.0, "m/s": 50.0, "rad": 1000.0}

STEPS_TRIED = 10_001  # the usual step of timestamps is the median of so many
EXACT = 2.0**53  # float64 holds every whole number up to this one


def in_schema(
    raw: RawSeries, spec: BehaviorSpec, blocks: Blocks | None, ledger: Ledger
) -> Series | None:
    """The series in SI on sorted time.

    None, with the reason in the ledger, when its times cannot be trusted.
    """
    fault = declared_fault(raw)
    if fault is not None:
        ledger.leave(raw.path, fault)
        return None
    data = _samples(raw, spec, ledger)
    times = sample_times(raw, spec, data.shape, blocks, ledger)
    if times is None:
        return None
    if times.rows is not None:
        data = data[times.rows]
    _note_rounding(raw, data, ledger)
    values, symbol, scaling = _in_si(raw, data, spec, ledger)
    _note_quality(raw.path, times.stamps, values, times.clock, ledger)
    _note_unlikely(raw, spec, values, symbol, ledger)
    return Series(
        timestamps=times.stamps,
        values=values,
        unit=symbol,
        source=raw.path,
        source_unit=raw.unit,
        description=raw.description,
        columns=_named_columns(raw.comments, values.shape[1]),
        clock=times.clock,
        scaling=scaling,
    )


def _samples(raw: RawSeries, spec: BehaviorSpec, ledger: Ledger) -> Array:
    """The data of the file, time along the first axis: (n,) or (n, …)."""
    data = raw.data()
    if "transpose" in spec.repairs:
        ledger.note(f"{raw.path}: transposed, from {data.shape}")
        data = data.T
    if data.ndim > 2:
        ledger.note(f"{raw.path}: samples of shape {data.shape[1:]} laid out flat")
    return data


def _note_rounding(raw: RawSeries, data: Array, ledger: Ledger) -> None:
    """Note whole numbers of 64 bits that float64 does not hold."""
    if data.dtype.kind not in "iu" or data.dtype.itemsize < 8:
        return
    values = data.astype(np.float64)
    largest = float(np.abs(values).max())
    if largest <= EXACT:
        return
    inside = values < float(np.iinfo(data.dtype).max)  # a larger one cannot be cast back
    back = np.where(inside, values, 0.0).astype(data.dtype)
    if rounded := int(np.count_nonzero(~inside | (back != data))):
        ledger.note(
            f"{raw.path}: {rounded:,} whole numbers above 2^53 are rounded, by up to"
            f" {np.spacing(largest) / 2:.0f} {raw.unit}".rstrip()
        )


def _in_si(
    raw: RawSeries, data: Array, spec: BehaviorSpec, ledger: Ledger
) -> tuple[NDArray[np.floating], str, Scaling]:
    """`data * conversion + offset`, then to SI.

    Returns the values (n, d), their unit, and how they were made of the file's numbers. They are
    computed in float64, and kept as float32 where that has the precision of the file.
    """
    conversion = raw.conversion if spec.conversion is None else spec.conversion
    offset, unit = raw.offset, spec.unit or raw.unit
    factor, symbol, unit_holds = 1.0, unit, True
    if not np.isfinite(conversion) or not np.isfinite(offset) or conversion == 0:
        ledger.note(f"{raw.path}: conversion {conversion:g}, offset {offset:g}: not applied")
        conversion, offset, unit_holds = 1.0, 0.0, spec.unit is not None
    if not unit_holds:
        ledger.note(f"{raw.path}: so the values may not be {unit!r}; say unit in the spec")
    elif (si := to_si(unit)) is not None:
        factor, symbol = si.factor, si.symbol
    elif (meanings := readings(unit)) is not None:
        ledger.note(
            f"{raw.path}: unit {unit!r} may be {meanings}; values kept in it, say unit in the spec"
        )
    else:
        ledger.note(f"{raw.path}: unit {unit!r} is not known; values kept in it")
    values = data.reshape(len(data), -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are counted and noted
        if conversion != 1.0:
            values *= conversion
        if offset != 0.0:
            values += offset
        if factor != 1.0:
            values *= factor
        narrow = _fits_float32(data, values, conversion * factor, offset)
        kept: NDArray[np.floating] = values.astype(np.float32 if narrow else np.float64, copy=False)
    return kept, symbol, Scaling(conversion, offset, factor)


def _fits_float32(data: Array, values: NDArray[np.float64], step: float, offset: float) -> bool:
    """Whether float32, of 24 bits and up to 3.4e38, holds `values` with the precision of `data`.

    `values` are `data` in steps of `step`, plus `offset`. Steps between whole numbers have to stay
    apart. An offset to float32 data takes digits from small values.
    """
    known = values[np.isfinite(values)]
    largest = float(np.abs(known).max()) if known.size else 0.0
    if largest > np.finfo(np.float32).max:
        return False
    if data.dtype.kind == "f":
        return data.dtype.itemsize <= 4 and offset == 0.0
    return data.dtype.itemsize <= 2 and bool(abs(step) >= np.spacing(np.float32(largest)))


def _note_quality(
    path: str,
    stamps: NDArray[np.float64],
    values: NDArray[np.floating],
    clock: Clock | None,
    ledger: Ledger,
) -> None:
    """Note values that are no numbers, times that repeat, and gaps."""
    for word, odd in (("NaN", np.isnan(values)), ("infinity", np.isinf(values))):
        if count := int(odd.any(axis=1).sum()):
            ledger.note(f"{path}: {count} of {len(values)} samples hold {word}; kept")
    if clock is not None or len(stamps) < 3:
        return
    steps = np.diff(stamps)
    if repeats := int((steps == 0).sum()):
        ledger.note(f"{path}: {repeats} samples share a time; kept")
    steps = steps[steps > 0]
    gaps = steps > 1.5 * np.median(steps[:STEPS_TRIED]) if len(steps) else steps > 0
    # A clock that is irregular throughout has no gaps.
    if 0 < gaps.sum() < 0.01 * len(steps):
        longest = float(steps.max())
        ledger.note(f"{path}: {int(gaps.sum())} gaps, the longest {longest:.3g} s")


def _note_unlikely(
    raw: RawSeries,
    spec: BehaviorSpec,
    values: NDArray[np.floating],
    symbol: str,
    ledger: Ledger,
) -> None:
    """Note values that no body reaches, if neither file nor spec declares a conversion."""
    declared = raw.conversion != 1.0 or spec.unit is not None or spec.conversion is not None
    known = values[np.isfinite(values)]
    if declared or symbol not in LIKELY or not known.size:
        return
    largest = float(np.abs(known).max())
    if largest > LIKELY[symbol]:
        ledger.note(
            f"{raw.path}: reaches {largest:.4g} {symbol} with no conversion declared: perhaps it is"
            " in another unit; say unit in the spec"
        )


def _named_columns(comments: str, n: int) -> tuple[str, ...]:
    """Names of `n` columns from a comment such as `columns=[x,y]`, as dandiset 000128 has them."""
    _, marker, rest = comments.partition("columns=[")
    names = tuple(name.strip() for name in rest.partition("]")[0].split(",")) if marker else ()
    return names if len(names) == n else ()
