"""Tokens: what the decoder reads of a window, and what it is asked.

A window's *keys* are one token a spike, and a start and an end token for every unit, so that a
silent unit is known to be recorded. Its *queries* are one token a behavior sample. A batch is a
handful of padded tensors, made from the corpus by tensor operations only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.recipe import UnitDropout
from neurobrick_model.timeline import Spans, Spikes, Vocabulary

SPIKE, START, END = range(3)
KINDS = 3

KeptUnits = tuple[Tensor, Tensor]  # (b, most units) bool; (b,) int64 first vocabulary row


@dataclass(frozen=True)
class Keys:
    """Input tokens of b windows, padded to n: `time` (b, n) float32, seconds from the window's
    start; `unit` (b, n) int64, row of the vocabulary; `kind` (b, n) int64; `mask` (b, n) bool,
    False where there is only padding."""

    time: Tensor
    unit: Tensor
    kind: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Queries:
    """Output tokens of b windows, padded to q: `time` (b, q) float32, seconds from the window's
    start; `session` (b,) int64; `sample` (b, q) int64, row of the sample asked for; `mask` (b, q)
    bool, False where there is only padding."""

    time: Tensor
    session: Tensor
    sample: Tensor
    mask: Tensor


def key_tokens(spikes: Spikes, windows: Spans, units: KeptUnits) -> Keys:
    """The input tokens of `windows`, of the units that are kept."""
    kept, first = units
    window, row = spikes.cut(windows)
    unit = spikes.unit[row].long()
    chosen = kept[window, unit - first[window]]
    window, row, unit = window[chosen], row[chosen], unit[chosen]
    time = (spikes.time[row] - windows.start[window]).float()

    edge_window, edge_unit = kept.nonzero(as_tuple=True)
    edge_unit = edge_unit + first[edge_window]
    length = (windows.stop - windows.start).float()[edge_window]

    window = torch.cat([window, edge_window, edge_window])
    order = torch.argsort(window, stable=True)
    window = window[order]
    count = torch.bincount(window, minlength=len(windows))
    place = (
        torch.arange(len(window), device=window.device) - (torch.cumsum(count, 0) - count)[window]
    )
    shape = (len(windows), int(count.max()))

    def padded(flat: Tensor) -> Tensor:
        return flat.new_zeros(shape).index_put_((window, place), flat[order])

    return Keys(
        time=padded(torch.cat([time, torch.zeros_like(length), length])),
        unit=padded(torch.cat([unit, edge_unit, edge_unit])),
        kind=padded(
            torch.cat(
                [
                    torch.full_like(unit, SPIKE),
                    torch.full_like(edge_unit, START),
                    torch.full_like(edge_unit, END),
                ]
            )
        ),
        mask=torch.arange(shape[1], device=window.device) < count[:, None],
    )


def all_units(vocabulary: Vocabulary, session: Tensor) -> KeptUnits:
    """Every unit of each window's session; `session` (b,) int64."""
    counts = torch.tensor(vocabulary.units, device=session.device)[session]
    first = torch.tensor(vocabulary.first_unit, device=session.device)[session]
    return torch.arange(max(vocabulary.units), device=session.device) < counts[:, None], first


def drop_units(units: KeptUnits, settings: UnitDropout, generator: torch.Generator) -> KeptUnits:
    """A random subset of each window's units, of a size drawn from a triangular distribution."""
    kept, first = units
    device = kept.device
    score = torch.rand(kept.shape, device=device, generator=generator).masked_fill(~kept, 2.0)
    rank = score.argsort(1).argsort(1)
    chance = torch.rand(len(kept), device=device, generator=generator)
    return kept & (rank < triangular(chance, settings).round()[:, None]), first


def triangular(chance: Tensor, settings: UnitDropout) -> Tensor:
    """Triangular random numbers from uniform ones in [0, 1), by the inverse distribution."""
    low, mode, high = float(settings.least), float(settings.mode), float(settings.most)
    if low == high:
        return torch.full_like(chance, low)
    rising = low + torch.sqrt(chance * (high - low) * (mode - low))
    falling = high - torch.sqrt((1 - chance) * (high - low) * (high - mode))
    return torch.where(chance < (mode - low) / (high - low), rising, falling)


def query_tokens(
    time: Tensor, windows: Spans, most: int | None, generator: torch.Generator | None = None
) -> Queries:
    """Ask for the samples at `time` (m,) float64, sorted corpus seconds, that lie in each window.

    With `most`, at most that many of them, evenly spaced from a random place.
    """
    low = torch.searchsorted(time, windows.start)
    there = torch.searchsorted(time, windows.stop) - low
    asked = there if most is None else there.clamp(max=most)
    place = torch.arange(int(asked.max()), device=time.device)[None, :]
    mask = place < asked[:, None]
    if most is not None:
        # Jitter of float32 in float64 arithmetic: rounding cannot push a place out of its window.
        jitter = torch.rand(len(windows), device=time.device, generator=generator).double()
        spacing = there.double() / asked.clamp(min=1)
        place = ((place + jitter[:, None]) * spacing[:, None]).long()
    sample = torch.where(mask, low[:, None] + place, 0)
    moment = torch.where(mask, time[sample] - windows.start[:, None], 0)
    return Queries(moment.float(), windows.session, sample, mask)
