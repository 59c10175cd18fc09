"""Metrics: how near decoded behavior is to recorded behavior.

One table, `BEHAVIOR`, lists the metrics of continuous behavior; another, `CLASSES`, those of
discrete behavior. `metrics.json`, the report and the model card follow these tables, so that a new
entry is computed, given a confidence interval and shown.

Every metric is computed from sums over samples. The sums of a set of trials are the sums of its
trials' sums, which makes resampling trials cheap (see `bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = dict[str, Floats]  # by key of a metric: (...,) or, by axis, (..., d)

# If variance / mean square is below this, the axis is treated as constant.
CONSTANT = 1e-12
TINY = 1e-12  # keeps logarithms finite


@dataclass(frozen=True)
class Sums:
    """Sums over the samples of one set of samples, where `...` is empty, or of many sets."""

    n: Floats  # (..., 1), number of samples
    truth: Floats  # (..., d), of recorded values
    guess: Floats  # (..., d), of decoded values
    truth_squares: Floats  # (..., d)
    guess_squares: Floats  # (..., d)
    products: Floats  # (..., d), of recorded times decoded
    error_squares: Floats  # (..., d), of squared differences

    @classmethod
    def of(cls, columns: Floats) -> Sums:
        """From the sums (..., 1 + 6 d) of `behavior_columns`."""
        return cls(columns[..., :1], *np.split(columns[..., 1:], 6, axis=-1))

    @property
    def truth_variation(self) -> Floats:
        """(..., d) sum of squares of recorded values about their mean."""
        return _variation(self.truth_squares, self.truth, self.n)

    @property
    def guess_variation(self) -> Floats:
        """(..., d) sum of squares of decoded values about their mean."""
        return _variation(self.guess_squares, self.guess, self.n)


@dataclass(frozen=True)
class ClassSums:
    """Counts over the classified samples of one set of samples, or of many sets."""

    n: Floats  # (...,), number of samples
    right: Floats  # (...,), samples whose likeliest class is the true one
    classes: Floats  # (..., classes), samples of each class

    @classmethod
    def of(cls, columns: Floats) -> ClassSums:
        """From the sums (..., 2 + classes) of `class_columns`."""
        return cls(columns[..., 0], columns[..., 1], columns[..., 2:])


@dataclass(frozen=True)
class Scale:
    """A scale on which a score is spread more evenly than on its own."""

    forward: Callable[[Floats], Floats]
    backward: Callable[[Floats], Floats]


# 1 - R² is a ratio of two sums of squares: its logarithm has no heavy tail.
LOG_UNEXPLAINED = Scale(lambda r2: np.log(np.maximum(1 - r2, TINY)), lambda x: 1 - np.exp(x))
LOG = Scale(lambda value: np.log(np.maximum(value, TINY)), np.exp)
FISHER_Z = Scale(lambda r: np.arctanh(np.clip(r, TINY - 1, 1 - TINY)), np.tanh)
SHARE = Scale(lambda value: value, lambda value: np.clip(value, 0, 1))


class Shown(Enum):
    """Where the report shows a metric."""

    SESSIONS = "in the table of sessions, beside the number of trials"
    DETAILS = "in a second table of sessions, folded away"
    AXES = "in a table of axes, folded away"
    NOWHERE = "in metrics.json only"


S = TypeVar("S", Sums, ClassSums)


@dataclass(frozen=True)
class Metric(Generic[S]):
    """One number, or one number an axis, that says how well behavior is decoded."""

    key: str  # its name in metrics.json
    label: str  # its name in the report
    of: Callable[[S], Floats]  # the score (...,) or, by axis, (..., d)
    _: KW_ONLY
    shown: Shown
    undefined: str  # why samples may have no such score
    scale: Scale  # on which the bootstrap measures its bias
    widest: float = np.inf  # an interval wider than this says nothing, if it holds `null`
    relative: bool = False  # `widest` is a multiple of the score
    null: float | None = None  # the score of a decoder that knows nothing; None: any
    interval: bool = True  # whether it has a confidence interval
    significant: bool = False  # written with three significant digits, not three decimals
    in_unit: bool = False  # has the unit of the behavior

    def text(self, value: float | None) -> str:
        """The score as the report writes it; "–" for NaN."""
        if value is None or value != value:
            return "–"
        return f"{value:#.3g}" if self.significant else f"{value:.3f}"

    def heading(self, unit: str) -> str:
        """The label with the behavior's unit, if the metric has it."""
        return f"{self.label} ({unit})" if self.in_unit else self.label


