"""A recording is decoded as if it were being made: each sample from one window of the past.

The window ends with the sample, or a lag later. `Stream` gives the same values, one at a time. Here
they are computed in batches, by the model itself.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, Vocabulary
from neurobrick_model.decoding.stitching import BATCH, read_keys
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.model.tokens import Queries


def decode_causally(
    model: Perceiver,
    vocabulary: Vocabulary,
    spikes: PackedSpikes,
    time: Tensor,
    window: float,
    lag: float,
) -> Tensor:
    """The model's output at `time` (n,), corpus ticks inside the recordings: (n, columns) float32.

    Each sample is decoded from the `window` seconds that end `lag` seconds after it.
    """
    windows = windows_before(spikes.domain.to(time.device), time, window, lag)
    return decode_each(model, vocabulary, spikes, windows, time)


def windows_before(domain: Spans, time: Tensor, window: float, lag: float) -> Spans:
    """For each of `time` (n,), sorted ticks, the `window` seconds that end `lag` seconds later.

    A window lies within the span of `domain` that holds its sample, so that it is shorter at the
    span's start. At the span's end it ends less than `lag` after the sample.
    """
    span = domain[torch.searchsorted(domain.start, time, right=True) - 1]
    stop = torch.minimum(time + round(lag * TICKS), span.stop)
    return replace(span, start=torch.maximum(stop - round(window * TICKS), span.start), stop=stop)


@torch.no_grad()
def decode_each(
    model: Perceiver, vocabulary: Vocabulary, spikes: PackedSpikes, windows: Spans, time: Tensor
) -> Tensor:
    """The model's output (n, columns) float32 at each of `time` (n,), from its own window."""
    output = torch.zeros(len(time), model.readout.out_features, device=time.device)
    batch = BATCH[time.device.type]
    for first in range(0, len(time), batch):
        rows = slice(first, first + batch)
        part = windows[rows]
        keys = read_keys(spikes, part, vocabulary)
        moment = (time[rows] - part.start)[:, None]
        queries = Queries(moment.int(), part.session, torch.zeros_like(moment), moment >= 0)
        with torch.compiler.set_stance("force_eager"):  # windows here are of many shapes
            output[rows] = model(keys, queries)[:, 0]
    return output
