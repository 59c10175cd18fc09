"""Pictures of slices: spikes above, behavior below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurobrick.errors import NeurobrickError

if TYPE_CHECKING:
    from neurobrick.dataset import Slice


def plot_slice(window: Slice, path: Path) -> None:
    """Draw `window` as a raster and one panel a behavior, to `path`; its ending says the format.

    Raises NeurobrickError when matplotlib is not installed or does not know the ending.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NeurobrickError("plots need matplotlib: pip install 'neurobrick[plots]'") from error
    behavior = {name: window.behavior[name] for name in window.behavior}
    height = 3.0 + 1.4 * len(behavior)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots(
        1 + len(behavior), 1, sharex=True, squeeze=False, height_ratios=[3] + [1] * len(behavior)
    )[:, 0]
    spikes = window.spikes
    marks = max(0.3, min(4.0, 150 / max(1, window.units.num_rows)))
    axes[0].scatter(spikes.times, spikes.units, s=marks, c="black", marker="|", linewidths=0.6)
    axes[0].set(title=window.session_id, ylabel="unit", xlim=(window.t0, window.t1))
    infos = window.behavior_info
    for ax, (name, series) in zip(axes[1:], behavior.items(), strict=True):
        info = infos[name]
        stamps, values = _broken_at_gaps(series.timestamps, series.values)
        for k, label in enumerate(info.labels):
            ax.plot(stamps, values[:, k], lw=1, label=label)
        ax.set_ylabel(f"{name}\n({info.unit})")
        if len(info.labels) > 1:
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    axes[-1].set_xlabel("time (s)")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise NeurobrickError(f"cannot draw {path}: {error}") from error


def _broken_at_gaps(stamps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A NaN between samples that are far apart, so that no line is drawn where nothing was."""
    if len(stamps) < 3:
        return stamps, values
    steps = np.diff(stamps)
    gaps = np.flatnonzero(steps > 3 * np.median(steps)) + 1
    return np.insert(stamps, gaps, np.nan), np.insert(values, gaps, np.nan, axis=0)
