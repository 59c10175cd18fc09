"""Spike times as found → one sorted time line in seconds. docs/policies.md states each policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock, find_clock
from neurobrick.errors import HarmonizeError
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.restarts import JUMP, Blocks, rising_runs
from neurobrick.registry import DatasetSpec, UnitsSpec

# What stands for "no spike" in some files, where no other spike is before zero.
SENTINELS = (-1.0, -99.0, -999.0, -9999.0)

FEW = 20  # spikes, too few to judge what they are in
# Neurons fire in bursts: in seconds, most interspike intervals are shorter than 1. In milliseconds
# few are, that being within the refractory period; in samples, none.
USUAL_SHARE_BELOW_ONE = 0.2
MIN_SHARE_BELOW_ONE = 0.01  # less than that is no recording in seconds, whatever else there is
ENOUGH_INTERVALS = 200
# A recording's spikes last about as long as its trials and its behavior; in milliseconds or in
# samples they seem to last a thousand times longer, or more.
MAX_SPAN_RATIO = 500
MAX_SPAN = 100_000.0  # seconds, more than a day
# A clock that restarts gives few, long rising stretches; spikes that are out of order, many short.
LONG_RUN = 10  # spikes on average

UNIT_BITS = 24  # rows of a units table, beside the ticks of 39 bits, in one integer


@dataclass(frozen=True)
class TimeLine:
    """Spikes (n,): `times` in seconds, sorted, and `units`, rows of the units table; ties keep the
    order of the units. `ticks` are the times on a clock that gives them back, where there is one.
    """

    times: NDArray[np.float64]
    units: NDArray[np.int64]
    ticks: tuple[Clock, NDArray[np.int64]] | None = None


def time_line(
    found: NDArray[np.float64],
    ends: NDArray[np.int64],
    spec: DatasetSpec,
    blocks: Blocks | None,
    other_spans: Iterable[float],
    hint: Clock | None,
    ledger: Ledger,
) -> TimeLine:
    """All spikes on one time line. Unit k fired at `found[ends[k - 1]:ends[k]]`.

    `other_spans` are how long, in seconds, the file's other clocks run, `hint` the clock that it
    declares. Raises HarmonizeError for times that are not in seconds or run backwards, unless the
    spec says what they are.
    """
    counts = np.diff(ends, prepend=0)
    n_claimed = int(ends[-1]) if len(ends) else 0
    times = found[:n_claimed]
    units = np.repeat(np.arange(len(counts)), counts)
    if len(found) > n_claimed:
        ledger.note(f"{len(found) - n_claimed} spike times belong to no unit; left")
    times, units = _without_blanks(times, units, ledger)
    times = _in_seconds(times, units, spec.units, other_spans, ledger)
    if blocks is not None:
        times, units = _laid(times, units, len(counts), blocks, ledger)
    falls = np.flatnonzero(times[1:] < times[:-1])
    backwards = falls[units[falls] == units[falls + 1]]
    if len(backwards):
        if "sort_spikes" not in spec.repairs and blocks is None:
            _refuse_restarts(times, units, backwards)
        ledger.note(f"spikes of {len(np.unique(units[backwards]))} units were unsorted")
    line = _sorted(times, units, hint)
    ties = np.flatnonzero(line.times[1:] == line.times[:-1])
    twice = int((line.units[ties] == line.units[ties + 1]).sum())
    if twice:
        ledger.note(f"{twice} spikes repeat the time of another of their unit; kept")
    return line


def _sorted(times: NDArray[np.float64], units: NDArray[np.int64], hint: Clock | None) -> TimeLine:
    """The time line of `times` (n,) of `units` (n,), which come unit by unit.

    Times on a clock are sorted with their units as one integer each: in a third of the time that a
    stable sort of floats takes, and the ticks are what a store keeps.
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
    """Without what is no time: NaN, infinities, sentinels."""
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


def _in_seconds(
    times: NDArray[np.float64],
    units: NDArray[np.int64],
    spec: UnitsSpec,
    other_spans: Iterable[float],
    ledger: Ledger,
) -> NDArray[np.float64]:
    if spec.time_unit is not None:
        per_second = {"s": 1.0, "ms": 1000.0, "samples": spec.rate or 1.0}[spec.time_unit]
        if per_second != 1.0:
            ledger.note(f"spike times are in {spec.time_unit}: divided by {per_second:g}")
        return times / per_second
    doubt = _doubt(times, units, other_spans)
    if doubt is not None:
        raise HarmonizeError(
            f"spike times do not look like seconds: {doubt}. Say what they are in the spec, as"
            " units: {time_unit: s}, or ms, or samples with rate"
        )
    return times


def _doubt(
    times: NDArray[np.float64], units: NDArray[np.int64], other_spans: Iterable[float]
) -> str | None:
    """Why `times` may not be seconds; None where nothing says so."""
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
    """The share of interspike intervals below 1, in whatever the times are; a usual one where there
    are too few to tell."""
    few = slice(0, 200_000)  # the first units tell enough
    intervals = np.diff(times[few])[np.diff(units[few]) == 0]
    intervals = intervals[intervals > 0]
    if len(intervals) < ENOUGH_INTERVALS:
        return MIN_SHARE_BELOW_ONE
    return float((intervals < 1).mean())


def _refuse_restarts(
    times: NDArray[np.float64], units: NDArray[np.int64], backwards: NDArray[np.int64]
) -> None:
    """Raise HarmonizeError where spikes run `backwards` as a clock does that starts again."""
    far = backwards[times[backwards] - times[backwards + 1] > JUMP]
    for row in np.unique(units[far]):
        mine = times[units == row]
        runs = rising_runs(mine)
        if len(mine) >= LONG_RUN * len(runs):
            shown = "; ".join(f"{mine[a]:.1f} to {mine[b - 1]:.1f} s" for a, b in runs[:4])
            more = ", …" if len(runs) > 4 else ""
            raise HarmonizeError(
                f"spike times run backwards as where a clock restarts: unit row {row} has"
                f" {len(runs)} rising stretches ({shown}{more}). Say in the spec repairs:"
                " [clock_restarts] to lay them end to end, or [sort_spikes] if they are only"
                " out of order"
            )


def _laid(
    times: NDArray[np.float64],
    units: NDArray[np.int64],
    n_units: int,
    blocks: Blocks,
    ledger: Ledger,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times with the restarts repaired, without units whose spikes fit in no or in many ways."""
    laid = times.copy()
    kept = np.ones(len(times), np.bool_)
    stops = np.searchsorted(units, np.arange(n_units), side="right")
    starts = np.searchsorted(units, np.arange(n_units), side="left")
    unclear = []
    for row, (a, b) in enumerate(zip(starts, stops, strict=True)):
        found = blocks.lay(times[a:b])
        if found is None:
            unclear.append(row)
            kept[a:b] = False
        else:
            laid[a:b] = found
    if 2 * kept.sum() < len(kept):
        raise HarmonizeError(
            f"clock_restarts: {int((~kept).sum())} of {len(kept)} spikes fit the {len(blocks)}"
            " blocks that timestamps or trials show in more than one way, or in none: leave that"
            " repair out of the spec, or this file with exclude"
        )
    if unclear:
        rows = ", ".join(map(str, unclear[:20])) + (", …" if len(unclear) > 20 else "")
        ledger.note(
            f"clock_restarts: {int((~kept).sum())} spikes of {len(unclear)} units (rows {rows})"
            " fit the blocks in more than one way, or in none; dropped"
        )
    return laid[kept], units[kept]
