"""Whole recordings decoded by overlapping windows, and the answers stitched together."""

from __future__ import annotations

import torch
from torch import Tensor

from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, Vocabulary, ragged
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.model.tokens import all_units, key_tokens, query_tokens

BATCH = {"cpu": 64, "cuda": 512}  # windows decoded at once
LEAST_TRUST = 1e-3  # at a window's very edge, so that the edge of a recording is decoded too


def covering(spans: Spans, length: int, step: int) -> Spans:
    """Windows of `length` ticks every `step` that cover each span; the last one is moved back to
    end with its span. A shorter span is one window."""
    room = (spans.stop - spans.start - length).clamp(min=0)
    count = (room + step - 1) // step + 1
    owner, number = ragged(torch.zeros_like(count), count)
    start = spans.start[owner] + torch.minimum(number * step, room[owner])
    stop = torch.minimum(start + length, spans.stop[owner])
    return Spans(start, stop, spans.session[owner])


@torch.no_grad()
def stitch(
    model: Perceiver,
    vocabulary: Vocabulary,
    spikes: PackedSpikes,
    time: Tensor,
    window: float,
    step: float,
    ranks: Ranks | None = None,
) -> Tensor:
    """The decoder's output at `time` (n,), sorted corpus ticks: (n, columns) float32. Windows are
    shared out among `ranks`, and all of them get the whole.

    A sample is the average over the windows that hold it, weighted by how near it is to their
    middles, where a window knows what came before and after. Where no window reaches, it is 0.
    The windows' places depend on the recording only, not on what is asked.
    """
    ranks = ranks or Ranks()
    windows = covering(spikes.domain.to(time.device), round(window * TICKS), round(step * TICKS))
    asked = torch.searchsorted(time, windows.stop) > torch.searchsorted(time, windows.start)
    windows = windows[asked]
    windows = windows[ranks.rank :: ranks.count]
    total = torch.zeros(len(time), model.readout.out_features, device=time.device)
    weight = torch.zeros(len(time), 1, device=time.device)
    batch = BATCH[time.device.type]
    for first in range(0, len(windows), batch):
        part = windows[first : first + batch]
        cut = spikes.cut(part.to(spikes.device)).to(time.device)
        keys = key_tokens(cut, part, all_units(vocabulary, part.session), vocabulary)
        queries = query_tokens(time, part, most=None)
        length = (part.stop - part.start).float()[:, None]
        trust = (1 - (2 * (queries.time / length) - 1).abs()).clamp(min=LEAST_TRUST)[..., None]
        with torch.compiler.set_stance("force_eager"):  # windows here are of many shapes
            guess = model(keys, queries)
        sample = queries.sample[queries.mask]
        total.index_add_(0, sample, (guess * trust)[queries.mask])
        weight.index_add_(0, sample, trust[queries.mask])
    return ranks.sum(total) / ranks.sum(weight).clamp(min=LEAST_TRUST)
