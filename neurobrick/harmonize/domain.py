"""When there was recording, and which clocks do not agree with that of the spikes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.errors import UnsupportedFile
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.si import seconds_in
from neurobrick.harmonize.spikes import FEW, MAX_SPAN_RATIO
from neurobrick.intervals import Intervals
from neurobrick.readers.raw import Array, Recording
from neurobrick.schema import Series

FloatArray = NDArray[np.float64]

# A series or a table that lasts longer than this many times the spikes is noted. Longer than
# MAX_SPAN_RATIO times, its clock is in another unit, as spike times that span so much are.
LONG = 3
# With a declared rate, an array of (n, d) that lasts less than this share of the recording, and has
# n < d, may have been written with time along its last axis.
SHORT = 0.1


def spans_in_file(recording: Recording) -> Iterator[float]:
    """The length in seconds of each clock of the file except that of the spikes.

    Clocks that have to be read for it come last. The time of a series with a rate is its longest
    axis: perhaps the file has it along the last one.
    """
    yield from (max(series.shape) / series.rate for series in recording.series if series.rate)
    for table in recording.tables:
        ends = (table.columns.get(name) for name in ("start_time", "stop_time"))
        times = [c.values.reshape(-1) for c in ends if c and not isinstance(c.values, list)]
        yield span(np.concatenate([np.zeros(0), *times]))
    for series in recording.series:
        unit = seconds_in(series.time_unit)
        if series.timestamps is not None and unit is not None:
            yield span(series.timestamps()) * unit


def span(times: Array) -> float:
    """From the first of `times` to the last, in any order; 0 where none is finite."""
    known = times[np.isfinite(times)]
    with np.errstate(over="ignore"):
        return float(known.max() - known.min()) if known.size else 0.0


@dataclass(frozen=True)
class Doubts:
    """Behaviors, by their names in the store, whose clock or axes are perhaps wrong."""

    left: dict[str, str]  # name → why it cannot be kept
    noted: dict[str, str]  # name → note; it is kept, and not made the target


def doubts(
    spike_times: FloatArray, behavior: Mapping[str, Series], tables: Mapping[str, pa.Table]
) -> Doubts:
    """Behaviors that last hundreds of times longer than the spikes, and behaviors whose time is
    perhaps their last axis.

    A clock in milliseconds is 1,000 times too long, a bin width of 20 ms that is declared as a rate
    2,500 times. Time along the last axis is known by a shape of few samples with many values, if
    nothing but a rate says how long the series lasts.
    """
    spikes = span(spike_times)
    spans = {name: span(series.timestamps) for name, series in behavior.items()}
    spans_of_tables = [span(times_of(table)) for table in tables.values()]
    result = Doubts({}, {})
    for name, series in behavior.items():
        if len(spike_times) >= FEW and spans[name] > MAX_SPAN_RATIO * spikes > 0:
            result.left[name] = (
                f"its times span {spans[name]:,.0f} s, the spikes {spikes:,.1f} s:"
                f" {_cause_of_length(series)}"
            )
            continue
        others = [length for other, length in spans.items() if other != name]
        longest = max([spikes, *others, *spans_of_tables])
        n, width = series.values.shape
        seconds = n / series.clock.rate if series.clock is not None else np.inf
        if n < width and seconds < SHORT * longest:
            result.noted[name] = (
                f"{series.source}: {n} samples of {width:,} values, {seconds:.3g} s of"
                f" {longest:,.1f} s: perhaps its time lies along the last axis: repairs:"
                " [transpose]; kept, and not made the target"
            )
    return result


def _cause_of_length(series: Series) -> str:
    if series.clock is None:
        return "perhaps its timestamps are not in seconds"
    return f"perhaps its rate, {series.clock.rate:g} Hz, is a bin width, or in kHz"


def times_of(table: pa.Table) -> FloatArray:
    """Starts and stops of an interval table, (2 n,)."""
    return np.concatenate([np.asarray(table[name], np.float64) for name in ("start", "stop")])


def note_long(
    spike_times: FloatArray,
    behavior: Mapping[str, Series],
    tables: Mapping[str, pa.Table],
    observed: Intervals | None,
    ledger: Ledger,
) -> None:
    """Note what lasts several times longer than the spikes."""
    if len(spike_times) < FEW:
        return
    clocks = {series.source: series.timestamps for series in behavior.values()}
    clocks |= {name: times_of(table) for name, table in tables.items()}
    if observed is not None:
        clocks["the units' obs_intervals"] = np.array(observed.span)
    spikes = span(spike_times)
    for name, times in clocks.items():
        if (length := span(times)) > LONG * spikes > 0:
            ledger.note(
                f"{name}: lasts {length:,.0f} s, {length / spikes:,.1f} times as long as the spikes"
                f" ({spikes:,.1f} s): perhaps its clock is not in seconds; kept"
            )


def domain_of(
    observed: Intervals | None,
    spike_times: FloatArray,
    behavior: Mapping[str, Series],
    ledger: Ledger,
) -> Intervals:
    """When there was recording: the units' intervals, or without them, from the first event to just
    after the last."""
    domain = observed or _first_to_last(spike_times, behavior, ledger)
    first, last = np.searchsorted(spike_times, (domain.start, domain.stop))
    if outside := len(spike_times) - int((last - first).sum()):
        ledger.note(f"{outside} spikes lie outside the units' obs_intervals; kept")
    return domain


def _first_to_last(
    spike_times: FloatArray, behavior: Mapping[str, Series], ledger: Ledger
) -> Intervals:
    """From the first event to just after the last, without series that lie wholly before or after
    the spikes: those have another clock."""
    ends = [(spike_times[0], spike_times[-1])] if len(spike_times) else []
    for series in behavior.values():
        start, stop = series.timestamps[0], series.timestamps[-1]
        if len(spike_times) and (start > spike_times[-1] or stop < spike_times[0]):
            ledger.note(
                f"{series.source}: recorded from {start:.10g} to {stop:.10g} s, when there are no"
                " spikes: perhaps on another clock; kept, outside the session's domain"
            )
        else:
            ends.append((start, stop))
    if not ends:
        raise UnsupportedFile("it holds no spikes: none of its spike times is a time")
    first = min(start for start, _ in ends)
    last = max(stop for _, stop in ends)
    return Intervals([first], [np.nextafter(last, np.inf)])
