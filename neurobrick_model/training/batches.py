"""Batches: the windows of one step, cut out of the corpus, with their tokens and targets.

Everything random about a window follows from the seed, the step and the window's number in the
batch (`randomness`). So ranks and microbatches can each make their own windows, and the batch is
the same however it is divided.
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

EIGHTHS = 8  # padded lengths between a power of two and the next


@dataclass(frozen=True)
class Batch:
    """The input and the targets of b windows, with q queries each."""

    keys: Keys  # the tokens that the decoder reads
    queries: Queries  # the moments that it decodes
    dropout_keys: Tensor  # (sites, b) int32, random keys of dropout
    # The target, (b, q, d) float32, z-scored; after it each further readout: (b, q, d) float32 for
    # a behavior, (b, q) int64 for classes.
    target: tuple[Tensor, ...]
    weight: tuple[Tensor, ...]  # of each readout: (b, q) float32, loss weights of the samples

    @property
    def weights(self) -> Tensor:
        """The sum of the weights of each readout, (readouts,)."""
        return torch.stack([weight.sum() for weight in self.weight])

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor in it."""
        for part in (self.keys, self.queries, self):
            yield from (value for value in vars(part).values() if isinstance(value, Tensor))
        yield from (*self.target, *self.weight)


class BatchMaker:
    """Makes batches out of a corpus.

    Args:
        corpus: where windows are cut from.
        settings: size of the batch, queries, unit dropout, seed.
        window: length of a window, seconds.
        sites: number of places in the model that drop out.
        padded: pad token counts to few different lengths, as compiled kernels need.
    """

    def __init__(
        self, corpus: Corpus, settings: TrainingSettings, window: float, sites: int, *, padded: bool
    ) -> None:
        self.corpus, self.settings, self.padded = corpus, settings, padded
        self.sites = torch.arange(1, sites + 1, device=corpus.device)[:, None]
        self.length = round(window * TICKS)
        self.train = corpus.train.to(corpus.spikes.device)

    def cut(self, step: int, windows: Tensor) -> Batch:
        """Some windows of the batch of `step`. `windows` (b,) int64, on the CPU, are their numbers
        in the batch."""
        corpus, settings = self.corpus, self.settings
        key, device = step_key(settings.seed, step), corpus.device
        numbers = windows.to(corpus.spikes.device)
        spans = self.train.draw(
            self.length, numbers, settings.batch, keys(key, Purpose.WINDOW_PLACE, numbers)
        )
        spikes = corpus.spikes.cut(spans).to(device)

        spans, windows = spans.to(device), windows.to(device)
        units = all_units(corpus.vocabulary, spans.session)
        if settings.unit_dropout:
            count = keys(key, Purpose.UNIT_COUNT, windows)
            choice = keys(key, Purpose.UNIT_CHOICE, windows)
            units = drop_units(units, settings.unit_dropout, count, choice)
        tokens = key_tokens(spikes, spans, units, corpus.vocabulary)
        jitter = uniform(keys(key, Purpose.QUERY_JITTER, windows))[:, 0]
        queries = query_tokens(corpus.targets.time, spans, settings.queries, jitter)
        targets = corpus.targets
        values = (targets.value, *(readout.value for readout in targets.readouts))
        weights = (targets.weight, *(readout.weight for readout in targets.readouts))
        return Batch(
            keys=self._shaped(tokens),
            queries=queries,
            dropout_keys=mix(keys(key, Purpose.DROPOUT, windows) + self.sites).to(torch.int32),
            target=tuple(value[queries.sample] for value in values),
            weight=tuple(weight[queries.sample] * queries.mask for weight in weights),
        )

    def _shaped(self, tokens: Keys) -> Keys:
        """`tokens`, padded for compiled kernels. Otherwise with a smaller embedding table of the
        units that occur, if there are fewer tokens than units."""
        if self.padded:
            # An upper bound of the longest window is enough.
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
    """The windows of one rank's microbatches: for each microbatch their numbers in the batch,
    int64, on the CPU.

    There are at least `least` microbatches if the rank has so many windows. Neighboring windows go
    to different microbatches: they lie near each other in the corpus, so they are of similar size.
    """
    windows = torch.arange(rank, batch, ranks)
    count = max(-(-len(windows) // (microbatch or len(windows))), min(least, len(windows)))
    return [windows[first::count] for first in range(count)]


class Prefetcher:
    """The microbatches of one step after the other.

    On a GPU, those of the next step are made on a second CUDA stream while the current step is
    computed. Making them has to wait for counts from the GPU; on a stream of its own, that does not
    hold up training. On a CPU they are made when they are needed.
    """

    def __init__(self, batch_maker: BatchMaker, windows: list[Tensor]) -> None:
        self._batch_maker, self._windows = batch_maker, windows
        device = batch_maker.corpus.device
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
        """Make the microbatches of `step`; on a GPU, on the second CUDA stream."""
        with torch.cuda.stream(self._stream):
            self._next = step, [self._batch_maker.cut(step, windows) for windows in self._windows]

    def look_ahead(self, step: int) -> None:
        """On a GPU, make the microbatches of `step` now. On a CPU, do nothing."""
        if self._stream is not None:
            self.prepare(step)
