"""Confidence intervals of scores, from a bootstrap over whole trials.

Samples of one trial resemble each other. Resampling them one by one would give intervals that are
far too narrow, so whole trials are drawn, or blocks of time where there are no trials.

How an interval is made (Efron & Tibshirani 1993, *An Introduction to the Bootstrap*, chapters 10
and 13): percentiles of the resampled scores, less the bias that the bootstrap shows. A resample
holds fewer different trials, so its R² is lower by about (1 - R²) / trials; without the correction,
the mean over many sessions would lie outside its own interval.

The bias is the mean difference on a scale of the metric without heavy tails: log(1 - R²),
log(RMSE), Fisher's z of a correlation. On the scale of R² itself it would fail. If the animal
rests in most blocks, some resamples have hardly any variance to explain, their R² is near minus
infinity, and so is the mean.

The choice follows from a simulation (`tests/model/evaluation/test_bootstrap.py` repeats it for this
method): reaches in 10, 25 or 60 blocks, with rest in a share of the blocks. Intervals should hold
the true R² in 95 % of recordings. They did in this share of them:

    method                     no rest    50 % rest  80 % rest  sizes vary  mean of 8, 50 % rest
    this one                   91 to 94   91 to 95   86 to 96   77 to 90    95
    bias of R² itself          93 to 95   73 to 96   70 to 99   89 to 92    80
    percentiles, no bias       89 to 94   83 to 95   75 to 93   72 to 88    54
    median's bias              91 to 94   88 to 95   78 to 94   79 to 90    94
    BC                         90 to 94   85 to 95   75 to 94   75 to 90    78
    BCa                        91 to 94   87 to 95   77 to 97   77 to 90    not tried

"Sizes vary": no rest, but reaches whose sizes are log-normal with a deviation of 0.7. Few blocks
hold most of the variance then, and no method reaches 95 %. The bias of R² itself is the only one
whose intervals did not hold their own score, in up to 26 % of recordings.

An interval that says nothing is left out, with the reason (`Interval.missing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick_model.evaluation.metrics import (
    METRICS,
    Floats,
    Metric,
    Scores,
    behavior_columns,
    behavior_scores,
    class_columns,
    class_scores,
    mean_of,
)

RESAMPLES = 1000
CONFIDENCE = 0.95
MOST_UNDEFINED = 0.05  # share of resamples without a score, above which there is no interval
ROUNDING = 1e-9  # by which a score may lie outside its interval
DRAWS = 2**22  # draws of groups that are held in memory at once

ONE_GROUP = "there is only one trial or block to resample"
TOO_OFTEN_UNDEFINED = "too many resamples have no score, as nothing varies in them"
OUTSIDE = "the resampled scores do not surround the score"


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float = np.nan
    high: float = np.nan
    missing: str = ""  # why there is none; `low` and `high` are then NaN


@dataclass(frozen=True)
class Assessed:
    """The scores of one decoder, and the scores of resamples of the same samples."""

    samples: int  # how many were scored
    scores: Scores  # (), or (d,) by axis
    resampled: Scores  # (n,), or (n, d) by axis

    def record(self) -> dict[str, Any]:
        """Scores by key, below `ci95` their intervals, and below `missing` the reasons for scores
        and intervals that are NaN. `missing` is left out if there are none."""
        record: dict[str, Any] = {}
        intervals: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for key, value in self.scores.items():
            metric, resampled = METRICS[key], self.resampled[key]
            record[key] = value.tolist()
            columns = resampled.reshape(len(resampled), -1).T
            each = [interval(metric, *pair) for pair in zip(value.flat, columns, strict=True)]
            if metric.interval:
                bounds = np.array([(one.low, one.high) for one in each], dtype=np.float64)
                intervals[key] = bounds.reshape(*value.shape, 2).tolist()
                if reason := self._missing(metric, value, each):
                    missing[key] = reason
        return {**record, "ci95": intervals, **({"missing": missing} if missing else {})}

    def _missing(self, metric: Metric[Any], score: Floats, intervals: Sequence[Interval]) -> str:
        if not self.samples:
            return "no score: there is no sample"
        if not np.isfinite(score).all():
            return f"no score: {metric.undefined}"
        reasons = dict.fromkeys(one.missing for one in intervals if one.missing)
        return f"no interval: {', '.join(reasons)}" if reasons else ""


def assess(
    truth: Floats, guess: Floats, groups: NDArray[np.int64], seed: int | Sequence[int] = 0
) -> Assessed:
    """The scores of decoded samples `guess` (m, d) against `truth` (m, d), and of resamples of
    their groups (m,)."""
    columns = behavior_columns(truth, guess)
    sums = resampled_sums(columns, groups, RESAMPLES, seed)
    return Assessed(len(truth), behavior_scores(columns.sum(0)), behavior_scores(sums))


def assess_classes(
    truth: NDArray[np.int64],
    right: NDArray[np.bool_],
    groups: NDArray[np.int64],
    seed: int | Sequence[int] = 0,
) -> Assessed:
    """The same for classified samples: their classes `truth` (m,), and whether the likeliest class
    is the true one, `right` (m,)."""
    columns = class_columns(truth, right)
    sums = resampled_sums(columns, groups, RESAMPLES, seed)
    return Assessed(len(truth), class_scores(columns.sum(0)), class_scores(sums))


def bootstrap(
    truth: Floats,
    guess: Floats,
    groups: NDArray[np.int64],
    n: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Scores:
    """Scores (n,) of resamples. Each draws as many whole groups as there are, with replacement.

    `groups` (m,) is the group of each sample, from 0 without gaps (see `trial_groups`). With fewer
    than two groups all scores are NaN. Decoders of the same samples and seed get the same
    resamples, so that they may be compared one resample at a time.
    """
    return behavior_scores(resampled_sums(behavior_columns(truth, guess), groups, n, seed))


def resampled_sums(
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


def mean(sessions: Sequence[Assessed]) -> Assessed:
    """The mean of each score over sessions; sessions whose score is NaN are left out.

    Resampling happens within sessions, not over them: the interval is about these sessions and says
    nothing about another one. A session of one trial cannot be resampled and keeps its score in
    every resample, which makes the interval a little too narrow. So does a session in the few
    resamples in which it has no score. If no session can be resampled, there is no interval.
    """
    scores, resampled = {}, {}
    for key in sessions[0].scores:
        each = np.stack([session.scores[key] for session in sessions])
        drawn = np.stack([session.resampled[key] for session in sessions])
        scored, defined = np.isfinite(each), np.isfinite(drawn)
        share = defined.mean(1)
        keeps = scored & (share.any(0) & (share == 0) | (share >= 1 - MOST_UNDEFINED))
        drawn = np.where(keeps[:, None] & ~defined, each[:, None], drawn)
        scores[key] = mean_of(each, scored, axis=0)
        resampled[key] = mean_of(drawn, np.broadcast_to(scored[:, None], drawn.shape), axis=0)
    return Assessed(sum(session.samples for session in sessions), scores, resampled)


def interval(metric: Metric[Any], score: float, resampled: Floats) -> Interval:
    """The 95 % interval of one score from its resamples (n,).

    There is none, and `missing` says why: with one group only; if more than 5 % of the resamples
    have no score; if the score lies outside; or if the interval is wider than `metric.widest` and
    holds the score of a decoder that knows nothing.
    """
    finite = resampled[np.isfinite(resampled)]
    if not np.isfinite(score) or not len(finite):
        return Interval(missing=ONE_GROUP)
    if len(finite) < (1 - MOST_UNDEFINED) * len(resampled):
        return Interval(missing=TOO_OFTEN_UNDEFINED)
    found = bias_corrected(metric, score, finite)
    slack = ROUNDING * max(1.0, abs(score))
    if not found.low - slack <= score <= found.high + slack:
        return Interval(missing=OUTSIDE)
    widest = metric.widest * (abs(score) if metric.relative else 1)
    blind = metric.null is None or found.low <= metric.null <= found.high
    if blind and found.high - found.low > widest:
        return Interval(missing=too_wide(metric))
    return found


def too_wide(metric: Metric[Any]) -> str:
    """The rule by which an interval of the metric says nothing, in words."""
    times = " times the score" if metric.relative else ""
    null = "" if metric.null is None else f" and hold {metric.null:g}"
    return f"it would be wider than {metric.widest:g}{times}{null}"


def bias_corrected(metric: Metric[Any], score: float, resampled: Floats) -> Interval:
    """Percentiles of finite resampled scores (n,), less their mean bias on the metric's scale."""
    tail = (1 - CONFIDENCE) / 2
    values = metric.scale.forward(resampled)
    bias = values.mean() - metric.scale.forward(np.array(score))
    bounds = metric.scale.backward(np.quantile(values, [tail, 1 - tail]) - bias)
    return Interval(float(bounds.min()), float(bounds.max()))


def trial_groups(time: Floats, trials: Floats, block: float) -> NDArray[np.int64]:
    """The group (m,), from 0 without gaps, with which each sample at `time` (m,) s is resampled.

    A sample's group is its trial, of `trials` (k, 2) s sorted by start; where trials overlap, the
    one that began last. Samples outside trials are grouped into blocks of `block` s, which should
    be longer than the errors are correlated.
    """
    start, stop = trials.T
    row = np.searchsorted(start, time, side="right") - 1
    inside = row >= 0
    inside[inside] = time[inside] < stop[row[inside]]
    elsewhere = np.floor(time / block).astype(np.int64)
    both = np.stack([inside, np.where(inside, row, elsewhere)], axis=1)
    groups: NDArray[np.int64] = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    return groups
