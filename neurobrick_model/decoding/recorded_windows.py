"""The spikes around a few windows of one session: all that decoding them needs to read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Session
from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, SpikeStore, ticks
from neurobrick_model.decoding.vocabulary import units_checksum

MARGIN = 1e-3  # s read on either side, as a spike belongs to the tick that is nearest to it


def domain_of(session: Session, row: int, device: torch.device) -> Spans:
    """When `session`, vocabulary row `row`, was recorded, in ticks of its own clock."""
    domain = session.domain
    return Spans.gather([(row, ticks(domain.start), ticks(domain.stop))], device)


def pack_around(
    session: Session, windows: Spans, time: Tensor, n_sessions: int
) -> tuple[PackedSpikes, Spans, Tensor]:
    """The spikes from the first of `windows` to the last, packed; reads no others.

    `windows`, at least one, and `time` (n,) are in ticks of the session's clock. They are returned
    in ticks of the packed spikes.
    """
    row = int(windows.session[0])
    first, last = int(windows.start.min()), int(windows.stop.max())
    spikes = session.slice(first / TICKS - MARGIN, last / TICKS + MARGIN).spikes
    tick = ticks(spikes.times)
    inside = (first <= tick) & (tick < last)
    store = SpikeStore(n_sessions, int(inside.sum()))
    store.add_ticks(row, tick[inside], spikes.units[inside], np.array([first]), np.array([last]))
    packed = store.finish(time.device)
    shift = packed.base[row]
    moved = replace(windows, start=windows.start + shift, stop=windows.stop + shift)
    return packed, moved, time + shift


def has_units(session: Session, checksum: str) -> bool:
    """Whether the units of `session` are those with this `units_checksum`.

    A decoder's checksum counts the spikes within the session's span. A store's counts include
    spikes outside of it, which few sessions have. So those are looked for only where the store's
    counts do not agree.
    """
    counts = session.spike_counts
    return checksum == units_checksum(counts) or checksum == units_checksum(
        counts - _outside(session)
    )


def _outside(session: Session) -> NDArray[np.int64]:
    """How many spikes each unit has before and after the session's span, (n_units,)."""
    first, last = session.span
    units = [session.slice(t0, t1).spikes.units for t0, t1 in ((-np.inf, first), (last, np.inf))]
    return np.bincount(np.concatenate(units), minlength=session.n_units)
