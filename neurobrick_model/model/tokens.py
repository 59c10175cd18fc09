"""Tokens: what the decoder reads of a window, and what it is asked.

A window's *keys* are one token a spike, and a start and an end token for every unit, so that a
silent unit is known to be recorded. They are packed end to end, without padding. Its *queries* are
one token a behavior sample. Both are made from the corpus by tensor operations only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from neurobrick_model.data.timeline import CutSpikes, Spans, Vocabulary
from neurobrick_model.randomness import uniform
from neurobrick_model.recipe.settings import UnitDropout

SPIKE, START, END = range(3)
KINDS = 3


@dataclass(frozen=True)
class Keys:
    """Input tokens of b windows, packed: window k's are rows `offsets[k]:offsets[k + 1]`, int32
    (b + 1,). `time` (n,) int32, ticks from the window's start; `row` (n,) int64, row of `table`;
    `table` (r,) int64, the tokens there are: row of the vocabulary * KINDS + kind; `longest`, at
    least the tokens of the longest window; `count`, tokens in all. What follows is padding."""

    time: Tensor
    row: Tensor
    offsets: Tensor
    table: Tensor
    longest: int
    count: int

    @property
    def token(self) -> Tensor:
        """What each key is, (n,) int64: row of the vocabulary * KINDS + kind."""
        return self.table[self.row]

    def to(self, device: torch.device) -> Keys:
        """The same on another device."""
        moved = {
            name: getattr(self, name).to(device) for name in ("time", "row", "offsets", "table")
        }
        return replace(self, **moved)

    def compact(self) -> Keys:
        """With a table of only the tokens that occur: their projections are all that is computed,
        so that a small batch of a large corpus costs no more than that of a small one."""
        there = torch.zeros(int(self.table.max()) + 1, dtype=torch.bool, device=self.row.device)
        token = self.token
        there[token] = True
        return replace(self, table=there.nonzero()[:, 0], row=(torch.cumsum(there, 0) - 1)[token])

    def padded(self, n: int, longest: int) -> Keys:
        """With room for `n` tokens, `longest` of them in a window: shapes that seldom change."""
        extra = (0, n - len(self.row))
        time, row = functional.pad(self.time, extra), functional.pad(self.row, extra)
        return replace(self, time=time, row=row, longest=longest)


@dataclass(frozen=True)
class Queries:
    """Output tokens of b windows, padded to q: `time` (b, q) int32, ticks from the window's start;
    `session` (b,) int64; `sample` (b, q) int64, row of the sample asked for; `mask` (b, q) bool,
    False where there is only padding."""

    time: Tensor
    session: Tensor
    sample: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Queries:
        """The same on another device."""
        return Queries(*(x.to(device) for x in (self.time, self.session, self.sample, self.mask)))


def all_units(vocabulary: Vocabulary, session: Tensor) -> Tensor:
    """Every unit of windows of `session` (b,): (b, most units of a session) bool."""
    units = torch.tensor(vocabulary.units, device=session.device)
    return torch.arange(max(vocabulary.units), device=session.device) < units[session][:, None]


def drop_units(units: Tensor, settings: UnitDropout, number: Tensor, rank: Tensor) -> Tensor:
    """A random subset of each window's `units` (b, u): as many as a triangular distribution says,
    drawn by the keys `number` (b,); those of the lowest of random scores drawn by `rank` (b,)."""
    score = uniform(rank, units.shape[1]).masked_fill(~units, 2.0)
    wanted = triangular(uniform(number)[:, 0], settings).round()
    return units & (score.argsort(1).argsort(1) < wanted[:, None])


def triangular(dropout_keys: Tensor, settings: UnitDropout) -> Tensor:
    """Triangular random numbers from uniform ones in [0, 1), by the inverse distribution."""
    low, mode, high = float(settings.least), float(settings.mode), float(settings.most)
    if low == high:
        return torch.full_like(dropout_keys, low)
    rising = low + torch.sqrt(dropout_keys * (high - low) * (mode - low))
    falling = high - torch.sqrt((1 - dropout_keys) * (high - low) * (high - mode))
    return torch.where(dropout_keys < (mode - low) / (high - low), rising, falling)


def key_tokens(spikes: CutSpikes, windows: Spans, units: Tensor, vocabulary: Vocabulary) -> Keys:
    """The input tokens of `windows`, of the `units` (b, u) bool that are kept."""
    device = units.device
    first = torch.tensor(vocabulary.first_unit, device=device)[windows.session]
    window, unit = spikes.window, spikes.row
    chosen = units[window, unit]
    window, unit = window[chosen], unit[chosen]
    edge_window, edge_unit = units.nonzero(as_tuple=True)
    n_spikes = torch.bincount(window, minlength=len(windows))
    n_edges = units.sum(1)
    offsets = functional.pad(torch.cumsum(n_spikes + 2 * n_edges, 0), (1, 0))

    # In the pack, a window is its spikes, its starts, its ends. What comes one window after the
    # other in a list of one kind moves by as much as the other kinds take up before it.
    n_starts_before = torch.cumsum(n_edges, 0) - n_edges
    spike_place = torch.arange(len(window), device=device) + (2 * n_starts_before)[window]
    spikes_to_here = torch.cumsum(n_spikes, 0)
    start_place = torch.arange(len(edge_window), device=device)
    start_place = start_place + (spikes_to_here + n_starts_before)[edge_window]
    end_place = start_place + n_edges[edge_window]

    edge_token = (edge_unit + first[edge_window]) * KINDS
    n = len(window) + 2 * len(edge_window)
    row = torch.empty(n, dtype=torch.int64, device=device)
    row[spike_place] = (unit + first[window]) * KINDS + SPIKE
    row[start_place] = edge_token + START
    row[end_place] = edge_token + END
    time = torch.zeros(n, dtype=torch.int32, device=device)
    time[spike_place] = spikes.time[chosen]
    time[end_place] = (windows.stop - windows.start).to(torch.int32)[edge_window]
    return Keys(
        time=time,
        row=row,
        offsets=offsets.to(torch.int32),
        table=torch.arange(vocabulary.n_units * KINDS, device=device),
        longest=int((n_spikes + 2 * n_edges).max()),
        count=n,
    )


def query_tokens(
    time: Tensor, windows: Spans, most: int | None, jitter: Tensor | None = None
) -> Queries:
    """Ask for the samples at `time` (m,) int64, sorted corpus ticks, that lie in each window.

    With `most`, for at most that many of them, evenly spaced from a place that `jitter` (b,)
    float64 in [0, 1) tells.
    """
    low = torch.searchsorted(time, windows.start)
    there = torch.searchsorted(time, windows.stop) - low
    asked = there if most is None else there.clamp(max=most)
    # A fixed width where there is a limit: nothing then waits for the device to say how many.
    width = int(asked.max()) if most is None else most
    place = torch.arange(width, device=time.device)[None, :]
    mask = place < asked[:, None]
    if most is not None and jitter is not None:
        # Jitter of float32 in float64 arithmetic: rounding cannot push a place out of its window.
        spacing = there.double() / asked.clamp(min=1)
        start = jitter.float().clamp(max=1 - 2**-24).double()
        place = ((place + start[:, None]) * spacing[:, None]).long()
    sample = torch.where(mask, low[:, None] + place, 0)
    moment = torch.where(mask, time[sample] - windows.start[:, None], 0)
    return Queries(moment.to(torch.int32), windows.session, sample, mask)
