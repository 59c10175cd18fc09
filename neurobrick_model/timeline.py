"""The timeline: spikes of many sessions on one time axis, and windows cut out by the batch.

Sessions lie one after another on *corpus time*: a session's own seconds plus its base. Spikes are
sorted along it, so that one searchsorted finds those of any number of windows of any sessions.
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

from neurobrick import Intervals

GAP = 1.0  # seconds between sessions in corpus time: rounding never moves a spike into the next


@dataclass(frozen=True)
class Vocabulary:
    """The sessions that a decoder knows, and how many units each has. The units of all sessions
    follow each other: unit row `u` of session row `s` is row `first_unit[s] + u`."""

    sessions: tuple[str, ...]
    units: tuple[int, ...]

    @cached_property
    def first_unit(self) -> tuple[int, ...]:
        """The first vocabulary row of every session."""
        return tuple(sum(self.units[:row]) for row in range(len(self.units)))

    @property
    def n_units(self) -> int:
        """Units of all sessions together."""
        return sum(self.units)


@dataclass(frozen=True)
class Spans:
    """Stretches of time: `start` and `stop` (n,) float64 corpus seconds, `session` (n,) int64."""

    start: Tensor
    stop: Tensor
    session: Tensor

    @classmethod
    def gather(
        cls,
        parts: Sequence[tuple[int, NDArray[np.float64], NDArray[np.float64]]],
        device: torch.device,
    ) -> Spans:
        """Of parts, each (session row, starts, stops) in corpus seconds."""
        return cls(
            flat([start for _, start, _ in parts], device),
            flat([stop for _, _, stop in parts], device),
            flat([np.full(len(start), row) for row, start, _ in parts], device),
        )

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Tensor | slice) -> Spans:
        return Spans(self.start[rows], self.stop[rows], self.session[rows])

    def draw(self, length: float, n: int, generator: torch.Generator) -> Spans:
        """`n` random windows of `length` seconds, each wholly inside one of the spans.

        Spans are drawn in proportion to their length, and the draws spread evenly over the total
        time, so that a batch covers the corpus as evenly as it can. A span that is shorter than
        `length` is given whole.
        """
        device = self.start.device
        room = self.stop - self.start
        ends = torch.cumsum(room, 0)
        share = torch.arange(n, dtype=torch.float64, device=device) + torch.rand(
            n, dtype=torch.float64, device=device, generator=generator
        )
        place = share / n * ends[-1]
        row = torch.searchsorted(ends, place, right=True).clamp(max=len(self) - 1)
        fraction = ((place - (ends - room)[row]) / room[row]).clamp(0, 1)
        start = self.start[row] + fraction * (room[row] - length).clamp(min=0)
        stop = torch.minimum(start + length, self.stop[row])
        return Spans(start, stop, self.session[row])


@dataclass(frozen=True)
class Spikes:
    """Spikes of many sessions: `time` (n,) float64 corpus seconds, sorted; `unit` (n,) int32 rows
    of the vocabulary; `base` (sessions,) float64, what corpus time adds to a session's own;
    `domain`, what was recorded."""

    time: Tensor
    unit: Tensor
    base: Tensor
    domain: Spans

    @classmethod
    def gather(
        cls,
        recordings: Sequence[tuple[int, NDArray[np.float64], NDArray[np.integer], Intervals]],
        vocabulary: Vocabulary,
        device: torch.device,
    ) -> Spikes:
        """Lay recordings, each (session row, spike times, unit rows, domain), end to end."""
        base = np.zeros(len(vocabulary.sessions))
        times, units, domains = [], [], []
        cursor = 0.0
        for row, time, unit, domain in recordings:
            first, last = domain.span
            base[row] = cursor - first
            cursor += last - first + GAP
            times.append(time + base[row])
            units.append(unit.astype(np.int32) + np.int32(vocabulary.first_unit[row]))
            domains.append((row, domain.start + base[row], domain.stop + base[row]))
        return cls(
            time=flat(times, device),
            unit=flat(units, device),
            base=torch.from_numpy(base).to(device),
            domain=Spans.gather(domains, device),
        )

    def cut(self, windows: Spans) -> tuple[Tensor, Tensor]:
        """The spikes of all windows at once, in order: the window each belongs to (m,) int64, and
        its row in `time` and `unit` (m,) int64. Windows are half-open, as everywhere."""
        return ragged(
            torch.searchsorted(self.time, windows.start),
            torch.searchsorted(self.time, windows.stop),
        )


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
