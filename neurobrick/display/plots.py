"""Pictures of a session: spikes above, behavior below, and a strip of splits and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick.errors import NeurobrickError
from neurobrick.intervals import Intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from neurobrick.dataset.behavior_info import BehaviorInfo
    from neurobrick.dataset.session import Session
    from neurobrick.dataset.slice import BehaviorSlice, Slice

INK = "#222222"
# Okabe & Ito's colors, which the color-blind can tell apart; black is for spikes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SPLIT_COLORS = {"train": "#9ecae1", "valid": "#fdd0a2", "test": "#fb6a4a"}
TRIAL_NAMES = ("trials", "epochs")  # the first of these tables that a session has is shaded
NAMING_COLUMNS = ("label", "tags")  # columns with the name of an epoch; trials have numbers
MOST_LABELS = 25  # trials in the window; the numbers of more would overlap
MOST_LINES = 12  # columns of a behavior; more are drawn as an image
MOST_MARKS = 50_000  # spikes of a raster; more are drawn as an image of counts
IMAGE_BINS = 1000
DPI = 150
HEADLESS = ("agg", "cairo", "pdf", "pgf", "ps", "svg")  # back-ends of matplotlib without windows


def save(session: Session, t0: float, t1: float, path: Path) -> None:
    """Draw `session` from `t0` to `t1` s to the file `path`; its ending is the format.

    Raises NeurobrickError when matplotlib is not installed or does not know the ending, or when the
    file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _no_matplotlib() from error
    figure = Figure()
    draw(session, t0, t1, figure)
    try:
        figure.savefig(path, dpi=DPI)
    except (ValueError, OSError) as error:
        raise NeurobrickError(f"cannot draw {path}: {error}") from error


