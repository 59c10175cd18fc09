"""Windows and tokens of a corpus, for the tests of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS, Spans
from neurobrick_model.model.tokens import Keys, all_units, key_tokens
from neurobrick_model.randomness import Purpose, keys


def draw(corpus: Corpus, seconds: float, n: int, seed: int = 0) -> Spans:
    """`n` random training windows."""
    windows = torch.arange(n)
    return corpus.train.draw(
        round(seconds * TICKS), windows, n, keys(seed, Purpose.WINDOW_PLACE, windows)
    )  # fmt: skip


def tokens(corpus: Corpus, windows: Spans, units: Tensor | None = None) -> Keys:
    """Input tokens of `windows`; of all units by default."""
    units = all_units(corpus.vocabulary, windows.session) if units is None else units
    return key_tokens(corpus.spikes.cut(windows), windows, units, corpus.vocabulary)


def bounds(corpus: Corpus, windows: Spans, w: int) -> tuple[str, float, float]:
    """Session id, start and stop of window `w`, in seconds of the session's own clock."""
    session = int(windows.session[w])
    base = int(corpus.spikes.base[session])
    start, stop = (int(edge[w]) - base for edge in (windows.start, windows.stop))
    return corpus.vocabulary.sessions[session], start / TICKS, stop / TICKS
