"""Spike times of a file → one sorted time line in seconds. docs/policies.md has each policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock, find_clock
from neurobrick.errors import HarmonizeError, listed
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import JUMP, Blocks, rising_runs
from neurobrick.harmonize.si import seconds_in
from neurobrick.readers.raw import RawUnits
from neurobrick.registry import DatasetSpec, UnitsSpec

# Some files have one of these instead of "no spike". A time is taken for one only if no other spike
# is before zero.
SENTINELS = (-1.0, -99.0, -999.0, -9999.0)

FEW = 20  # spikes; fewer say nothing about their unit
# Neurons fire in bursts. In seconds, most interspike intervals are shorter than 1. In milliseconds,
# few are, because of the refractory period; in samples, none.
USUAL_SHARE_BELOW_ONE = 0.2
MIN_SHARE_BELOW_ONE = 0.01  # with fewer, the times are not in seconds, whatever else the file holds
ENOUGH_INTERVALS = 200
# Spikes last about as long as trials and behavior. In milliseconds they seem to last 1,000 times as
# long, in samples even longer.
MAX_SPAN_RATIO = 500
MAX_SPAN = 100_000.0  # s, more than a day
# A clock that restarts makes few, long rising stretches; spikes out of order make many short ones.
LONG_RUN = 10  # spikes on average

UNIT_BITS = 24  # for the row of a unit, beside ticks of 39 bits, in one integer of 64 bits
EXACT = 2.0**53  # float64 holds every whole number up to this one


@dataclass(frozen=True)
class SpikeList:
    """Spikes in the order of the file, unit by unit, without values that are no time."""

    times: NDArray[np.float64]  # (n,) s, in any order within a unit
    units: NDArray[np.int64]  # (n,) row of the units table, rising
    n_units: int
    clock: Clock | None  # as the file declares it
    certain: bool  # whether the spec says the unit of the times

    def trains(self) -> list[NDArray[np.float64]]:
        """The times of each unit."""
        return np.split(self.times, np.searchsorted(self.units, np.arange(1, self.n_units)))


@dataclass(frozen=True)
class TimeLine:
    """All spikes in the order of time. Spikes at one time keep the order of their units."""

    times: NDArray[np.float64]  # (n,) s, sorted
    units: NDArray[np.int64]  # (n,) row of the units table
    ticks: tuple[Clock, NDArray[np.int64]] | None = None  # (n,) where a clock gives the times back


def spike_list(raw: RawUnits, spec: UnitsSpec, ledger: Ledger) -> SpikeList:
    """The spikes of the file in seconds, by the unit that the spec or else the file declares.

    Raises HarmonizeError for a declared unit that is no unit of time.
    """
    times, ends = raw.spike_times(), raw.ends
    n_units, n_spikes = len(ends), raw.n_spikes
    units = np.repeat(np.arange(n_units), np.diff(ends, prepend=0))
    if len(times) > n_spikes:
        ledger.note(f"{len(times) - n_spikes} spike times belong to no unit; left")
        times = times[:n_spikes]
    times, units = _without_blanks(times, units, ledger)
    per_second, name = _per_second(raw, spec)
    if per_second != 1.0:
        ledger.note(f"spike times are in {name}: divided by {per_second:g}")
        if times.size and np.abs(times).max() > EXACT:
            ledger.note("spike times above 2^53 are rounded to float64")
        times = times / per_second
    resolution = raw.resolution or 0.0
    clock = Clock(round(1 / resolution)) if 0 < resolution < 1 else None
    certain = spec.time_unit is not None
    return SpikeList(times, units, n_units, clock, certain)


def _per_second(raw: RawUnits, spec: UnitsSpec) -> tuple[float, str]:
    """How many units of the spike times are a second, and what the unit is called."""
    if spec.time_unit is not None:
        per_second = {"s": 1.0, "ms": 1000.0, "samples": spec.rate or 1.0}
        return per_second[spec.time_unit], spec.time_unit
    unit = seconds_in(raw.time_unit)
    if unit is None:
        raise HarmonizeError(
            f"spike times are in {raw.time_unit!r}, as the file says. Say their unit in the spec,"
            " as units: {time_unit: s}, or ms, or samples with rate"
        )
    return (float(round(1 / unit)) if unit < 1 else 1 / unit), raw.time_unit


def time_line(
    spikes: SpikeList,
    spec: DatasetSpec,
    blocks: Blocks | None,
    other_spans: Iterable[float],
    ledger: Ledger,
) -> TimeLine:
    """All spikes on one time line.

    `other_spans` are the lengths, in seconds, of the other clocks of the file. Raises
    HarmonizeError for times that do not look like seconds or run backwards, unless the spec says
    what they are.
    """
    if not spikes.certain:
        _refuse_other_units(spikes, other_spans)
    times, units = spikes.times, spikes.units
    if blocks is not None:
        times, units = _laid(spikes, blocks, ledger)
    falls = np.flatnonzero(times[1:] < times[:-1])
    backwards = falls[units[falls] == units[falls + 1]]
    if len(backwards):
        if "sort_spikes" not in spec.repairs and blocks is None:
            _refuse_restarts(times, units, backwards)
        ledger.note(f"spikes of {len(np.unique(units[backwards]))} units were unsorted")
    line = _sorted(times, units, spikes.clock)
    ties = np.flatnonzero(line.times[1:] == line.times[:-1])
    repeats = int((line.units[ties] == line.units[ties + 1]).sum())
    if repeats:
        ledger.note(f"{repeats} spikes repeat the time of another of their unit; kept")
    return line


def _sorted(times: NDArray[np.float64], units: NDArray[np.int64], hint: Clock | None) -> TimeLine:
    """The time line of `times` (n,) of `units` (n,), which come unit by unit.

    If the times lie on a clock, tick and unit are sorted as one integer. That takes a third of the
    time of a stable sort of floats, and the store keeps the ticks.
    """
    on_clock = find_clock(times, [hint] if hint else ()) if len(times) else None
    if on_clock is None or int(np.abs(on_clock[1]).max()) >= 2**62 >> UNIT_BITS:
        order = np.argsort(times, kind="stable")
        return TimeLine(times[order], units[order])
    clock, ticks = on_clock
    keys = np.sort((ticks << UNIT_BITS) | units)
    ticks = keys >> UNIT_BITS
    return TimeLine(clock.times(ticks), keys & ((1 << UNIT_BITS) - 1), (clock, ticks))


def _without_blanks(
    times: NDArray[np.float64], units: NDArray[np.int64], ledger: Ledger
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and units without NaN, infinities and sentinels."""
    kept = np.isfinite(times)
    if not kept.all():
        ledger.note(f"{int((~kept).sum())} spike times are not finite; dropped")
    negative = kept & (times < 0)
    if negative.any():
        sentinel = negative & np.isin(times, SENTINELS)
        if np.array_equal(sentinel, negative):
            values = ", ".join(f"{value:g}" for value in np.unique(times[sentinel]))
            ledger.note(f"{int(sentinel.sum())} spike times are {values}, no time; dropped")
            kept &= ~sentinel
    return (times, units) if kept.all() else (times[kept], units[kept])