def r2(sums: Sums) -> Floats:
    """Coefficient of determination (...,), axes weighted by their variance."""
    total = sums.truth_variation.sum(-1)
    return np.where(total > 0, 1 - sums.error_squares.sum(-1) / total, np.nan)


def r2_by_axis(sums: Sums) -> Floats:
    """Coefficient of determination (..., d) of each axis."""
    total = sums.truth_variation
    return np.where(total > 0, 1 - sums.error_squares / total, np.nan)


def rmse(sums: Sums) -> Floats:
    """Root mean square (...,) of the length of the error vector, in the behavior's unit."""
    return np.sqrt(sums.error_squares.sum(-1) / sums.n[..., 0])


def rmse_by_axis(sums: Sums) -> Floats:
    """Root mean square (..., d) of the error of each axis, in the behavior's unit."""
    return np.sqrt(sums.error_squares / sums.n)


def correlation(sums: Sums) -> Floats:
    """Mean (...,) over axes of Pearson's correlation; constant axes are left out."""
    varying = (sums.truth_variation > 0) & (sums.guess_variation > 0)
    return mean_of(correlation_by_axis(sums), varying, axis=-1)


def correlation_by_axis(sums: Sums) -> Floats:
    """Pearson's correlation (..., d) of each axis."""
    recorded, decoded = sums.truth_variation, sums.guess_variation
    shared = sums.products - sums.truth * sums.guess / sums.n
    varying = (recorded > 0) & (decoded > 0)
    return np.where(varying, shared / np.sqrt(recorded * decoded), np.nan)


def accuracy(sums: ClassSums) -> Floats:
    """Share (...,) of samples whose likeliest class is the true one."""
    return sums.right / sums.n


def most_frequent_class(sums: ClassSums) -> Floats:
    """Accuracy (...,) of always predicting the most frequent class."""
    return sums.classes.max(-1, initial=0) / sums.n


EMPTY = "there is no sample"
# An interval of R² says nothing if it is wider than from predicting the mean (0) to perfect (1)
# and holds 0. An interval from -4 to -1 is wide too, but says that the decoder fails.
BEHAVIOR: tuple[Metric[Sums], ...] = (
    Metric(
        "r2",
        "R²",
        r2,
        shown=Shown.SESSIONS,
        undefined="the recorded behavior is constant in what is scored",
        scale=LOG_UNEXPLAINED,
        widest=1,
        null=0,
    ),
    Metric(
        "axes",
        "R²",
        r2_by_axis,
        shown=Shown.AXES,
        undefined="an axis of the recorded behavior is constant in what is scored",
        scale=LOG_UNEXPLAINED,
        widest=1,
        null=0,
    ),
    Metric(
        "rmse",
        "RMSE",
        rmse,
        shown=Shown.DETAILS,
        undefined=EMPTY,
        scale=LOG,
        widest=2,
        relative=True,
        significant=True,
        in_unit=True,
    ),
    Metric(
        "rmse_axes",
        "RMSE",
        rmse_by_axis,
        shown=Shown.NOWHERE,
        undefined=EMPTY,
        scale=LOG,
        widest=2,
        relative=True,
        significant=True,
        in_unit=True,
    ),
    Metric(
        "correlation",
        "correlation",
        correlation,
        shown=Shown.DETAILS,
        undefined="the recorded or the decoded behavior is constant in what is scored",
        scale=FISHER_Z,
        widest=1,
        null=0,
    ),
    Metric(
        "correlation_axes",
        "correlation",
        correlation_by_axis,
        shown=Shown.NOWHERE,
        undefined="an axis of the recorded or decoded behavior is constant in what is scored",
        scale=FISHER_Z,
        widest=1,
        null=0,
    ),
)
CLASSES: tuple[Metric[ClassSums], ...] = (
    Metric("accuracy", "accuracy", accuracy, shown=Shown.SESSIONS, undefined=EMPTY, scale=SHARE),
    Metric(
        "guessing",
        "most frequent class",
        most_frequent_class,
        shown=Shown.SESSIONS,
        undefined=EMPTY,
        scale=SHARE,
        interval=False,
    ),
)
ALL: tuple[Metric[Any], ...] = (*BEHAVIOR, *CLASSES)
METRICS = {metric.key: metric for metric in ALL}


