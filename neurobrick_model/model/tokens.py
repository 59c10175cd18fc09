"""Tokens: the input and the output of the decoder for a batch of windows.

The input tokens of a window, its *keys*, are one for each spike, and a start and an end token for
each unit, which tell that a silent unit was recorded. They are packed end to end, without padding.
The output tokens, its *queries*, are one for each behavior sample. Both are made from the corpus by
tensor operations only.
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
    """The input tokens of b windows, packed: window k has rows `offsets[k]:offsets[k + 1]`."""

    time: Tensor  # (n,) int32, ticks from the window's start
    row: Tensor  # (n,) int64, row of `table`
    offsets: Tensor  # (b + 1,) int32
    table: Tensor  # (r,) int64, different tokens: vocabulary row * KINDS + kind
    longest: int  # at least the number of tokens of the longest window
    count: int  # tokens of all windows; rows from there on are padding

    @property
    def token(self) -> Tensor:
        """The token of each row, (n,) int64: vocabulary row * KINDS + kind."""
        return self.table[self.row]

    def to(self, device: torch.device) -> Keys:
        """The same on another device."""
        moved = {
            name: getattr(self, name).to(device) for name in ("time", "row", "offsets", "table")
        }
        return replace(self, **moved)

    def compact(self) -> Keys:
        """The same tokens, with a table of only those that occur.

        Every token of the table is projected. So a small batch of a large corpus costs no more than
        one of a small corpus.
        """
        occurs = torch.zeros(int(self.table.max()) + 1, dtype=torch.bool, device=self.row.device)
        token = self.token
        occurs[token] = True
        row = (torch.cumsum(occurs, 0) - 1)[token]
        return replace(self, table=occurs.nonzero()[:, 0], row=row)

    def padded(self, n: int, longest: int) -> Keys:
        """The same tokens, padded to `n` rows, and with this `longest`: shapes that seldom change,
        so that compiled code is used again."""
        extra = (0, n - len(self.row))
        time, row = functional.pad(self.time, extra), functional.pad(self.row, extra)
        return replace(self, time=time, row=row, longest=longest)


@dataclass(frozen=True)
class Queries:
    """The output tokens of b windows, padded to q each."""

    time: Tensor  # (b, q) int32, ticks from the window's start
    session: Tensor  # (b,) int64, vocabulary row
    sample: Tensor  # (b, q) int64, row of the behavior sample
    mask: Tensor  # (b, q) bool, False in padding

    def to(self, device: torch.device) -> Queries:
        """The same on another device."""
        return Queries(*(x.to(device) for x in (self.time, self.session, self.sample, self.mask)))


def all_units(vocabulary: Vocabulary, session: Tensor) -> Tensor:
    """The units of each window, for windows of `session` (b,): (b, most units of a session) bool.

    True for the first rows, as many as the window's session has units.
    """
    units = torch.tensor(vocabulary.units, device=session.device)
    return torch.arange(max(vocabulary.units), device=session.device) < units[session][:, None]


def drop_units(units: Tensor, settings: UnitDropout, number: Tensor, rank: Tensor) -> Tensor:
    """A random subset of each window's `units` (b, u): (b, u) bool.

    The number of units that are kept is triangular, drawn with the keys `number` (b,). Those with
    the lowest random scores are kept, drawn with the keys `rank` (b,).
    """
    score = uniform(rank, units.shape[1]).masked_fill(~units, 2.0)
    count = triangular(uniform(number)[:, 0], settings).round()
    return units & (score.argsort(1).argsort(1) < count[:, None])


def triangular(share: Tensor, settings: UnitDropout) -> Tensor:
    """Triangular random numbers (b,), from uniform ones in [0, 1), `share` (b,), by the inverse of
    the cumulative distribution."""
    low, mode, high = float(settings.least), float(settings.mode), float(settings.most)
    if low == high:
        return torch.full_like(share, low)
    rising = low + torch.sqrt(share * (high - low) * (mode - low))
    falling = high - torch.sqrt((1 - share) * (high - low) * (high - mode))
    return torch.where(share < (mode - low) / (high - low), rising, falling)


def key_tokens(spikes: CutSpikes, windows: Spans, units: Tensor, vocabulary: Vocabulary) -> Keys:
    """The input tokens of `windows`: of their `spikes`, and of the `units` (b, u) bool that are
    kept."""
    device = units.device
    first = torch.tensor(vocabulary.first_unit, device=device)[windows.session]
    window, unit = spikes.window, spikes.row
    kept = units[window, unit]
    window, unit = window[kept], unit[kept]
    edge_window, edge_unit = units.nonzero(as_tuple=True)
    n_spikes = torch.bincount(window, minlength=len(windows))
    n_edges = units.sum(1)
    offsets = functional.pad(torch.cumsum(n_spikes + 2 * n_edges, 0), (1, 0))

    # A window's tokens are its spikes, then its units' starts, then their ends. A spike comes after
    # the starts and ends of all windows before its own, a start after all spikes up to its own
    # window's last, and after the ends of the windows before.
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
    time[spike_place] = spikes.time[kept]
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
    """The output tokens of the behavior samples within each window; their times are `time` (m,)
    int64, sorted corpus ticks.

    With `most`, at most that many samples of a window, evenly spaced. `jitter` (b,) float64 in
    [0, 1) says where the first of them lies.
    """
    low = torch.searchsorted(time, windows.start)
    available = torch.searchsorted(time, windows.stop) - low
    count = available if most is None else available.clamp(max=most)
    # With a limit, the width is fixed, so that the CPU need not wait for the counts of the GPU.
    width = int(count.max()) if most is None else most
    place = torch.arange(width, device=time.device)[None, :]
    mask = place < count[:, None]
    if most is not None and jitter is not None:
        # Jitter of float32 in float64 arithmetic: rounding cannot push a place out of its window.
        spacing = available.double() / count.clamp(min=1)
        start = jitter.float().clamp(max=1 - 2**-24).double()
        place = ((place + start[:, None]) * spacing[:, None]).long()
    sample = torch.where(mask, low[:, None] + place, 0)
    moment = torch.where(mask, time[sample] - windows.start[:, None], 0)
    return Queries(moment.to(torch.int32), windows.session, sample, mask)
