"""Training of a network of binned spikes: AdamW on the weighted squared error of the training
samples, until the validation error no longer falls.

Bin width, hidden width and dropout are those with the smallest validation error. They are tried one
after the other: every bin width with the first hidden width and dropout of the settings, then the
other hidden widths, then the other dropouts, each with the best so far. Everything random is a
function of the seed.

A long recording would take hours. So an epoch ends after `Network.epoch_steps` steps, on windows
drawn anew each time, and training after `Network.most_steps` steps.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from neurobrick_model.baselines.binned_spikes import BinnedSession, Guess, SessionSize
from neurobrick_model.baselines.networks import BinnedWindows, Network
from neurobrick_model.randomness import Purpose, keys, mix, step_key, uniform
from neurobrick_model.recipe.settings import BaselineSettings

EPOCHS = 100  # at most
PATIENCE = 8  # epochs without a smaller validation error
ROWS = 1024  # windows that are decoded at once, or from which mean and deviation are taken
# Smallest deviation of a square-rooted count: a unit that hardly fires is not amplified.
LEAST = 0.1
SEEDING = threading.Lock()  # torch has one generator for all threads


@dataclass(frozen=True)
class Choice:
    """The settings that are tuned."""

    bin: float  # s
    hidden: int
    dropout: float


@dataclass(frozen=True)
class Fitted:
    """A trained network."""

    choice: Choice
    network: Network
    mean: Tensor  # (units, 1) of the square-rooted counts
    std: Tensor  # (units, 1)
    error: float = float("inf")  # squared error on the validation split

    def read(self, counts: Tensor) -> Tensor:
        """The network's input (w, units, b) float32, from counts (w, units, b)."""
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


def too_large(kind: type[Network], size: SessionSize, settings: BaselineSettings) -> str:
    """Training takes minutes for any session: its steps are bounded."""
    return ""


def bytes_needed(kind: type[Network], size: SessionSize, settings: BaselineSettings) -> int:
    """Memory that training takes, about: the counts of all windows, and those in work."""
    samples, bin = size.train + size.valid + size.reported, min(settings.bins)
    windows, bins = kind.window_shape(samples, size.seconds, bin, settings.lags)
    weights = 3 * size.units * (bins * max(settings.hidden) + 1)
    return size.units * bins * (2 * windows + 24 * ROWS) + 4 * 5 * weights


def shortened(kind: type[Network], size: SessionSize, settings: BaselineSettings) -> str:
    """What the bound on steps leaves out of training on a session; empty if nothing."""
    windows, _ = kind.window_shape(size.train, size.seconds, min(settings.bins), settings.lags)
    steps = -(-windows // kind.batch)
    if steps <= kind.epoch_steps:
        return ""
    return (
        f"an epoch over all of {size.id} would take up to {steps:,} steps; epochs end after "
        f"{kind.epoch_steps:,} steps, on other windows each time, and training after "
        f"{kind.most_steps:,} steps"
    )


def decode(
    kind: type[Network],
    recording: BinnedSession,
    settings: BaselineSettings,
    seed: int,
    tried: Callable[[], None] = lambda: None,
) -> Guess:
    """Decode the reported samples with the best network. `tried` is called for each network."""
    best = search(kind, recording, settings, seed, tried)
    windows = kind.windows(recording, recording.reported, best.choice.bin, settings.lags)
    return Guess(best.guess(windows), asdict(best.choice))


def search(
    kind: type[Network],
    recording: BinnedSession,
    settings: BaselineSettings,
    seed: int,
    tried: Callable[[], None] = lambda: None,
) -> Fitted:
    """The network with the smallest validation error."""

    def fits(choices: Iterable[Choice]) -> Iterator[Fitted]:
        for choice in choices:
            yield fit(kind, recording, choice, settings.lags, seed)
            tried()

    def better(*networks: Fitted) -> Fitted:
        return min(networks, key=lambda fitted: fitted.error)

    hidden, dropout = settings.hidden, settings.dropout
    best = better(*fits(Choice(bin, hidden[0], dropout[0]) for bin in settings.bins))
    best = better(best, *fits(replace(best.choice, hidden=width) for width in hidden[1:]))
    return better(best, *fits(replace(best.choice, dropout=rate) for rate in dropout[1:]))


def fit(
    kind: type[Network], recording: BinnedSession, choice: Choice, lags: int, seed: int
) -> Fitted:
    """Train one network."""
    train, valid = recording.train, recording.valid
    windows = kind.windows(recording, train.time, choice.bin, lags)
    valid_windows = kind.windows(recording, valid.time, choice.bin, lags)
    value, weight = windows.spread(train.value.float()), windows.spread(train.weight.float())
    weight /= weight.sum() / len(windows)
    sizes = (len(recording.units), windows.counts.shape[2], value.shape[2])
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(*sizes, choice.hidden, choice.dropout).to(value.device)
    best = now = Fitted(choice, network, *_moments(windows))
    optimizer = torch.optim.AdamW(network.parameters(), kind.rate)
    waited = steps = 0
    for epoch in range(EPOCHS):
        key = step_key(seed, epoch)
        at_most = min(kind.epoch_steps, kind.most_steps - steps)
        for rows in _order(key, len(windows), value.device).split(kind.batch)[:at_most]:
            steps += 1
            guess = network(
                now.read(windows.counts[rows]), windows.place[rows], _dropout_keys(key, rows)
            )
            error = (guess - value[rows]).square() * weight[rows][..., None]
            (error.sum() / len(rows)).backward()
            optimizer.step()
            optimizer.zero_grad()
        error = valid.error(now.guess(valid_windows))
        waited += 1
        if error <= best.error:
            best, waited = replace(now, network=copy.deepcopy(network), error=error), 0
        if waited == PATIENCE or steps == kind.most_steps:
            break
    return best


def _moments(windows: BinnedWindows) -> tuple[Tensor, Tensor]:
    """Mean and deviation (units, 1) of square-rooted counts, from evenly spread windows."""
    some = windows.counts[:: max(1, len(windows) // ROWS)].float().sqrt()
    std, mean = torch.std_mean(some, dim=(0, 2), correction=0)
    return mean[:, None], std.clamp(min=LEAST)[:, None]


def _order(key: int, n: int, device: torch.device) -> Tensor:
    """The windows of an epoch, shuffled."""
    windows = torch.arange(n, device=device)
    return uniform(keys(key, Purpose.WINDOW_PLACE, windows))[:, 0].argsort()


def _dropout_keys(key: int, rows: Tensor) -> Tensor:
    """Dropout keys (2, w) int32 of windows `rows` (w,): one for each layer that drops."""
    sites = torch.arange(1, 3, device=rows.device)[:, None]
    return mix(keys(key, Purpose.DROPOUT, rows) + sites).to(torch.int32)
