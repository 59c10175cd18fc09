"""The timeline: spikes of many sessions on one time axis, from which batches of windows are cut.

Sessions lie one after another on *corpus time*, which counts whole ticks of 2^-24 s (60 ns). Whole
numbers are exact and the same on every device. A spike takes six bytes: the low 32 bits of its
tick, and the row of its unit in its own session. The low bits suffice, since they repeat only after
256 s (four minutes), and the index knows the spike's time to 1/32 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Intervals, RecipeError
from neurobrick_model.randomness import uniform

TICKS = 2**24  # in a second
BIN_BITS = 19  # a bin of the index is 2^19 ticks, 1/32 s
GAP_BINS = 32  # empty bins between sessions, so that no bin holds spikes of two
MOST_UNITS = 2**16  # of a session: a unit's row is kept in 16 bits


def ticks(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Seconds (n,) as the nearest whole ticks (n,)."""
    return np.rint(seconds * TICKS).astype(np.int64)


@dataclass(frozen=True)
class Vocabulary:
    """The sessions and units that a decoder knows: the rows of its embedding tables.

    The units of all sessions follow each other: row `u` of the units table of session `s` is
    vocabulary row `first_unit[s] + u`.
    """

    sessions: tuple[str, ...]  # session ids
    units: tuple[int, ...]  # number of units of each session

    @cached_property
    def first_unit(self) -> tuple[int, ...]:
        """The vocabulary row of each session's first unit."""
        return tuple(np.cumsum([0, *self.units[:-1]]).tolist())

    @property
    def n_units(self) -> int:
        """Units of all sessions together."""
        return sum(self.units)


@dataclass(frozen=True)
class Spans:
    """n half-open stretches of time."""

    start: Tensor  # (n,) int64, corpus ticks
    stop: Tensor  # (n,) int64, corpus ticks
    session: Tensor  # (n,) int64, vocabulary row

    @classmethod
    def gather(
        cls, parts: Sequence[tuple[int, NDArray[np.int64], NDArray[np.int64]]], device: torch.device
    ) -> Spans:
        """The spans of `parts`, each (session row, starts, stops) in ticks."""
        return cls(
            flat([start for _, start, _ in parts], device),
            flat([stop for _, _, stop in parts], device),
            flat([np.full(len(start), row) for row, start, _ in parts], device),
        )

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Tensor | slice) -> Spans:
        return Spans(self.start[rows], self.stop[rows], self.session[rows])

    def to(self, device: torch.device) -> Spans:
        """The same on another device."""
        return Spans(self.start.to(device), self.stop.to(device), self.session.to(device))

    def draw(self, length: int, windows: Tensor, n: int, key: Tensor) -> Spans:
        """Random windows of `length` ticks, each wholly inside one of the spans: b spans.

        A batch has `n` windows, `windows` (b,) are the numbers of those to draw, and `key` (b,)
        their random keys. Spans are drawn in proportion to their length. The n draws are spread
        evenly over the total time, so that a batch covers the corpus as evenly as it can. A span
        that is shorter than `length` is returned whole.
        """
        room = self.stop - self.start
        ends = torch.cumsum(room, 0)
        first, second = uniform(key, 2).unbind(1)
        place = ((windows + first) / n * ends[-1]).long()
        row = torch.searchsorted(ends, place, right=True).clamp(max=len(self) - 1)
        spare = (room[row] - length).clamp(min=0)
        start = self.start[row] + (second * (spare + 1)).long().clamp(max=spare)
        return Spans(start, torch.minimum(start + length, self.stop[row]), self.session[row])


