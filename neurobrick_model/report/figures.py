"""Figures of a report, drawn by matplotlib and returned as SVG to be put into a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from neurobrick_model.report.embedding_maps import Map
from neurobrick_model.report.label_efficiency import Curve

if TYPE_CHECKING:  # which loads torch
    from neurobrick_model.evaluation.decoded import Decoded

TRUTH, DECODER, RIDGE = "#1f2430", "#2463eb", "#e08a1e"
# The name and the color of each decoder.
LABELS = {"decoder": "decoder", "ridge": "ridge", "kalman": "Kalman", "mlp": "MLP", "gru": "GRU"}
INKS = {
    "decoder": DECODER,
    "ridge": RIDGE,
    "kalman": "#009e73",
    "mlp": "#cc79a7",
    "gru": "#a63a00",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neurobrick",
    "text.parse_math": False,  # a session's name may hold $
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3b2",
    "axes.labelcolor": "#3b4252",
    "xtick.color": "#5b6475",
    "ytick.color": "#5b6475",
    "axes.grid": True,
    "grid.color": "#e8ebf0",
    "axes.axisbelow": True,
}
# Okabe & Ito 2008: color-blind readers can distinguish them too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#1f2430")
MARKERS = "os^"  # names with the same color have different markers
BASELINE = "#7d8697"
NEAR = 1.15  # amounts of labels with a smaller ratio share a tick
LEAST_R2 = -0.5  # the lowest that is drawn against labels
LOWEST_BAR = -1e3  # an interval ends here at the latest
MOST_MARKS = 2000  # points that are drawn as vectors; more are drawn as a picture
MOST_NAMES = 12  # in a legend
MARGIN = 0.03  # of R², left of the lowest
MOST_PATHS = 80  # movements in a figure
SPREAD = 0.22  # largest distance of a decoder from the middle of its row, in rows
PATH_SECONDS = 2.0  # longest stretch over which a velocity is integrated
LEAST_SECONDS = 0.2  # shortest movement
ONSET = 0.1  # share of the highest speed above which there is movement


@rc_context(STYLE)
def scores(sessions: Sequence[Mapping[str, Any]], baselines: Sequence[str]) -> str:
    """R² of the decoder and of each of `baselines`, with 95 % intervals, one row a session."""
    figure = _figure(8.6, 1.1 + max(0.32, 0.14 * (1 + len(baselines))) * len(sessions))
    axes = figure.subplots()
    rows = np.arange(len(sessions))[::-1]
    scored = {name: [s["baselines"][name] for s in sessions] for name in baselines}
    scored["decoder"] = [s["decoder"] for s in sessions]
    r2 = {name: [_number(scores["r2"]) for scores in each] for name, each in scored.items()}
    every = np.array(list(r2.values()))
    shifts = np.linspace(SPREAD, -SPREAD, len(scored))  # so that intervals do not overlap
    if len(scored) == 1:
        shifts = np.zeros(1)
    for (name, values), shift in zip(r2.items(), shifts, strict=True):
        bounds = [scores["ci95"]["r2"] for scores in scored[name]]
        low, high = np.array(bounds, dtype=np.float64).clip(LOWEST_BAR, None).T
        axes.hlines(rows + shift, low, high, color=INKS[name], lw=1.3)
        axes.scatter(values, rows + shift, s=30, color=INKS[name], label=LABELS[name], zorder=3)
    axes.set_yticks(rows, [s["id"].rpartition("/")[2] for s in sessions])
    axes.set_ylim(-0.7, len(sessions) - 0.3)
    axes.set_xlim(min([0.0, *(every[np.isfinite(every)] - MARGIN)]), 1.0)
    axes.set_xlabel("R² on the test split, variance-weighted over axes; lines: 95 % intervals")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(r2), frameon=False)
    return _svg(figure)


@rc_context(STYLE)
def traces(
    decoded: Decoded,
    baseline: tuple[str, Decoded] | None,
    names: Sequence[str],
    target: str,
    unit: str,
    seconds: float,
) -> str:
    """Recorded and decoded behavior over `seconds` of scored samples, one panel for each of the
    axes `names`; `baseline` is the name of another decoder and what it decodes."""
    rows, time = _stretch(decoded.time, seconds)
    breaks = _breaks(decoded.time[rows])
    lines = [
        (decoded.truth, TRUTH, "recorded", 1.6),
        (decoded.guess, DECODER, "decoder", 1.4),
    ]
    if baseline:
        name, other = baseline
        lines.insert(0, (other.guess, INKS[name], LABELS[name], 1.0))
    figure = _figure(8.6, 0.8 + 1.5 * len(names))
    for axis, (panel, axis_name) in enumerate(
        zip(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], names, strict=True)
    ):
        for values, color, label, width in lines:
            shown = np.insert(values[rows, axis], breaks, np.nan)
            panel.plot(np.insert(time, breaks, np.nan), shown, color=color, lw=width, label=label)
        panel.set_ylabel(f"{target} {axis_name}\n({unit})")
        panel.grid(axis="x", visible=False)
        panel.margins(x=0.01)
        if len(breaks) <= len(time) / 20:
            for edge in time[breaks]:
                panel.axvline(edge, color="#cfd5df", lw=0.8, ls=":")
    panel.set_xlabel("scored test time (s); gaps between scored stretches are cut out")
    figure.axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    return _svg(figure)


@rc_context(STYLE)
def movements(decoded: Decoded, names: Sequence[str], target: str, unit: str) -> str:
    """Recorded and decoded movements in the plane, each from where the recorded one starts; a
    velocity is integrated. The color is the direction of the recorded movement."""
    velocity = unit.endswith("/s")
    truth, guess = decoded.truth[:, :2], decoded.guess[:, :2]
    motion = truth if velocity else np.gradient(truth, decoded.time, axis=0)
    pieces = _movements(decoded.time, np.hypot(*motion.T))
    figure = _figure(8.6, 4.8)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    drawn: list[NDArray[np.float64]] = []
    for piece in pieces[:: -(-len(pieces) // MOST_PATHS)] if pieces else []:
        if velocity:
            moved = [np.cumsum(x[piece] * _period(decoded.time), axis=0) for x in (truth, guess)]
        else:
            moved = [x[piece] - truth[piece][0] for x in (truth, guess)]
        drawn += moved
        color = _direction_color(*moved[0][-1])
        for panel, path in zip(panels, moved, strict=True):
            panel.plot(path[:, 0], path[:, 1], color=color, lw=1.1, alpha=0.8)
            panel.plot(*path[-1], "o", color=color, ms=3)
    furthest = max((np.abs(path).max() for path in drawn), default=1.0)
    for panel, title in zip(panels, ("recorded", "decoded"), strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_aspect("equal")
        panel.set_xlim(-1.05 * furthest, 1.05 * furthest)
        panel.set_ylim(-1.05 * furthest, 1.05 * furthest)
        panel.locator_params(nbins=5)
        panel.set_xlabel(_path_label(names[0], target, unit))
    panels[0].set_ylabel(_path_label(names[1], target, unit))
    return _svg(figure)


@rc_context(STYLE)
def curves(log: Sequence[Mapping[str, float]]) -> str:
    """Training loss and validation R² over steps."""
    figure = _figure(8.6, 2.9)
    left, right = figure.subplots(1, 2)
    loss = [(r["step"], r["loss"]) for r in log if "loss" in r]
    valid = [(r["step"], _number(r["valid_r2"])) for r in log if "valid_r2" in r]
    _line(left, loss, RIDGE, "training loss\n(weighted MSE of z-scores)")
    _line(right, valid, DECODER, "validation R²", marker="o")
    left.set_yscale("log")
    left.yaxis.set_major_formatter(_PlainLogFormatter())
    left.yaxis.set_minor_formatter(_PlainLogFormatter(labelOnlyBase=False))
    return _svg(figure)


@rc_context(STYLE)
def efficiency(curves: Sequence[Curve]) -> str:
    """R² against seconds of labels: the mean over sessions as a line, its range over seeds as bars,
    single sessions as faint lines; baselines are dashed."""
    figure = _figure(8.6, 4.6)
    axes = figure.subplots()
    ways = [curve for curve in curves if not curve.baseline]
    baselines = [curve for curve in curves if curve.baseline]
    for curve, color in zip(ways, cycle(COLORS)):
        for session in curve.sessions.values():
            axes.plot(curve.seconds, session, ".-", color=color, lw=0.8, ms=4, alpha=0.3)
        _curve(axes, curve, color, "o-")
    for curve, kind in zip(baselines, cycle(("s--", "^:", "D-.", "v--"))):
        _curve(axes, curve, BASELINE, kind)
    seconds = sorted({x for curve in curves for x in curve.seconds})
    ticks = [x for last, x in pairwise([0, *seconds]) if x > last * NEAR]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [_time(x) for x in ticks])
    axes.minorticks_off()
    lowest = min((y for curve in curves for y in curve.low if np.isfinite(y)), default=0.0)
    axes.set_ylim(max(min(0.0, lowest - 0.05), LEAST_R2), 1.0)
    axes.set_xlabel("labelled behavior of each session")
    axes.set_ylabel("test R², mean over sessions")
    figure.legend(loc="outside right upper", frameon=False)
    return _svg(figure)


def _curve(axes: Axes, curve: Curve, color: str, kind: str) -> None:
    axes.vlines(curve.seconds, curve.low, curve.high, color=color, lw=2.5, alpha=0.4)
    label = LABELS.get(curve.label, curve.label)
    axes.plot(curve.seconds, curve.mean, kind, color=color, lw=1.8, ms=5, label=label)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.3g} s"


@rc_context(STYLE)
def embeddings(maps: Sequence[Map]) -> str:
    """Maps of embeddings: each map once for every label that differs between its points, or once
    if none does."""
    drawn = []
    for map in maps:
        differing = [by for by, names in map.labels.items() if len(set(names)) > 1]
        drawn += [(map, by) for by in differing or list(map.labels)[:1]]
    figure = _figure(8.6, 8.6 / max(len(drawn), 2))
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for panel, (map, by) in zip(panels, drawn, strict=True):
        _embedding(panel, map, by)
    return _svg(figure)


def _embedding(panel: Axes, map: Map, by: str) -> None:
    names = np.array(map.labels[by])
    size = float(np.clip(400 / np.sqrt(len(names)), 3, 40))
    for number, name in enumerate(sorted(set(names))):
        x, y = map.points[names == name].T
        panel.scatter(
            x,
            y,
            s=size,
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number // len(COLORS) % len(MARKERS)],
            alpha=0.7,
            lw=0,
            label=f" {name}" if name.startswith("_") else name,  # "_…" would not be in the legend
            rasterized=len(names) > MOST_MARKS,
        )
    panel.set_title(f"{map.what} by {by}", fontsize=10)
    panel.set_xlabel(f"first component ({map.shares[0]:.0%})")
    panel.set_ylabel(f"second ({map.shares[1]:.0%})")
    panel.set_aspect("equal", "datalim")
    if len(set(names)) <= MOST_NAMES:
        panel.legend(fontsize=8, framealpha=0.8, edgecolor="none", handletextpad=0.2)


class _PlainLogFormatter(LogFormatter):
    """Writes 0.945 where matplotlib would write a formula, which STYLE turns off."""

    def __call__(self, x: float, position: int | None = None) -> str:
        return f"{x:.3g}" if super().__call__(x, position) else ""


def _line(
    axes: Axes, points: Sequence[Sequence[float]], color: str, label: str, **kind: Any
) -> None:
    steps, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(steps, values, color=color, lw=1.5, ms=4, **kind)
    axes.set_xlabel("step")
    axes.set_ylabel(label)


def _path_label(name: str, target: str, unit: str) -> str:
    if unit.endswith("/s"):
        return f"{target} {name}, integrated ({unit[:-2]})"
    return f"{target} {name} ({unit})"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _period(time: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(time))) if len(time) > 1 else 1.0


def _breaks(time: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions of the samples before which there is a gap."""
    return np.flatnonzero(np.diff(time) > 3 * _period(time)) + 1


