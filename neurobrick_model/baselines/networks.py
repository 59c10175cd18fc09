"""Networks of binned spikes: an MLP and a bidirectional GRU, after Glaser et al. 2020 (*Machine
learning for neural decoding*, eNeuro 7).

Both read z-scored square roots of counts before and after a sample, as the decoder does. The MLP
reads the bins around one sample, as the ridge decoder does. The GRU runs in both directions over
twice as many bins and decodes all samples in their middle half, so that each sample has at least
the bins of the MLP around it.
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
    """Windows of b bins. From each, at most k samples are decoded."""

    counts: Tensor  # (w, units, b) int16
    place: Tensor  # (w, k) float32, where a sample lies: bins from the middle of the first bin
    inside: Tensor  # (w, k) bool, false where a window has fewer than k samples

    def __len__(self) -> int:
        return len(self.counts)

    def spread(self, samples: Tensor) -> Tensor:
        """Values of samples (n, …) by window: (w, k, …), 0 where a window has fewer samples."""
        laid = samples.new_zeros(*self.inside.shape, *samples.shape[1:])
        laid[self.inside] = samples
        return laid


class Network(nn.Module):
    """What MLP and GRU have in common.

    `forward` maps x (w, units, b), places (w, k) and dropout keys (2, w) to behavior (w, k, d).
    Without keys nothing is dropped.
    """

    batch: ClassVar[int]  # windows a step
    rate: ClassVar[float]  # learning rate
    epoch_steps: ClassVar[int]  # steps an epoch, at most
    most_steps: ClassVar[int]  # steps of training, at most
    readout: nn.Linear

    def __init__(self, units: int, bins: int, d: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    @staticmethod
    def windows(recording: BinnedSession, time: Tensor, bin: float, lags: int) -> BinnedWindows:
        """The windows of the samples at sorted `time` (n,) ticks, in the same order."""
        raise NotImplementedError

    @staticmethod
    def window_shape(samples: int, seconds: float, bin: float, lags: int) -> tuple[int, int]:
        """How many windows a session of that many samples and seconds has at most, and how many
        bins each of them."""
        raise NotImplementedError


class MLP(Network):
    """Two hidden layers over all bins around a sample."""

    batch = 256
    rate = 1e-3
    epoch_steps = 500
    most_steps = 10_000

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

    @staticmethod
    def window_shape(samples: int, seconds: float, bin: float, lags: int) -> tuple[int, int]:
        return samples, lags

    def forward(self, x: Tensor, place: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        first, second = (None, None) if dropout_keys is None else dropout_keys.unbind(0)
        hidden = drop(self.first(x.flatten(1)).relu(), self.dropout, first)
        hidden = drop(self.second(hidden).relu(), self.dropout, second)
        return self.readout(hidden)[:, None]


class GRU(Network):
    """One layer in each direction over all bins, interpolated to the samples' places."""

    batch = 32
    rate = 2e-3
    epoch_steps = 200
    most_steps = 4_000

    def __init__(self, units: int, bins: int, d: int, width: int, dropout: float) -> None:
        super().__init__(units, bins, d, width, dropout)
        self.gru = nn.GRU(units, width, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * width, d)

    @staticmethod
    def windows(recording: BinnedSession, time: Tensor, bin: float, lags: int) -> BinnedWindows:
        """Windows of twice `lags` bins. Their middle halves lie end to end and hold the samples."""
        length = lags * bin * TICKS
        origin = int(recording.domain.start.min())
        number, owner, n_samples = torch.unique_consecutive(
            ((time - origin) / length).long(), return_inverse=True, return_counts=True
        )
        middle = origin + ((number + 0.5) * length).long()
        most = int(n_samples.max()) if len(n_samples) else 0
        inside = torch.arange(most, device=time.device) < n_samples[:, None]
        place = (time - middle[owner]) / (bin * TICKS) + lags - 0.5
        laid = torch.zeros(inside.shape, device=time.device).masked_scatter_(inside, place.float())
        return BinnedWindows(_counts(recording, middle, bin, 2 * lags), laid, inside)

    @staticmethod
    def window_shape(samples: int, seconds: float, bin: float, lags: int) -> tuple[int, int]:
        return min(samples, int(seconds / (lags * bin)) + 2), 2 * lags

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
