"""A whole recording is decoded by overlapping windows; where they overlap, they are averaged."""

from __future__ import annotations

import torch
from torch import Tensor

from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.timeline import TICKS, PackedSpikes, Spans, Vocabulary, ragged
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.model.tokens import Keys, all_units, key_tokens, query_tokens

BATCH = {"cpu": 64, "cuda": 512}  # windows decoded at once
LEAST_TRUST = 1e-3  # weight at a window's very edge, so that the edge of a recording is decoded too


def covering(spans: Spans, length: int, step: int) -> Spans:
    """Windows of `length` ticks that cover each span, one every `step` ticks.

    The last window of a span is moved back, to end with the span. A span that is shorter than
    `length` is one window.
    """
    room = (spans.stop - spans.start - length).clamp(min=0)
    count = (room + step - 1) // step + 1
    owner, number = ragged(torch.zeros_like(count), count)
    start = spans.start[owner] + torch.minimum(number * step, room[owner])
    stop = torch.minimum(start + length, spans.stop[owner])
    return Spans(start, stop, spans.session[owner])


def windows_around(domain: Spans, time: Tensor, window: float, step: float) -> Spans:
    """The windows of `covering` that hold any of `time` (n,), sorted ticks.

    `window` and `step` are in seconds. Where windows lie depends on the recording only: a sample is
    decoded alike, whichever others are decoded with it.
    """
    windows = covering(domain, round(window * TICKS), round(step * TICKS))
    first, last = (torch.searchsorted(time, edge) for edge in (windows.start, windows.stop))
    return windows[last > first]


def stitch(
    model: Perceiver,
    vocabulary: Vocabulary,
    spikes: PackedSpikes,
    time: Tensor,
    window: float,
    step: float,
    ranks: Ranks | None = None,
) -> Tensor:
    """The model's output at `time` (n,), sorted corpus ticks: (n, columns) float32.

    `window` and `step` are in seconds. Windows are shared out among `ranks`; every rank returns the
    whole output. It is 0 where no window reaches.
    """
    windows = windows_around(spikes.domain.to(time.device), time, window, step)
    return decode_windows(model, vocabulary, spikes, windows, time, ranks)


def read_keys(spikes: PackedSpikes, windows: Spans, vocabulary: Vocabulary) -> Keys:
    """The input tokens of `windows`, of all units, on the device of `windows`."""
    device = windows.start.device
    cut = spikes.cut(windows.to(spikes.device)).to(device)
    keys = key_tokens(cut, windows, all_units(vocabulary, windows.session), vocabulary)
    return keys.compact() if len(keys.table) > keys.count else keys


@torch.no_grad()
def decode_windows(
    model: Perceiver,
    vocabulary: Vocabulary,
    spikes: PackedSpikes,
    windows: Spans,
    time: Tensor,
    ranks: Ranks | None = None,
) -> Tensor:
    """As `stitch`, by these windows.

    A sample is the weighted average over the windows that hold it. The weight is 1 in the middle of
    a window, where spikes before and after are known, and falls to `LEAST_TRUST` at its edges.
    """
    ranks = ranks or Ranks()
    windows = windows[ranks.rank :: ranks.count]
    total = torch.zeros(len(time), model.readout.out_features, device=time.device)
    weight = torch.zeros(len(time), 1, device=time.device)
    batch = BATCH[time.device.type]
    for first in range(0, len(windows), batch):
        part = windows[first : first + batch]
        keys = read_keys(spikes, part, vocabulary)
        queries = query_tokens(time, part, most=None)
        length = (part.stop - part.start).float()[:, None]
        trust = (1 - (2 * (queries.time / length) - 1).abs()).clamp(min=LEAST_TRUST)[..., None]
        with torch.compiler.set_stance("force_eager"):  # windows here are of many shapes
            output = model(keys, queries)
        sample = queries.sample[queries.mask]
        total.index_add_(0, sample, (output * trust)[queries.mask])
        weight.index_add_(0, sample, trust[queries.mask])
    return ranks.sum(total) / ranks.sum(weight).clamp(min=LEAST_TRUST)