@dataclass(frozen=True)
class CutSpikes:
    """The n spikes of b windows, one window after the other."""

    counts: Tensor  # (b,) int64, spikes of each window
    time: Tensor  # (n,) int32, ticks from the window's start
    unit: Tensor  # (n,) int16, as in `PackedSpikes`

    @property
    def window(self) -> Tensor:
        """The number of each spike's window, (n,) int64."""
        return torch.repeat_interleave(self.counts, output_size=len(self.time))

    @property
    def row(self) -> Tensor:
        """The row of each spike's unit in its session's units table, (n,) int64."""
        return unsigned(self.unit)

    def to(self, device: torch.device) -> CutSpikes:
        """The same on `device`. To a GPU they are sent from pinned memory, while it computes."""
        parts = [self.counts, self.time, self.unit]
        if device.type == "cuda" and not self.time.is_cuda:
            parts = [part.pin_memory() for part in parts]
        return CutSpikes(*(part.to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class PackedSpikes:
    """The n spikes of many sessions, in order of corpus time, with an index by bins of 1/32 s."""

    tick: Tensor  # (n,) int32, low bits of the spike's corpus tick
    unit: Tensor  # (n,) int16, row of its session's units table, as an unsigned number
    before: Tensor  # (bins + 1,) int64, number of spikes before each bin
    base: Tensor  # (sessions,) int64, corpus tick minus the session's own tick
    domain: Spans  # when the sessions were recorded

    @classmethod
    def gather(
        cls,
        recordings: Sequence[tuple[int, NDArray[np.float64], NDArray[np.integer], Intervals]],
        n_sessions: int,
        device: torch.device,
    ) -> PackedSpikes:
        """Pack `recordings`, each (session row, spike times in s, unit rows, domain)."""
        store = SpikeStore(n_sessions, sum(len(time) for _, time, _, _ in recordings))
        for row, time, unit, domain in recordings:
            store.add(row, time, unit, domain)
        return store.finish(device)

    def __len__(self) -> int:
        return len(self.tick)

    @property
    def device(self) -> torch.device:
        """The device that holds the spikes."""
        return self.tick.device

    @property
    def nbytes(self) -> int:
        """Bytes of the spikes and their index."""
        return sum(x.numel() * x.element_size() for x in (self.tick, self.unit, self.before))

    def cut(self, windows: Spans) -> CutSpikes:
        """The spikes of all `windows`, which are half-open.

        The index gives whole bins; spikes outside of the window are then left out.
        """
        owner, row = ragged(
            self.before[windows.start >> BIN_BITS],
            self.before[((windows.stop - 1) >> BIN_BITS) + 1],
        )
        time = self.tick[row] - low_bits(windows.start)[owner]  # correct, as int32 wraps
        inside = (time >= 0) & (time < (windows.stop - windows.start)[owner])
        counts = torch.bincount(owner[inside], minlength=len(windows))
        return CutSpikes(counts, time[inside], self.unit[row[inside]])

    def of_session(self, session: int) -> tuple[Tensor, Tensor]:
        """All spikes of one session: corpus ticks (m,) int64, sorted, and unit rows (m,) int64."""
        spans = self.domain[self.domain.session == session]
        first = int(spans.start.min()) >> BIN_BITS
        last = (int(spans.stop.max()) - 1 >> BIN_BITS) + 1
        counts = self.before[first : last + 1].diff()
        bins = torch.arange(first, last, device=self.device).repeat_interleave(counts)
        rows = slice(int(self.before[first]), int(self.before[last]))
        start = bins << BIN_BITS
        within = (self.tick[rows] - low_bits(start)).long()
        return start + within, unsigned(self.unit[rows])


class SpikeStore:
    """Packs spikes session by session, as they are read, so that memory holds the packed corpus and
    one session at most.

    Args: the number of sessions, and the largest number of spikes.
    """

    def __init__(self, n_sessions: int, n_spikes: int) -> None:
        self.base = np.zeros(n_sessions, dtype=np.int64)
        self._cursor = 0
        self._n = 0
        self._tick = np.empty(n_spikes, dtype=np.int32)
        self._unit = np.empty(n_spikes, dtype=np.int16)
        self._counts: list[NDArray[np.int64]] = []
        self._domains: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []

    def add(
        self, row: int, time: NDArray[np.float64], unit: NDArray[np.integer], domain: Intervals
    ) -> None:
        """Lay the spikes of session `row` at the end: `time` (n,) s, `unit` (n,) unit rows.

        Raises RecipeError for a session with more than `MOST_UNITS` units.
        """
        self.add_ticks(row, ticks(time), unit, ticks(domain.start), ticks(domain.stop))

    def add_ticks(
        self,
        row: int,
        tick: NDArray[np.int64],
        unit: NDArray[np.integer],
        start: NDArray[np.int64],
        stop: NDArray[np.int64],
    ) -> None:
        """As `add`, with times in ticks of the session's clock; the domain is `start` and `stop`,
        (k,)."""
        if len(unit) and unit.max() >= MOST_UNITS:
            raise RecipeError(f"a session with more than {MOST_UNITS:,} units cannot be packed")
        first, last = (start[0], stop[-1]) if len(start) else (0, 0)
        base = self.base[row] = self._cursor - first
        bins = int((last - first) >> BIN_BITS) + 1
        at = tick + base
        self._counts.append(np.bincount((at - self._cursor) >> BIN_BITS, minlength=bins))
        rows = slice(self._n, self._n + len(at))
        self._n = rows.stop
        self._tick[rows] = at.astype(np.int32)  # the low bits
        self._unit[rows] = unit.astype(np.uint16).view(np.int16)
        self._domains.append((row, start + base, stop + base))
        gap = np.zeros(GAP_BINS, dtype=np.int64)
        self._counts.append(gap)
        self._cursor += (bins + GAP_BINS) << BIN_BITS

    def finish(self, device: torch.device) -> PackedSpikes:
        """The packed spikes, on `device`."""
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *self._counts])
        return PackedSpikes(
            tick=torch.from_numpy(self._tick[: self._n]).to(device),
            unit=torch.from_numpy(self._unit[: self._n]).to(device),
            before=torch.from_numpy(np.cumsum(counts)).to(device),
            base=torch.from_numpy(self.base).to(device),
            domain=Spans.gather(self._domains, device),
        )


def unsigned(unit: Tensor) -> Tensor:
    """Unit rows as int64, from int16 with the bits of an unsigned number."""
    return unit.long() & (MOST_UNITS - 1)


def low_bits(tick: Tensor) -> Tensor:
    """The low 32 bits of int64 ticks, as int32."""
    return tick.to(torch.int32)


def ragged(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The whole numbers of n ranges `low` to `high` (n,), end to end: for each, the number of its
    range (m,), and its value (m,)."""
    count = high - low
    owner = torch.repeat_interleave(count)
    within = torch.arange(len(owner), device=low.device) - (torch.cumsum(count, 0) - count)[owner]
    return owner, low[owner] + within


def flat(
    parts: Sequence[NDArray[Any]], device: torch.device, dtype: type[np.generic] | None = None
) -> Tensor:
    """The arrays `parts` end to end, as one tensor on `device`, with their own type or `dtype`."""
    whole = np.concatenate(parts)
    return torch.from_numpy(whole if dtype is None else whole.astype(dtype, copy=False)).to(device)


def true_rows(masks: Sequence[NDArray[np.bool_]], device: torch.device) -> Tensor:
    """The rows (k,) int64 at which the masks, end to end, are true."""
    return torch.from_numpy(np.flatnonzero(np.concatenate(masks))).to(device)
