"""Networks of binned spikes: an MLP and a bidirectional GRU, after Glaser et al. 2020 (*Machine
learning for neural decoding*, eNeuro 7).

Both read z-scored square roots of counts before and after a sample, as the decoder does. The MLP
reads the bins around one sample, those of the ridge decoder. The GRU runs both ways over twice as
many bins and answers for all samples in their middle half, so that each has at least the MLP's bins
around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from neurobrick_model.baselines.binned_spikes import BinnedSession, counts
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.randomness import dropout as drop

ROWS = 1024  # windows that are binned at once


@dataclass(frozen=True)
class BinnedWindows:
    """Windows of b bins from which k samples at most are decoded: `counts` (w, units, b) int16;
    `place` (w, k) float32 of each sample, in bins from the middle of the first; `inside` (w, k)
    bool, false where a window has fewer samples."""

    counts: Tensor
    place: Tensor
    inside: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def spread(self, samples: Tensor) -> Tensor:
        """What each sample has, (n, …), laid out by window: (w, k, …), 0 where there is none."""
        laid = samples.new_zeros(*self.inside.shape, *samples.shape[1:])
        laid[self.inside] = samples
        return laid


class Network(nn.Module):
    """What MLP and GRU have in common: made of the sizes of its input and output, width and
    dropout, it takes x (w, units, b), places (w, k) and the keys (2, w) of its dropout, None where
    nothing is dropped, to behavior (w, k, d)."""

    batch: ClassVar[int]  # windows of a step
    rate: ClassVar[float]  # of learning
    readout: nn.Linear

    def __init__(self, units: int, bins: int, d: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    @staticmethod
    def windows(recording: BinnedSession, time: Tensor, bin: float, lags: int) -> BinnedWindows:
        """The windows that hold the samples at sorted `time` (n,) ticks, in their order."""
        raise NotImplementedError


class MLP(Network):
    """Two hidden layers over all bins around a sample."""

    batch = 256
    rate = 1e-3

    def __init__(self, units: int, bins: int, d: int, width: int, dropout: float) -> None:
        super().__init__(units, bins, d, width, dropout)
        self.first = nn.Linear(units * bins, width)
        self.second = nn.Linear(width, width)
        self.readout = nn.Linear(width, d)

    @staticmethod
    def windows(recording: BinnedSession, time: Tensor, bin: float, lags: int) -> BinnedWindows:
        """`lags` bins around each sample."""
        place = torch.full((len(time), 1), (lags - 1) / 2, device=time.device)
        return BinnedWindows(_counts(recording, time, bin, lags), place, place >= 0)

    def forward(self, x: Tensor, place: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        first, second = (None, None) if dropout_keys is None else dropout_keys.unbind(0)
        hidden = drop(self.first(x.flatten(1)).relu(), self.dropout, first)
        hidden = drop(self.second(hidden).relu(), self.dropout, second)
        return self.readout(hidden)[:, None]


class GRU(Network):
    """One layer in each direction over all bins, read out at places between them."""

    batch = 32
    rate = 2e-3

    def __init__(self, units: int, bins: int, d: int, width: int, dropout: float) -> None:
        super().__init__(units, bins, d, width, dropout)
        self.gru = nn.GRU(units, width, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * width, d)

    @staticmethod
    def windows(recording: BinnedSession, time: Tensor, bin: float, lags: int) -> BinnedWindows:
        """Twice `lags` bins each; their middle halves lie end to end and hold the samples."""
        length = lags * bin * TICKS
        origin = int(recording.domain.start.min())
        number, owner, held = torch.unique_consecutive(
            ((time - origin) / length).long(), return_inverse=True, return_counts=True
        )
        middle = origin + ((number + 0.5) * length).long()
        most = int(held.max()) if len(held) else 0
        inside = torch.arange(most, device=time.device) < held[:, None]
        place = (time - middle[owner]) / (bin * TICKS) + lags - 0.5
        laid = torch.zeros(inside.shape, device=time.device).masked_scatter_(inside, place.float())
        return BinnedWindows(_counts(recording, middle, bin, 2 * lags), laid, inside)

    def forward(self, x: Tensor, place: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        first, second = (None, None) if dropout_keys is None else dropout_keys.unbind(0)
        hidden, _ = self.gru(drop(x.transpose(1, 2), self.dropout, first))
        guess = self.readout(drop(hidden, self.dropout, second))
        left = place.floor().clamp(0, guess.shape[1] - 2)
        rows = left.long()[..., None].expand(-1, -1, guess.shape[-1])
        return guess.gather(1, rows).lerp(guess.gather(1, rows + 1), (place - left)[..., None])


def _counts(recording: BinnedSession, middle: Tensor, bin: float, bins: int) -> Tensor:
    parts = [counts(part, recording.units, bin, bins).short() for part in middle.split(ROWS)]
    return torch.cat(parts)