def shown(where: Shown) -> list[Metric[Sums]]:
    """The metrics of continuous behavior that the report shows there, in the table's order."""
    return [metric for metric in BEHAVIOR if metric.shown is where]


def score(truth: Floats, guess: Floats) -> Scores:
    """Every metric of decoded values `guess` (n, d) against recorded `truth` (n, d), both in SI."""
    return behavior_scores(behavior_columns(truth, guess).sum(0))


def score_classes(truth: NDArray[np.int64], right: NDArray[np.bool_]) -> Scores:
    """Every metric of classified samples: `truth` (n,), rows of classes, negative for a class that
    training has not seen; `right` (n,), whether the likeliest class is the true one."""
    return class_scores(class_columns(truth, right).sum(0))


def behavior_scores(sums: Floats) -> Scores:
    """Every metric, from sums (..., 1 + 6 d) of `behavior_columns`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {metric.key: metric.of(Sums.of(sums)) for metric in BEHAVIOR}


def class_scores(sums: Floats) -> Scores:
    """Every metric, from sums (..., 2 + classes) of `class_columns`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {metric.key: metric.of(ClassSums.of(sums)) for metric in CLASSES}


def behavior_columns(truth: Floats, guess: Floats) -> Floats:
    """What is summed over samples (n, 1 + 6 d): 1, y, p, y², p², y p and (y - p)².

    Means are subtracted first: squares of values far from zero would drown what varies.
    """
    y, p = (x - x.sum(0) / max(len(x), 1) for x in (truth, guess))
    ones = np.ones((len(truth), 1))
    return np.concatenate([ones, y, p, y * y, p * p, y * p, (truth - guess) ** 2], axis=1)


def class_columns(truth: NDArray[np.int64], right: NDArray[np.bool_]) -> Floats:
    """What is summed over samples (n, 2 + classes): 1, whether it is right, and its class."""
    classes = np.arange(truth.max(initial=-1) + 1)
    ones = np.ones((len(truth), 1))
    return np.concatenate([ones, right[:, None], truth[:, None] == classes], axis=1)


class Scored(Protocol):
    """One session's decoded samples."""

    @property
    def r2(self) -> float:
        """Variance-weighted R²."""
        ...


def mean_r2(decoded: Iterable[Scored]) -> float:
    """Mean over sessions of R². Sessions without a score are left out; NaN if none is left."""
    scores = [r2 for session in decoded if np.isfinite(r2 := session.r2)]
    return float(np.mean(scores)) if scores else float("nan")


def mean_of(values: Floats, kept: NDArray[np.bool_], axis: int) -> Floats:
    """Mean of the values that are `kept`, NaN where none is."""
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(kept, values, 0.0).sum(axis) / kept.sum(axis)
    return mean


def _variation(squares: Floats, sums: Floats, n: Floats) -> Floats:
    """Sum of squares about the mean; 0 where that is only rounding error."""
    about_mean = squares - sums * sums / n
    return np.where(about_mean > CONSTANT * squares, about_mean, 0.0)
