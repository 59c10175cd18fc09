"""Time series as found → behavior in SI on sorted time. docs/policies.md states each policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import cast

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock
from neurobrick.errors import CorruptFile, HarmonizeError, UnsupportedFile
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import distinct_names
from neurobrick.harmonize.restarts import Blocks
from neurobrick.harmonize.si import to_si
from neurobrick.readers.raw import Array, RawSeries
from neurobrick.readers.tree import too_long
from neurobrick.registry import BehaviorSpec, SeriesRepair
from neurobrick.schema import Scaling, Series

# What discovery takes for a raw signal rather than behavior; a spec that names it keeps it.
MAX_RATE = 5000.0  # Hz
MAX_BYTES = 2**30

# Values beyond these, where no conversion is declared, are perhaps in another unit.
LIKELY = {"m": 10.0, "m/s": 50.0, "rad": 1000.0}

TRIED_STEPS = 10_001  # timestamps that tell the usual step


# A series that is kept, with its spec and its name in the store.
Chosen = tuple[RawSeries, BehaviorSpec, str]


def choose(
    found: Sequence[RawSeries], wanted: Sequence[BehaviorSpec], ledger: Ledger
) -> list[Chosen]:
    """The series that are kept.

    Raises HarmonizeError when the spec names what is not there.
    """
    specs = {spec.path: spec for spec in wanted}
    missing = specs.keys() - {series.path for series in found}
    if missing:
        there = ", ".join(series.path for series in found) or "none"
        raise HarmonizeError(f"the spec keeps {', '.join(sorted(missing))}; the file has: {there}")
    kept = []
    for series in found:
        reason = _left_by_discovery(series) if not wanted else None
        if wanted and series.path not in specs:
            reason = "not listed in the spec"
        if reason is None:
            kept.append(series)
        else:
            ledger.leave(series.path, reason)
    names = distinct_names([series.path for series in kept])
    chosen = [specs.get(series.path, BehaviorSpec(path=series.path)) for series in kept]
    named = []
    for series, spec, own_name in zip(kept, chosen, names, strict=True):
        name = spec.name or own_name
        if too_long(name):
            ledger.leave(
                series.path, f"its name would have {len(name)} letters; name it in the spec"
            )
        else:
            named.append((series, spec, name))
    twice = [name for name, n in Counter(name for _, _, name in named).items() if n > 1]
    if twice:
        raise HarmonizeError(f"two behaviors would be called {twice[0]!r}: name one in the spec")
    return named


def _left_by_discovery(series: RawSeries) -> str | None:
    if series.rate is not None and series.rate > MAX_RATE:
        return f"sampled at {series.rate:g} Hz, as raw signals are; name it in the spec to keep it"
    size = 8 * prod(series.shape)
    if size > MAX_BYTES:
        return f"{size / 1e9:.1f} GB, as raw signals are; name it in the spec to keep it"
    try:
        for array in series.arrays:
            array.check()
    except (CorruptFile, UnsupportedFile) as error:
        return str(error)
    return None


def in_schema(
    raw: RawSeries, spec: BehaviorSpec, blocks: Blocks | None, ledger: Ledger
) -> Series | None:
    """The series in SI; None, with the reason in the ledger, when its times are not to trust."""
    fault = _clock_fault(raw)
    if fault is not None:
        ledger.leave(raw.path, fault)
        return None
    data = _samples(raw, spec, ledger)
    stamps, clock = _timestamps(raw, spec, len(data))
    fault = _count_fault(stamps, data)
    if fault is None and blocks is not None:
        stamps, clock, fault = _laid(stamps, blocks)
    fault = fault or (_order_fault(stamps) if clock is None else None)
    if fault is not None:
        ledger.leave(raw.path, fault)
        return None
    finite = np.isfinite(stamps)
    if clock is None and not finite.all():
        ledger.notes.append(f"{raw.path}: {int((~finite).sum())} samples without a time dropped")
        stamps, data = stamps[finite], data[finite]
    if not len(stamps):
        ledger.leave(raw.path, "no sample has a time")
        return None
    values, symbol, scaling = _in_si(raw, data, spec, ledger.notes)
    ledger.notes.extend(_quality(raw, stamps, values, clock))
    ledger.notes.extend(_unlikely(raw, spec, values, symbol))
    return Series(
        timestamps=stamps,
        values=values,
        unit=symbol,
        source=raw.path,
        source_unit=raw.unit,
        description=raw.description,
        columns=_named_columns(raw.comments, values.shape[1]),
        clock=clock,
        scaling=scaling,
    )


def _samples(raw: RawSeries, spec: BehaviorSpec, ledger: Ledger) -> Array:
    data = raw.data()
    if "transpose" in spec.repairs:
        ledger.notes.append(f"{raw.path}: transposed, from {data.shape}")
        data = data.T
    if data.ndim > 2:
        ledger.notes.append(f"{raw.path}: samples of shape {data.shape[1:]} laid out flat")
    return data


def _clock_fault(raw: RawSeries) -> str | None:
    """Why the rate and the start that `raw` declares are none."""
    if raw.rate is None:
        return None
    if not (np.isfinite(raw.rate) and raw.rate > 0):
        return f"its rate is {raw.rate:g} Hz"
    start = raw.starting_time or 0.0
    if not np.isfinite(start):
        return f"its starting time is {start:g}"
    if not np.isfinite(max(raw.shape) / raw.rate):
        return f"its rate is {raw.rate:g} Hz"
    return None


def _timestamps(
    raw: RawSeries, spec: BehaviorSpec, n_samples: int
) -> tuple[NDArray[np.float64], Clock | None]:
    """The times of the samples, and the clock that the file declares, if it does."""
    if raw.timestamps is None:
        clock = Clock(cast("float", raw.rate), raw.starting_time or 0.0)
        return clock.times(np.arange(n_samples)), clock
    stamps = raw.timestamps()
    repairs: tuple[SeriesRepair, ...] = spec.repairs
    if "first_row_of_timestamps" in repairs and stamps.ndim == 2:
        stamps = stamps[0]
    if stamps.ndim == 2 and stamps.shape[1] == 1:
        stamps = stamps[:, 0]  # MATLAB has no vectors
    return stamps, None


def _laid(
    stamps: NDArray[np.float64], blocks: Blocks
) -> tuple[NDArray[np.float64], None, str | None]:
    """`stamps` (n,) on the one clock, where no rate holds any more; or why that is not clear."""
    laid = blocks.lay(stamps)
    if laid is None:
        return (
            stamps,
            None,
            "its times fit the blocks of the clock in more than one way, or in none",
        )
    return laid, None, None


def _count_fault(stamps: NDArray[np.float64], data: Array) -> str | None:
    """Why `stamps` are not one for each of the samples `data`."""
    if stamps.shape != (len(data),):
        turned = data.ndim == 2 and stamps.shape == (data.shape[1],)
        hint = "; they may lie along its other axis: repairs: [transpose]" if turned else ""
        rows = stamps.ndim == 2 and stamps.shape[1] == len(data)
        hint = "; repairs: [first_row_of_timestamps] takes the first row" if rows else hint
        count = str(len(stamps)) if stamps.ndim == 1 else f"{stamps.shape}"
        return f"{count} timestamps for {len(data)} samples{hint}"
    return None


def _order_fault(stamps: NDArray[np.float64]) -> str | None:
    """Where `stamps` (n,) run backwards."""
    steps = np.diff(stamps[np.isfinite(stamps)])
    if len(steps) and steps.min() < 0:
        n = int((steps < 0).sum())
        row = int(np.argmax(steps < 0)) + 1
        return f"its timestamps run backwards {n} times, first at row {row}"
    return None


def _in_si(
    raw: RawSeries, data: Array, spec: BehaviorSpec, notes: list[str]
) -> tuple[NDArray[np.floating], str, Scaling]:
    """`data * conversion + offset`, then to SI: (n, d) in a float that holds every source value;
    the SI unit, and how the values were made.

    Computed in float64; kept as float32 where the source has no more than its 24 bits.
    """
    conversion = raw.conversion if spec.conversion is None else spec.conversion
    offset, unit = raw.offset, spec.unit or raw.unit
    factor, symbol, trusted = 1.0, unit, True
    if not np.isfinite(conversion) or not np.isfinite(offset) or conversion == 0:
        notes.append(f"{raw.path}: conversion {conversion:g}, offset {offset:g}: not applied")
        conversion, offset, trusted = 1.0, 0.0, spec.unit is not None
    if not trusted:
        notes.append(f"{raw.path}: so the values may not be {unit!r}; say unit in the spec")
    elif (si := to_si(unit)) is not None:
        factor, symbol = si.factor, si.symbol
    else:
        notes.append(f"{raw.path}: unit {unit!r} is not known; values kept in it")
    values = data.reshape(len(data), -1).astype(np.float64)
    narrow = data.dtype.itemsize <= (4 if data.dtype.kind == "f" else 2)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are counted, and said
        if conversion != 1.0:
            values *= conversion
        if offset != 0.0:
            values += offset
        if factor != 1.0:
            values *= factor
        kept: NDArray[np.floating] = values.astype(np.float32 if narrow else np.float64, copy=False)
    return kept, symbol, Scaling(conversion, offset, factor)


def _quality(
    raw: RawSeries, stamps: NDArray[np.float64], values: NDArray[np.floating], clock: Clock | None
) -> list[str]:
    """What is odd about a series that is kept."""
    notes = []
    for word, odd in (("NaN", np.isnan(values)), ("infinity", np.isinf(values))):
        if count := int(odd.any(axis=1).sum()):
            notes.append(f"{raw.path}: {count} of {len(values)} samples hold {word}; kept")
    if clock is None and len(stamps) > 2:
        steps = np.diff(stamps)
        usual = float(np.median(steps[:TRIED_STEPS]))
        same = int((steps == 0).sum())
        if same:
            notes.append(f"{raw.path}: {same} samples share a time; kept")
        gaps = steps > 1.5 * usual
        # Clocks that are irregular throughout have no gaps to speak of.
        if usual > 0 and 0 < gaps.sum() < 0.01 * len(steps):
            longest = float(steps.max())
            notes.append(f"{raw.path}: {int(gaps.sum())} gaps, the longest {longest:.3g} s")
    return notes


def _unlikely(
    raw: RawSeries, spec: BehaviorSpec, values: NDArray[np.floating], symbol: str
) -> list[str]:
    """Whether values in `symbol` are beyond what bodies do, where neither file nor spec says how
    they were made."""
    said = raw.conversion != 1.0 or spec.unit is not None or spec.conversion is not None
    known = values[np.isfinite(values)]
    if said or symbol not in LIKELY or not known.size:
        return []
    largest = float(np.abs(known).max())
    if largest <= LIKELY[symbol]:
        return []
    return [
        f"{raw.path}: reaches {largest:.4g} {symbol} with no conversion declared: perhaps it is in"
        " another unit; say unit in the spec"
    ]


def _named_columns(comments: str, n: int) -> tuple[str, ...]:
    """Column names from a comment such as `columns=[x,y]`, as dandiset 000128 has them."""
    _, found, rest = comments.partition("columns=[")
    names = tuple(name.strip() for name in rest.partition("]")[0].split(",")) if found else ()
    return names if len(names) == n else ()
