"""The timeline: spikes of many sessions on one time axis, and windows cut out by the batch.

Sessions lie one after another on *corpus time*, which counts whole ticks of 2^-24 s (60 ns). Whole
numbers are exact, alike on every device, and small: of a spike the low 32 bits of its tick are
kept, as those tell times within four minutes of each other apart, and its unit's row in its own
session. That is six bytes a spike; a thousand million of them fit on one card.
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

TICKS = 2**24  # a second
BIN_BITS = 19  # a bin of the index is 2^19 ticks, 1/32 s
GAP_BINS = 32  # between sessions, so that no bin holds spikes of two
MOST_UNITS = 2**16  # of a session


def ticks(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Seconds as whole ticks, the nearest."""
    return np.rint(seconds * TICKS).astype(np.int64)


@dataclass(frozen=True)
class Vocabulary:
    """The sessions that a decoder knows, and how many units each has. The units of all sessions
    follow each other: unit row `u` of session row `s` is row `first_unit[s] + u`."""

    sessions: tuple[str, ...]
    units: tuple[int, ...]

    @cached_property
    def first_unit(self) -> tuple[int, ...]:
        """The first vocabulary row of every session."""
        return tuple(np.cumsum([0, *self.units[:-1]]).tolist())

    @property
    def n_units(self) -> int:
        """Units of all sessions together."""
        return sum(self.units)


