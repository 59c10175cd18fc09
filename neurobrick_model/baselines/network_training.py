"""How a network of binned spikes is trained: by AdamW on the weighted squared error of the training
samples, until the validation split is decoded no better for a while.

Bin, width and dropout are those that validate best, tried one after the other: every bin with the
first width and dropout of the settings, then the other widths, then the other dropouts, each with
the best so far. Everything random is a function of the seed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess
from neurobrick_model.baselines.networks import BinnedWindows, Network
from neurobrick_model.randomness import Purpose, keys, mix, step_key, uniform
from neurobrick_model.recipe.settings import BaselineSettings

EPOCHS = 100  # at most
PATIENCE = 8  # epochs without a better validation
ROWS = 1024  # windows that are decoded, or looked at for their mean, at once
LEAST = 0.1  # deviation of a square-rooted count: a unit that hardly ever fires is not made loud
SEEDING = threading.Lock()  # torch has one generator for all threads


@dataclass(frozen=True)
class Choice:
    """What is tuned: seconds of a bin, hidden width, dropout."""

    bin: float
    hidden: int
    dropout: float


@dataclass(frozen=True)
class Fitted:
    """A trained network, mean and deviation (units, 1) of the square-rooted counts that it reads,
    and its squared error on the validation split."""

    choice: Choice
    network: Network
    mean: Tensor
    std: Tensor
    error: float = float("inf")

    def read(self, counts: Tensor) -> Tensor:
        """What the network is given of counts (w, units, b): (w, units, b) float32."""
        return (counts.float().sqrt() - self.mean) / self.std

    @torch.no_grad()
    def guess(self, windows: BinnedWindows) -> Tensor:
        """z-scored behavior (n, d) float64 at the samples of `windows`."""
        guesses = [self.mean.new_zeros(0, self.network.readout.out_features)]
        for first in range(0, len(windows), ROWS):
            rows = slice(first, first + ROWS)
            guess = self.network(self.read(windows.counts[rows]), windows.place[rows])
            guesses.append(guess[windows.inside[rows]])
        return torch.cat(guesses).double()


def decode(
    kind: type[Network], recording: BinnedSession, settings: BaselineSettings, seed: int
) -> Guess:
    """Decode the reported samples by the network that validates best."""
    best = search(kind, recording, settings, seed)
    windows = kind.windows(recording, recording.reported, best.choice.bin, settings.lags)
    return Guess(best.guess(windows), asdict(best.choice))


def search(
    kind: type[Network], recording: BinnedSession, settings: BaselineSettings, seed: int
) -> Fitted:
    """The network that validates best."""

    def tried(choices: Iterable[Choice]) -> Iterator[Fitted]:
        for choice in choices:
            yield fit(kind, recording, choice, settings.lags, seed)

    def better(*found: Fitted) -> Fitted:
        return min(found, key=lambda one: one.error)

    hidden, dropout = settings.hidden, settings.dropout
    best = better(*tried(Choice(bin, hidden[0], dropout[0]) for bin in settings.bins))
    best = better(best, *tried(replace(best.choice, hidden=width) for width in hidden[1:]))
    return better(best, *tried(replace(best.choice, dropout=rate) for rate in dropout[1:]))


def fit(
    kind: type[Network], recording: BinnedSession, choice: Choice, lags: int, seed: int
) -> Fitted:
    """Train one network."""
    train, valid = recording.train, recording.valid
    windows = kind.windows(recording, train.time, choice.bin, lags)
    held_out = kind.windows(recording, valid.time, choice.bin, lags)
    value, weight = windows.spread(train.value.float()), windows.spread(train.weight.float())
    weight /= weight.sum() / len(windows)
    sizes = (len(recording.units), windows.counts.shape[2], value.shape[2])
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(*sizes, choice.hidden, choice.dropout).to(value.device)
    best = now = Fitted(choice, network, *_moments(windows))
    optimizer = torch.optim.AdamW(network.parameters(), kind.rate)
    waited = 0
    for epoch in range(EPOCHS):
        key = step_key(seed, epoch)
        for rows in _order(key, len(windows), value.device).split(kind.batch):
            guess = network(now.read(windows.counts[rows]), windows.place[rows], _chance(key, rows))
            error = (guess - value[rows]).square() * weight[rows][..., None]
            (error.sum() / len(rows)).backward()
            optimizer.step()
            optimizer.zero_grad()
        error = valid.error(now.guess(held_out))
        waited += 1
        if error <= best.error:
            best, waited = replace(now, network=copy.deepcopy(network), error=error), 0
        if waited == PATIENCE:
            break
    return best


def _moments(windows: BinnedWindows) -> tuple[Tensor, Tensor]:
    """Mean and deviation (units, 1) of square-rooted counts, of windows spread over all."""
    some = windows.counts[:: max(1, len(windows) // ROWS)].float().sqrt()
    std, mean = torch.std_mean(some, dim=(0, 2), correction=0)
    return mean[:, None], std.clamp(min=LEAST)[:, None]


def _order(key: int, n: int, device: torch.device) -> Tensor:
    """The windows of an epoch, shuffled."""
    windows = torch.arange(n, device=device)
    return uniform(keys(key, Purpose.WINDOW_PLACE, windows))[:, 0].argsort()


def _chance(key: int, rows: Tensor) -> Tensor:
    """Keys (2, w) int32 of the dropout in windows `rows` (w,)."""
    sites = torch.arange(1, 3, device=rows.device)[:, None]
    return mix(keys(key, Purpose.DROPOUT, rows) + sites).to(torch.int32)
