"""Batches: the windows of one step, cut, jittered, unit-dropped, delimited and packed.

Everything random about a window follows from the step and from its number in the batch
(`randomness`). So ranks and microbatches can each cut their own windows, and the batch is the same
however it is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.model.tokens import (
    Keys,
    Queries,
    all_units,
    drop_units,
    key_tokens,
    query_tokens,
)
from neurobrick_model.randomness import Purpose, keys, mix, step_key, uniform
from neurobrick_model.recipe.settings import TrainingSettings

EIGHTHS = 8  # padded lengths: eight between a power of two and the next


@dataclass(frozen=True)
class Batch:
    """b windows: what the decoder reads and is asked, and the keys (sites, b) int32 of its dropout;
    of the samples asked for, the `target` (b, q, d), and after it each further readout's, (b, q, d)
    or classes (b, q); and a `weight` (b, q) of each."""

    keys: Keys
    queries: Queries
    dropout_keys: Tensor
    target: tuple[Tensor, ...]
    weight: tuple[Tensor, ...]

    @property
    def weights(self) -> Tensor:
        """Their sums, (readouts,)."""
        return torch.stack([weight.sum() for weight in self.weight])

    def tensors(self) -> Iterator[Tensor]:
        """All tensors it is made of."""
        for part in (self.keys, self.queries, self):
            yield from (value for value in vars(part).values() if isinstance(value, Tensor))
        yield from (*self.target, *self.weight)


class BatchMaker:
    """Cuts batches out of a corpus.

    Args: the corpus; the training settings; seconds of a window; the model's dropout sites; and
    whether lengths are padded to few, as compiled kernels want them.
    """

    def __init__(
        self, corpus: Corpus, settings: TrainingSettings, window: float, sites: int, *, padded: bool
    ) -> None:
        self.corpus, self.settings, self.padded = corpus, settings, padded
        self.sites = torch.arange(1, sites + 1, device=corpus.device)[:, None]
        self.length = round(window * TICKS)
        self.train = corpus.train.to(corpus.spikes.device)

    def cut(self, step: int, windows: Tensor) -> Batch:
        """The windows of these numbers (b,), on the CPU, of the batch of `step`."""
        corpus, settings = self.corpus, self.settings
        key, device = step_key(settings.seed, step), corpus.device
        own = windows.to(corpus.spikes.device)
        spans = self.train.draw(
            self.length, own, settings.batch, keys(key, Purpose.WINDOW_PLACE, own)
        )
        spikes = corpus.spikes.cut(spans).to(device)

        spans, windows = spans.to(device), windows.to(device)
        units = all_units(corpus.vocabulary, spans.session)
        if settings.unit_dropout:
            number = keys(key, Purpose.UNIT_COUNT, windows)
            rank = keys(key, Purpose.UNIT_CHOICE, windows)
            units = drop_units(units, settings.unit_dropout, number, rank)
        tokens = key_tokens(spikes, spans, units, corpus.vocabulary)
        jitter = uniform(keys(key, Purpose.QUERY_JITTER, windows))[:, 0]
        queries = query_tokens(corpus.targets.time, spans, settings.queries, jitter)
        targets = corpus.targets
        values = (targets.value, *(one.value for one in targets.readouts))
        weights = (targets.weight, *(one.weight for one in targets.readouts))
        return Batch(
            keys=self._shaped(tokens),
            queries=queries,
            dropout_keys=mix(keys(key, Purpose.DROPOUT, windows) + self.sites).to(torch.int32),
            target=tuple(value[queries.sample] for value in values),
            weight=tuple(weight[queries.sample] * queries.mask for weight in weights),
        )

    def _shaped(self, tokens: Keys) -> Keys:
        """Padded to few shapes where they are compiled for; else with a table of what occurs,
        where that is smaller."""
        if self.padded:
            # Of the longest window a bound will do.
            longest = 2 ** (tokens.longest - 1).bit_length()
            return tokens.padded(_rounded(tokens.count), longest)
        return tokens.compact() if len(tokens.table) > tokens.count else tokens


def _rounded(n: int) -> int:
    """`n` rounded up to a multiple of an eighth of the power of two below it."""
    unit = max(1, 2 ** (n.bit_length() - 1) // EIGHTHS)
    return -(-n // unit) * unit


def shares(
    batch: int, microbatch: int | None, rank: int, ranks: int, *, least: int = 1
) -> list[Tensor]:
    """The windows (numbers, on the CPU) of one rank's microbatches, of which there are at least
    `least` if there are as many windows. Neighbors go to different ones, as they lie near each
    other in the corpus and are of like size."""
    mine = torch.arange(rank, batch, ranks)
    parts = max(-(-len(mine) // (microbatch or len(mine))), min(least, len(mine)))
    return [mine[first::parts] for first in range(parts)]


class Prefetcher:
    """The microbatches of step after step, each step's cut while the card computes the one before.

    On a card, cutting runs in a stream of its own: that it has to wait for counts does not hold up
    training, for which kernels are queued well ahead. On a CPU it is cut when it is asked for.
    """

    def __init__(self, cutter: BatchMaker, windows: list[Tensor]) -> None:
        self._cutter, self._windows = cutter, windows
        device = cutter.corpus.device
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._next: tuple[int, list[Batch]] | None = None

    def take(self, step: int) -> list[Batch]:
        """The microbatches of `step`."""
        if self._next is None or self._next[0] != step:
            self.prepare(step)
        assert self._next is not None
        batches, self._next = self._next[1], None
        if self._stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self._stream)
            for batch in batches:
                for tensor in batch.tensors():
                    tensor.record_stream(current)
        return batches

    def prepare(self, step: int) -> None:
        """Cut the microbatches of `step`, beside what is being computed."""
        with torch.cuda.stream(self._stream):
            self._next = step, [self._cutter.cut(step, windows) for windows in self._windows]

    def look_ahead(self, step: int) -> None:
        """Cut those of `step` now if that takes nothing from what is being computed."""
        if self._stream is not None:
            self.prepare(step)