@dataclass(frozen=True)
class Spans:
    """Stretches of time: `start` and `stop` (n,) int64 corpus ticks, `session` (n,) int64."""

    start: Tensor
    stop: Tensor
    session: Tensor

    @classmethod
    def gather(
        cls, parts: Sequence[tuple[int, NDArray[np.int64], NDArray[np.int64]]], device: torch.device
    ) -> Spans:
        """Of parts, each (session row, starts, stops) in corpus ticks."""
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
        """Random windows of `length` ticks, each wholly inside one of the spans.

        `windows` (b,) are the numbers, of all `n` of a batch, of those to draw, `key` (b,) a random
        key of each. Spans are drawn in proportion to their length, and the n draws spread evenly
        over the total time, so that a batch covers the corpus as evenly as it can. A span that is
        shorter than `length` is given whole.
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
    """Spikes of b windows, one window after the other: `counts` (b,) int64 of each; `time` (n,)
    int32, ticks from its start; `unit` (n,) int16, as in `PackedSpikes`."""

    counts: Tensor
    time: Tensor
    unit: Tensor

    @property
    def window(self) -> Tensor:
        """The window of each spike, (n,) int64."""
        return torch.repeat_interleave(self.counts, output_size=len(self.time))

    @property
    def row(self) -> Tensor:
        """The row of its unit in the session's units table, (n,) int64."""
        return unsigned(self.unit)

    def to(self, device: torch.device) -> CutSpikes:
        """The same on `device`, sent from pinned memory to a card, so that it computes on."""
        parts = [self.counts, self.time, self.unit]
        if device.type == "cuda" and not self.time.is_cuda:
            parts = [part.pin_memory() for part in parts]
        return CutSpikes(*(part.to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class PackedSpikes:
    """Spikes of many sessions in order of corpus time: `tick` (n,) int32, the low bits of each
    spike's tick; `unit` (n,) int16, its row in its session's units table, as an unsigned number;
    `before` (bins + 1,) int64, how many spikes come before each bin; `base` (sessions,) int64, what
    corpus time adds to a session's own ticks; `domain`, what was recorded."""

    tick: Tensor
    unit: Tensor
    before: Tensor
    base: Tensor
    domain: Spans

    @classmethod
    def gather(
        cls,
        recordings: Sequence[tuple[int, NDArray[np.float64], NDArray[np.integer], Intervals]],
        n_sessions: int,
        device: torch.device,
    ) -> PackedSpikes:
        """Lay recordings, each (session row, spike times, unit rows, domain), end to end."""
        store = SpikeStore(n_sessions, sum(len(time) for _, time, _, _ in recordings))
        for row, time, unit, domain in recordings:
            store.add(row, time, unit, domain)
        return store.finish(device)

    def __len__(self) -> int:
        return len(self.tick)

    @property
    def device(self) -> torch.device:
        """Where the spikes lie."""
        return self.tick.device

    @property
    def nbytes(self) -> int:
        """Bytes of the spikes and their index."""
        return sum(x.numel() * x.element_size() for x in (self.tick, self.unit, self.before))

    def cut(self, windows: Spans) -> CutSpikes:
        """The spikes of all windows at once. Windows are half-open, as everywhere.

        The index gives whole bins, of which what lies outside the window is then left out.
        """
        owner, row = ragged(
            self.before[windows.start >> BIN_BITS],
            self.before[((windows.stop - 1) >> BIN_BITS) + 1],
        )
        time = self.tick[row] - low_bits(windows.start)[owner]  # right as it wraps around
        inside = (time >= 0) & (time < (windows.stop - windows.start)[owner])
        counts = torch.bincount(owner[inside], minlength=len(windows))
        return CutSpikes(counts, time[inside], self.unit[row[inside]])

    def of_session(self, session: int) -> tuple[Tensor, Tensor]:
        """All spikes of one session: corpus ticks (m,) int64, sorted, and unit rows (m,) int64."""
        mine = self.domain.session == session
        first = int(self.domain.start[mine].min()) >> BIN_BITS
        last = (int(self.domain.stop[mine].max()) - 1 >> BIN_BITS) + 1
        counts = self.before[first : last + 1].diff()
        bins = torch.arange(first, last, device=self.device).repeat_interleave(counts)
        rows = slice(int(self.before[first]), int(self.before[last]))
        start = bins << BIN_BITS
        within = (self.tick[rows] - low_bits(start)).long()
        return start + within, unsigned(self.unit[rows])


class SpikeStore:
    """Spikes as they are read, session by session, each packed at once: no more than the packed
    corpus and one session are held.

    Args: how many sessions there will be, and how many spikes at most.
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
        own = slice(self._n, self._n + len(at))
        self._n = own.stop
        self._tick[own] = at.astype(np.int32)  # the low bits
        self._unit[own] = unit.astype(np.uint16).view(np.int16)
        self._domains.append((row, start + base, stop + base))
        gap = np.zeros(GAP_BINS, dtype=np.int64)
        self._counts.append(gap)
        self._cursor += (bins + GAP_BINS) << BIN_BITS

    def finish(self, device: torch.device) -> PackedSpikes:
        """What was added, on `device`."""
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *self._counts])
        return PackedSpikes(
            tick=torch.from_numpy(self._tick[: self._n]).to(device),
            unit=torch.from_numpy(self._unit[: self._n]).to(device),
            before=torch.from_numpy(np.cumsum(counts)).to(device),
            base=torch.from_numpy(self.base).to(device),
            domain=Spans.gather(self._domains, device),
        )


def unsigned(unit: Tensor) -> Tensor:
    """Unit rows as int64, from int16 that stands for unsigned numbers."""
    return unit.long() & (MOST_UNITS - 1)


def low_bits(tick: Tensor) -> Tensor:
    """The low 32 bits of int64 ticks, as int32."""
    return tick.to(torch.int32)


def ragged(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The ranges [low, high) (n,) written out: for every element its range and its value, (m,)."""
    count = high - low
    owner = torch.repeat_interleave(count)
    within = torch.arange(len(owner), device=low.device) - (torch.cumsum(count, 0) - count)[owner]
    return owner, low[owner] + within


def flat(
    parts: Sequence[NDArray[Any]], device: torch.device, dtype: type[np.generic] | None = None
) -> Tensor:
    """The arrays end to end, as one tensor on `device`, of their own numpy type or `dtype`."""
    whole = np.concatenate(parts)
    return torch.from_numpy(whole if dtype is None else whole.astype(dtype, copy=False)).to(device)


def true_rows(masks: Sequence[NDArray[np.bool_]], device: torch.device) -> Tensor:
    """Where the masks, end to end, are true: (k,) int64."""
    return torch.from_numpy(np.flatnonzero(np.concatenate(masks))).to(device)