def show(session: Session, t0: float, t1: float) -> None:
    """Draw `session` from `t0` to `t1` s in a window, and return when it is closed.

    Raises NeurobrickError when matplotlib is not installed or there is no display for a window.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise _no_matplotlib() from error
    try:
        import matplotlib.pyplot as plt

        if matplotlib.get_backend().casefold() in HEADLESS:
            raise ImportError
        figure = plt.figure()
    except Exception as error:  # toolkits raise classes of their own
        raise NeurobrickError(
            "cannot open a window: there is no display, or no toolkit to open one with (pip"
            " install pyqt6); -o FILE writes a picture instead"
        ) from error
    draw(session, t0, t1, figure)
    plt.show()


def _no_matplotlib() -> NeurobrickError:
    return NeurobrickError("plots need matplotlib: pip install 'neurobrick[plots]'")


def draw(session: Session, t0: float, t1: float, figure: Figure) -> None:
    """Draw `session` from `t0` to `t1` s into the empty `figure`.

    A raster on top, then one panel for each behavior, the target first, then a strip of splits and
    evaluation.
    """
    window = session.slice(t0, t1)
    behavior = {name: window.behavior[name] for name in window.behavior}
    infos = window.behavior_info
    names = sorted(behavior, key=lambda name: name != session.target)
    heights = [3.2, *([1.0] * len(names)), 0.28]
    figure.set_size_inches(10, 0.9 + 1.25 * sum(heights))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes: list[Axes] = list(panels[:, 0])
    _raster(axes[0], window)
    for ax, name in zip(axes[1:-1], names, strict=True):
        _traces(ax, name, behavior[name], infos[name], is_target=name == session.target)
    _strip(axes[-1], session, window)
    _shade(axes[:-1], session, window)
    axes[0].set_title(session.id, loc="left", fontsize="medium", pad=16)
    axes[0].set_xlim(window.t0, window.t1)
    axes[-1].set_xlabel("time (s)")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        if ax is not axes[-1]:
            ax.tick_params(axis="x", bottom=False)
    figure.align_ylabels(axes)


def _raster(ax: Axes, window: Slice) -> None:
    """One row for each unit, from the top. Where there are areas, units are sorted by area, and
    each area has a color."""
    spikes, n_units = window.spikes, window.units.num_rows
    areas = _areas(window.units)
    order = np.argsort(areas, kind="stable") if areas is not None else np.arange(n_units)
    row_of = np.empty(n_units, np.int64)
    row_of[order] = np.arange(n_units)
    rows = row_of[spikes.units]
    if len(rows) <= MOST_MARKS:
        width = max(0.4, min(0.9, 40 / max(1, n_units)))
        ax.vlines(spikes.times, rows + 0.1, rows + 0.9, color=INK, lw=width)
    else:
        _counts(ax, spikes.times, rows, (window.t0, window.t1), n_units)
    ax.set_ylim(max(1, n_units), 0)
    ax.set_ylabel(f"{n_units} units")
    if areas is None:
        return
    if not np.array_equal(order, np.arange(n_units)):
        ax.set_yticks([])  # a number there would not be the unit's row
    names, first, counts = np.unique(areas[order], return_index=True, return_counts=True)
    for k, (name, start, n) in enumerate(zip(names, first, counts, strict=True)):
        color = COLORS[k % len(COLORS)] if len(names) > 1 else "gray"
        if len(names) > 1:
            ax.axhspan(start, start + n, color=color, alpha=0.10, lw=0, zorder=0)
        ax.text(
            1.01, start + n / 2, f"{name} ({n})", va="center", color=color, fontsize="small",
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip


def _counts(
    ax: Axes,
    times: NDArray[np.float64],
    rows: NDArray[np.int64],
    span: tuple[float, float],
    n_units: int,
) -> None:
    """An image for more spikes than marks can show: the darker, the more spikes in a bin."""
    counts, _, _ = np.histogram2d(
        rows, times, bins=(n_units, IMAGE_BINS), range=((0, n_units), span)
    )
    busy = np.percentile(counts, 99) or 1.0
    image = np.zeros((*counts.shape, 4))
    image[..., :3] = int(INK[1:3], 16) / 255
    image[..., 3] = np.clip(counts / busy, 0, 1)
    ax.imshow(image, aspect="auto", extent=(*span, n_units, 0), interpolation="nearest")


def _areas(units: pa.Table) -> NDArray[Any] | None:
    """The brain area of each unit, (n_units,) str; None where the recording names no areas."""
    if "area" not in units.column_names:
        return None
    areas = np.array([str(area or "no area") for area in units["area"].to_pylist()])
    return areas if len(areas) else None


def _traces(
    ax: Axes, name: str, series: BehaviorSlice, info: BehaviorInfo, *, is_target: bool
) -> None:
    """A line for each column, broken at gaps; an image where there are many columns."""
    stamps, values = _broken_at_gaps(series.timestamps, series.values)
    unit = f"\n({info.unit})" if info.unit else ""
    ax.set_ylabel(f"{name}{unit}", fontweight="bold" if is_target else "normal")
    ax.locator_params(axis="y", nbins=4)
    if not len(stamps):
        ax.text(0.5, 0.5, "not recorded here", transform=ax.transAxes, ha="center", color="gray")
        ax.set_yticks([])
        return
    if len(info.labels) > MOST_LINES:
        rows = np.arange(len(info.labels))
        ax.pcolormesh(series.timestamps, rows, series.values.T, shading="nearest")
        return
    for k, label in enumerate(info.labels):
        dot = "." if len(stamps) == 1 else None  # one sample makes no line
        color = COLORS[k % len(COLORS)]
        ax.plot(stamps, values[:, k], marker=dot, lw=1, label=label, color=color)
    if len(info.labels) > 1:
        columns = 1 + (len(info.labels) - 1) // 6
        ax.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False,
            ncols=columns, handlelength=1.2,
        )  # fmt: skip


def _strip(ax: Axes, session: Session, window: Slice) -> None:
    """Two thin bars: train, valid and test; and, below, the time in which decoding is scored."""
    here = Intervals([window.t0], [window.t1])
    parts = [
        (name, part, SPLIT_COLORS.get(name), (0.5, 0.5)) for name, part in session.splits.items()
    ]
    parts.append(("scored", session.evaluation, "#636363", (0.0, 0.38)))
    for name, part, color, place in parts:
        if bars := [(start, stop - start) for start, stop in part & here]:
            ax.broken_barh(bars, place, color=color, lw=0, label=name)
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small", frameon=False,
            handlelength=0.8, labelspacing=0.1,
        )  # fmt: skip


def _shade(axes: list[Axes], session: Session, window: Slice) -> None:
    """Shade every second trial a little darker; write names or numbers above the first panel."""
    name = next((name for name in TRIAL_NAMES if name in session.intervals), None)
    if name is None:
        return
    table = session.intervals[name]
    starts, stops = (np.asarray(table[c], np.float64) for c in ("start", "stop"))
    rows = np.flatnonzero((starts < window.t1) & (stops > window.t0))
    names = next((table[c].to_pylist() for c in NAMING_COLUMNS if c in table.column_names), None)
    first = np.maximum(starts[rows], window.t0)
    length = np.minimum(stops[rows], window.t1) - first
    for parity, alpha in ((0, 0.03), (1, 0.07)):
        these = rows % 2 == parity
        bars = list(zip(first[these], length[these], strict=True))
        for ax in axes:
            place = ax.get_xaxis_transform()
            ax.broken_barh(bars, (0, 1), color="black", alpha=alpha, lw=0, transform=place)
    if len(rows) > MOST_LABELS:
        return
    for row, middle in zip(rows.tolist(), (first + length / 2).tolist(), strict=True):
        text = f"{name.removesuffix('s')} {row}" if names is None else _label(names[row])
        axes[0].text(
            middle, 1.01, text, ha="center", color="gray", fontsize="x-small",
            transform=axes[0].get_xaxis_transform(),
        )  # fmt: skip


def _label(name: Any) -> str:
    return ", ".join(map(str, name)) if isinstance(name, list) else str(name)


def _broken_at_gaps(
    stamps: NDArray[np.float64], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """The samples with a NaN wherever two are far apart, so that no line is drawn over a gap."""
    if len(stamps) < 3:
        return stamps, values
    steps = np.diff(stamps)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1
    return np.insert(stamps, gaps, np.nan), np.insert(values, gaps, np.nan, axis=0)
