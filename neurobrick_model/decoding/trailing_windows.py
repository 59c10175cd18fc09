"""Decoding a recording as it would be decoded while it is made: each sample by itself, from the one
window that ends with it, or soon after. What `Stream` gives, in batches, by the model as it is.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, Vocabulary
from neurobrick_model.decoding.stitching import BATCH
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.model.tokens import Queries, all_units, key_tokens


@torch.no_grad()
def decode_causally(
    model: Perceiver,
    vocabulary: Vocabulary,
    spikes: PackedSpikes,
    time: Tensor,
    window: float,
    lag: float,
) -> Tensor:
    """The decoder's output at `time` (n,), corpus ticks inside the recordings: (n, columns).

    Each sample is asked of the `window` seconds that end `lag` seconds after it. They begin no
    sooner than its recording, and end no later, so that they are fewer at its edges.
    """
    windows = trailing(
        spikes.domain.to(time.device), time, round(window * TICKS), round(lag * TICKS)
    )
    output = torch.zeros(len(time), model.readout.out_features, device=time.device)
    batch = BATCH[time.device.type]
    for first in range(0, len(time), batch):
        rows = slice(first, first + batch)
        part = windows[rows]
        cut = spikes.cut(part.to(spikes.device)).to(time.device)
        keys = key_tokens(cut, part, all_units(vocabulary, part.session), vocabulary)
        asked = (time[rows] - part.start)[:, None]
        queries = Queries(asked.int(), part.session, torch.zeros_like(asked), asked >= 0)
        with torch.compiler.set_stance("force_eager"):  # windows here are of many shapes
            output[rows] = model(keys, queries)[:, 0]
    return output


def trailing(domain: Spans, time: Tensor, length: int, lag: int) -> Spans:
    """For each moment of `time` (n,), the window of `length` ticks that ends `lag` ticks later, or
    what of it lies in the span of `domain` that holds the moment."""
    span = domain[torch.searchsorted(domain.start, time, right=True) - 1]
    stop = torch.minimum(time + lag, span.stop)
    return replace(span, start=torch.maximum(stop - length, span.start), stop=stop)
