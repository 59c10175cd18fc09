"""Pictures show what is there: every spike in its unit's row, areas together, trials, splits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from pynwb import NWBFile, TimeSeries

from neurobrick import Dataset, NeurobrickError, Session
from neurobrick.display import plots
from tests.conftest import prepare_files
from tests.support.layouts import SECONDS, spike_trains, write

AREAS = ["PMd", "M1", "PMd", "M1", "M1"]


def interleaved(file: NWBFile, rng: np.random.Generator) -> None:
    """Units of two areas in turns, and sixteen muscles."""
    device = file.create_device("array")
    for area in AREAS:
        group = file.create_electrode_group(f"{area}{len(file.electrode_groups)}", "", area, device)
        file.add_electrode(group=group, location=area)
    for k, times in enumerate(spike_trains(rng, len(AREAS))):
        file.add_unit(spike_times=times, electrodes=[k])
    data = rng.normal(size=(int(SECONDS * 50), 16))
    file.add_acquisition(TimeSeries(name="emg", data=data, unit="volts", rate=50.0))


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("areas")
    prepare_files(folder / "corpus", write(folder / "sub-A.nwb", interleaved))
    return Dataset(folder / "corpus")["local/sub-A"]


def drawn(session: Session, t0: float, t1: float) -> Figure:
    figure = Figure()
    plots.draw(session, t0, t1, figure)
    figure.draw_without_rendering()
    return figure


def marks(figure: Figure) -> np.ndarray:
    """Time and row of every spike drawn, (n, 2), sorted."""
    (lines,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    segments = np.array([path.vertices for path in lines.get_paths()])
    pairs = np.stack([segments[:, 0, 0], np.floor(segments[:, 0, 1])], axis=1)
    return pairs[np.lexsort(pairs.T)]


def test_every_spike_is_in_the_row_of_its_unit_and_areas_lie_together(areas: Session) -> None:
    figure = drawn(areas, 3.0, 5.0)
    times, units = areas.spike_arrays()
    inside = (times >= 3.0) & (times < 5.0)
    row = {1: 0, 3: 1, 4: 2, 0: 3, 2: 4}  # M1 first, each area in the file's order
    expected = np.array(
        [(t, row[u]) for t, u in zip(times[inside], units[inside].tolist(), strict=True)]
    )
    np.testing.assert_allclose(marks(figure), expected[np.lexsort(expected.T)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["M1 (3)", "PMd (2)"]


def test_panels_have_units_and_the_target_is_on_top(corpus: Dataset) -> None:
    (name,) = (s for s in corpus if "SimC" in s)
    figure = drawn(corpus[name], 5.0, 15.0)
    labels = [ax.get_ylabel() for ax in figure.axes[1:-1]]
    assert labels == ["cursor_vel\n(m/s)", "cursor_acc\n(m/s^2)", "cursor_pos\n(m)"]
    assert figure.axes[-1].get_xlabel() == "time (s)"
    assert figure.axes[0].get_xlim() == (5.0, 15.0)


@pytest.mark.slow
def test_trials_are_named_and_the_strip_is_the_splits(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-regular"]
    figure = drawn(session, 3.0, 9.0)
    # A trial of 1.5 s begins every 2 s: number 1 ends at 3.5 s, number 4 begins at 8 s.
    assert [t.get_text() for t in figure.axes[0].texts] == [f"trial {k}" for k in (1, 2, 3, 4)]
    strip = figure.axes[-1]
    for bars in (c for c in strip.collections if isinstance(c, PolyCollection)):
        name = bars.get_label()
        part = session.evaluation if name == "scored" else session.splits[str(name)]
        edges = [
            (path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in bars.get_paths()
        ]
        overlap = [(max(a, 3.0), min(b, 9.0)) for a, b in part if a < 9.0 and b > 3.0]
        np.testing.assert_allclose(edges, overlap)
    shown = {c.get_label() for c in strip.collections}
    assert "scored" in shown
    assert shown & {"train", "valid", "test"}


def test_epochs_are_called_by_their_tags(corpus: Dataset) -> None:
    figure = drawn(corpus["local/sub-A_ses-irregular"], 0.0, 20.0)
    assert [t.get_text() for t in figure.axes[0].texts] == ["run, maze", "rest"]


def test_nothing_is_drawn_across_a_gap(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-with-gaps"]
    (line, *_) = drawn(session, *session.span).axes[1].lines
    stamps = np.asarray(line.get_xdata())
    gaps = len(session.behavior["hand_vel"].segments) - 1
    assert gaps > 0
    assert np.isnan(stamps).sum() == gaps


@pytest.mark.slow
def test_many_spikes_and_many_columns_become_images(
    areas: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plots, "MOST_MARKS", 10)
    figure = drawn(areas, 0.0, SECONDS)
    (image,) = figure.axes[0].images
    counts = np.asarray(image.get_array())[..., 3]
    assert counts.shape == (5, plots.IMAGE_BINS)
    assert counts.max() == 1
    plots.save(areas, 0.0, SECONDS, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_where_nothing_was_recorded(areas: Session, tmp_path: Path) -> None:
    figure = drawn(areas, 100.0, 101.0)
    assert [t.get_text() for t in figure.axes[1].texts] == ["not recorded here"]
    with pytest.raises(NeurobrickError, match="cannot draw"):
        plots.save(areas, 0.0, 1.0, tmp_path / "nowhere" / "a.png")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "status"), [("agg", 1), ("template", 0)])
def test_a_window_needs_a_display(
    corpus: Dataset, backend: str, status: int, tmp_path: Path
) -> None:
    """`template` is matplotlib's back-end whose windows are nowhere."""
    program = "from neurobrick.cli import main; main()"
    arguments = [
        "plot",
        "local/sub-A_ses-regular",
        "0",
        "1",
        "--window",
        "--root",
        str(corpus.root),
    ]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"MPLBACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    assert list(tmp_path.iterdir()) == []
    if status:
        assert "there is no display" in result.stderr
        assert "-o FILE" in result.stderr
        assert len(result.stderr.splitlines()) == 1