def _stretch(time: NDArray[np.float64], seconds: float) -> tuple[slice, NDArray[np.floating]]:
    """Rows of `seconds` of samples from the middle of the scored ones, and their times (n,) s
    without gaps."""
    n = min(len(time), round(seconds / _period(time)))
    first = (len(time) - n) // 2
    return slice(first, first + n), np.arange(n) * _period(time)


def _movements(time: NDArray[np.float64], speed: NDArray[np.float64]) -> list[slice]:
    """Rows of each movement: samples without a gap above the speed of onset, in pieces of at most
    `PATH_SECONDS`. Pieces that are too short are left out."""
    fast = speed > ONSET * np.percentile(speed, 99)  # the very highest may be an artifact
    edges = {0, *_breaks(time).tolist(), *(np.flatnonzero(np.diff(fast)) + 1).tolist(), len(time)}
    most, least = (max(1, int(t / _period(time))) for t in (PATH_SECONDS, LEAST_SECONDS))
    return [
        slice(first, min(first + most, stop))
        for start, stop in pairwise(sorted(edges))
        for first in range(start, stop, most)
        if fast[start] and min(first + most, stop) - first >= least
    ]


def _direction_color(x: float, y: float) -> NDArray[np.floating]:
    """A color (3,) whose hue is the direction."""
    return hsv_to_rgb((np.arctan2(y, x) / (2 * np.pi) % 1, 0.75, 0.8))


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element, without the headers that name foreign addresses."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
