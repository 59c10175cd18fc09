"""Metrics: how near decoded behavior is to what was recorded, and how sure that is.

Every metric follows from sums over samples, so that those of a set of trials follow from the sums
of each. Confidence comes from the bootstrap over whole trials: the samples of one trial resemble
each other, and drawn one by one they would promise far too much. Its intervals are percentiles,
less the bias that the bootstrap itself shows (Efron & Tibshirani 1993, *An Introduction to the
Bootstrap*, chapters 10 and 13). Fewer different trials vary less, so that R² of resamples is
lower by about (1 - R²) / trials; a mean over many sessions would lie outside its own interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE = 0.95
STILL = 1e-12  # an axis with less than this share of its squares in its variance has but rounding
DRAWS = 2**22  # held at once


@dataclass(frozen=True)
class Scores:
    """Of one set of samples, where `...` is empty, or of many at once.

    `r2` (...,) is the coefficient of determination, axes weighted by their variance; `rmse` (...,)
    the root mean square of the length of the error, in SI; `correlation` (...,) the mean over axes
    of Pearson's. The others (..., d) are theirs by axis. An axis that does not move has neither R²
    nor correlation: NaN, and left out of the mean.
    """

    r2: Floats
    r2_axes: Floats
    rmse: Floats
    rmse_axes: Floats
    correlation: Floats
    correlation_axes: Floats


@dataclass(frozen=True)
class Hits:
    """Of one set of classified samples, or of many at once: `accuracy` (...,) is the share of them
    whose class is the true one."""

    accuracy: Floats


# What metrics.json calls what it does not call by its name.
NAMES = {"r2_axes": "axes"}

# What they cannot leave, as an interval less its bias may where trials are few.
LIMITS = {
    "r2": (-np.inf, 1.0),
    "rmse": (0.0, np.inf),
    "correlation": (-1.0, 1.0),
    "accuracy": (0.0, 1.0),
}

S = TypeVar("S", Scores, Hits)


@dataclass(frozen=True)
class Assessed(Generic[S]):
    """The `scores` of a decoder, and the same (n,) of the samples `redrawn` n times."""

    scores: S
    redrawn: S

    def record(self) -> dict[str, Any]:
        """Numbers and lists of them by name, and below `ci95` the interval of each."""
        record: dict[str, Any] = {}
        intervals = {}
        for name in _names(self.scores):
            score, told = getattr(self.scores, name), NAMES.get(name, name)
            record[told] = score.tolist()
            bounds = interval(score, getattr(self.redrawn, name))
            intervals[told] = bounds.clip(*LIMITS[name.removesuffix("_axes")]).tolist()
        return {**record, "ci95": intervals}


def score(truth: Floats, guess: Floats) -> Scores:
    """The scores of decoded values `guess` (n, d) against `truth` (n, d), both in SI."""
    return _scores(_columns(truth, guess).sum(0))


def bootstrap(
    truth: Floats,
    guess: Floats,
    groups: NDArray[np.int64],
    n: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Scores:
    """Scores (n,) of resamples, each of as many whole groups as there are, drawn with replacement.

    `groups` (m,) is the number of each sample's, from 0 without gaps, as `trial_groups` gives them.
    One group, or none, says nothing of how groups differ: all is NaN. Decoders of the same samples
    and seed are given the same resamples, and so may be compared one resample at a time.
    """
    return _scores(_redrawn(_columns(truth, guess), groups, n, seed))


def assess(
    truth: Floats, guess: Floats, groups: NDArray[np.int64], seed: int | Sequence[int] = 0
) -> Assessed[Scores]:
    """The scores of (m, d) decoded samples, and those of resamples of their groups (m,)."""
    return Assessed(score(truth, guess), bootstrap(truth, guess, groups, seed=seed))


def assess_classes(
    right: NDArray[np.bool_], groups: NDArray[np.int64], seed: int | Sequence[int] = 0
) -> Assessed[Hits]:
    """The same of classified samples, of which those `right` (m,) were given their class."""
    columns = np.stack([np.ones(len(right)), right.astype(np.float64)], axis=1)
    return Assessed(_hits(columns.sum(0)), _hits(_redrawn(columns, groups, RESAMPLES, seed)))


def mean(sessions: Sequence[Assessed[S]]) -> Assessed[S]:
    """The mean over sessions of each score, those left out where it is NaN.

    It is redrawn within the sessions, not over them: its interval is about these sessions, and says
    nothing of what another one would score. A session of one trial cannot be redrawn and is held at
    its score, which makes the interval a little narrow; where none can be, there is none.
    """
    scores, redrawn = {}, {}
    kind = type(sessions[0].scores)
    for name in _names(sessions[0].scores):
        whole = np.stack([getattr(one.scores, name) for one in sessions])
        drawn = np.stack([getattr(one.redrawn, name) for one in sessions])
        there = np.isfinite(whole)
        varies = np.isfinite(drawn).any(1)
        held = there & ~varies & varies.any(0)
        drawn = np.where(held[:, None], whole[:, None], drawn)
        scores[name] = _mean(whole, there, axis=0)
        redrawn[name] = _mean(drawn, np.broadcast_to(there[:, None], drawn.shape), axis=0)
    return Assessed(kind(**scores), kind(**redrawn))


def interval(score: Floats, redrawn: Floats) -> Floats:
    """The 95 % interval (..., 2) of a score (...) from those of resamples (n, ...), of which any
    that are not finite are left out."""
    tail = (1 - CONFIDENCE) / 2
    bounds = np.full((score.size, 2), np.nan)
    for row, values in enumerate(redrawn.reshape(len(redrawn), -1).T):
        finite = values[np.isfinite(values)]
        if len(finite):
            bias = finite.mean() - score.flat[row]
            bounds[row] = np.quantile(finite, [tail, 1 - tail]) - bias
    return bounds.reshape(*score.shape, 2)


def trial_groups(time: Floats, trials: Floats, block: float) -> NDArray[np.int64]:
    """What each of the samples at `time` (m,) s is resampled with, numbered from 0.

    That is its trial, of `trials` (k, 2) s sorted by start, and of those that overlap the one that
    began last. A sample in none goes with the others in none of its block, which is `block` s long
    and should outlast the correlation of the errors.
    """
    start, stop = trials.T
    row = np.searchsorted(start, time, side="right") - 1
    inside = row >= 0
    inside[inside] = time[inside] < stop[row[inside]]
    elsewhere = np.floor(time / block).astype(np.int64)
    both = np.stack([inside, np.where(inside, row, elsewhere)], axis=1)
    groups: NDArray[np.int64] = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    return groups


def _columns(truth: Floats, guess: Floats) -> Floats:
    """What is summed over samples (n, 1 + 6 d): 1, y, p, y², p², y p and (y - p)².

    Values are taken from their mean, as squares of a far one would drown what varies.
    """
    y, p = (x - x.sum(0) / max(len(x), 1) for x in (truth, guess))
    one = np.ones((len(truth), 1))
    return np.concatenate([one, y, p, y * y, p * p, y * p, (truth - guess) ** 2], axis=1)


def _redrawn(
    columns: Floats, groups: NDArray[np.int64], n: int, seed: int | Sequence[int]
) -> Floats:
    """Sums (n, k) of columns (m, k) over the samples of resampled groups."""
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        return np.full((n, columns.shape[1]), np.nan)
    sums = np.stack([np.bincount(groups, column, count) for column in columns.T], axis=1)
    random = np.random.default_rng(seed)
    most = max(1, DRAWS // count)
    resampled = []
    for first in range(0, n, most):
        rows = min(most, n - first)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        resampled.append(times.astype(np.float64) @ sums)
    return np.concatenate(resampled)


def _scores(sums: Floats) -> Scores:
    """From the sums (..., 1 + 6 d) of `_columns`."""
    n = sums[..., :1]
    y, p, yy, pp, yp, ee = np.split(sums[..., 1:], 6, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        total, spread = _varying(yy, y, n), _varying(pp, p, n)
        r2_axes = np.where(total > 0, 1 - ee / total, np.nan)
        whole = total.sum(-1)
        r2 = np.where(whole > 0, 1 - ee.sum(-1) / whole, np.nan)
        moves = (total > 0) & (spread > 0)
        correlation = np.where(moves, (yp - y * p / n) / np.sqrt(total * spread), np.nan)
        return Scores(
            r2=r2,
            r2_axes=r2_axes,
            rmse=np.sqrt(ee.sum(-1) / n[..., 0]),
            rmse_axes=np.sqrt(ee / n),
            correlation=_mean(correlation, moves, axis=-1),
            correlation_axes=correlation,
        )


def _hits(sums: Floats) -> Hits:
    """From the sums (..., 2) of samples and of those that are right."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Hits(sums[..., 1] / sums[..., 0])


def _names(scores: Scores | Hits) -> list[str]:
    return [field.name for field in fields(scores)]


def _varying(squares: Floats, sums: Floats, n: Floats) -> Floats:
    """The sum of squares about the mean; 0 where that is rounding."""
    about_mean = squares - sums * sums / n
    return np.where(about_mean > STILL * squares, about_mean, 0.0)


def _mean(values: Floats, kept: NDArray[np.bool_], axis: int) -> Floats:
    """The mean of those that are kept, NaN of none."""
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(kept, values, 0.0).sum(axis) / kept.sum(axis)
    return mean