def _refuse_other_units(spikes: SpikeList, other_spans: Iterable[float]) -> None:
    """Raise HarmonizeError if the times do not look like seconds."""
    doubt = _doubt(spikes.times, spikes.units, other_spans)
    if doubt is not None:
        raise HarmonizeError(
            f"spike times do not look like seconds: {doubt}. Say their unit in the spec, as"
            " units: {time_unit: s}, or ms, or samples with rate"
        )


def _doubt(
    times: NDArray[np.float64], units: NDArray[np.int64], other_spans: Iterable[float]
) -> str | None:
    """Why `times` may not be in seconds; None if nothing suggests it."""
    if len(times) < FEW:
        return None
    if np.array_equal(times[:FEW], np.rint(times[:FEW])) and np.array_equal(times, np.rint(times)):
        return f"all {len(times):,} are whole numbers, up to {times.max():.0f}, as samples are"
    share = _share_below_one(times, units)
    if share < MIN_SHARE_BELOW_ONE:
        return f"{share:.1%} of the intervals between spikes are below 1"
    if share >= USUAL_SHARE_BELOW_ONE:
        return None
    span = float(times.max() - times.min())
    if span > MAX_SPAN:
        return f"they span {span / 3600:,.0f} hours"
    longest = 0.0
    for other in other_spans:
        longest = max(longest, other)
        if span <= MAX_SPAN_RATIO * longest:
            return None
    if longest:
        return f"they span {span:,.0f}, the file's other times {longest:,.1f} s"
    return None


def _share_below_one(times: NDArray[np.float64], units: NDArray[np.int64]) -> float:
    """The share of interspike intervals below 1, in the unit of `times`. Where there are too few
    intervals, the smallest share that raises no doubt."""
    first_units = slice(0, 200_000)  # spikes; enough for a share
    intervals = np.diff(times[first_units])[np.diff(units[first_units]) == 0]
    intervals = intervals[intervals > 0]
    if len(intervals) < ENOUGH_INTERVALS:
        return MIN_SHARE_BELOW_ONE
    return float((intervals < 1).mean())


def _refuse_restarts(
    times: NDArray[np.float64], units: NDArray[np.int64], backwards: NDArray[np.int64]
) -> None:
    """Raise HarmonizeError if spikes at the rows `backwards` fall as a clock that restarts does."""
    far = backwards[times[backwards] - times[backwards + 1] > JUMP]
    for row in np.unique(units[far]):
        train = times[units == row]
        runs = rising_runs(train)
        if len(train) >= LONG_RUN * len(runs):
            shown = "; ".join(f"{train[a]:.1f} to {train[b - 1]:.1f} s" for a, b in runs[:4])
            more = ", …" if len(runs) > 4 else ""
            raise HarmonizeError(
                f"spike times run backwards as where a clock restarts: unit row {row} has"
                f" {len(runs)} rising stretches ({shown}{more}). Say in the spec repairs:"
                " [clock_restarts] to lay them end to end, or [sort_spikes] if they are only"
                " out of order"
            )


def _laid(
    spikes: SpikeList, blocks: Blocks, ledger: Ledger
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and units with the restarts repaired, without the units that fit in no way or in
    several."""
    laid, kept, unclear = [], np.ones(len(spikes.times), np.bool_), []
    row = 0
    for unit, train in enumerate(spikes.trains()):
        moved = blocks.lay(train)
        if moved is None:
            unclear.append(unit)
            kept[row : row + len(train)] = False
        else:
            laid.append(moved)
        row += len(train)
    dropped = int((~kept).sum())
    if 2 * dropped > len(kept):
        raise HarmonizeError(
            f"clock_restarts: {dropped} of {len(kept)} spikes fit the {len(blocks)} blocks that"
            " timestamps or trials show in more than one way, or in none: leave that repair out of"
            " the spec, or this file with exclude"
        )
    if unclear:
        ledger.note(
            f"clock_restarts: {dropped} spikes of {len(unclear)} units"
            f" (rows {listed(unclear, most=20)}) fit the blocks in more than one way, or in none;"
            " dropped"
        )
    return np.concatenate([np.zeros(0), *laid]), spikes.units[kept]
