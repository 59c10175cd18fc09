"""Comparison of runs: what is averaged, which runs are kept apart, and folders that are no run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from neurobrick import StoreError
from neurobrick_model import Recipe, Trainer
from neurobrick_model.cli import main
from neurobrick_model.report.comparison import render
from neurobrick_model.report.label_efficiency import Curve, FinishedRun, curves
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset

A, B = "sim/a", "sim/b"


def write_run(
    runs: Path,
    way: str | None,
    labels: float,
    scores: Mapping[str, float | None],
    *,
    seed: int = 0,
    ridge: float = 0.4,
) -> Path:
    """A folder with the files of a finished run that a comparison reads."""
    name = f"{way or 'base'}-{labels:g}s-{seed}"
    settings: dict[str, Any] = {"name": name, "training": {"seed": seed}}
    if way:
        settings["adapt"] = {"base": "runs/the_base", "way": way}
    metrics = {
        "run": name,
        "target": "hand_vel",
        "unit": "m/s",
        "sessions": [
            {
                "id": id,
                "labels": labels,
                "samples": 100,
                "checksum": 1,
                "decoder": {"r2": r2},
                "baselines": {"ridge": {"r2": ridge}},
            }
            for id, r2 in scores.items()
        ],
        "training": {"seed": seed, "seconds": 75.0},
    }
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "recipe.yaml").write_text(Recipe.model_validate(settings).to_yaml())
    return folder


def several(runs: Path) -> list[Path]:
    """Two ways, two amounts of labels, two seeds."""
    return [
        write_run(runs, "identify", 60.0, {A: 0.6, B: 0.8}, ridge=0.3),
        write_run(runs, "identify", 60.0, {A: 0.7, B: 0.5}, seed=1, ridge=0.5),
        write_run(runs, "identify", 300.0, {A: 0.9, B: None}, ridge=0.6),
        write_run(runs, "scratch", 60.0, {A: 0.1, B: -0.3}, ridge=0.3),
    ]


def by_label(curves: list[Curve]) -> dict[str, Curve]:
    return {curve.label: curve for curve in curves}


def test_a_curve_is_the_mean_over_sessions_and_seeds(tmp_path: Path) -> None:
    drawn = by_label(curves([FinishedRun.read(folder) for folder in several(tmp_path)]))
    assert list(drawn) == ["unit identification", "from scratch", "ridge"]
    identify = drawn["unit identification"]
    assert identify.seconds == (60.0, 300.0)
    assert identify.mean == pytest.approx((0.65, 0.9))
    assert identify.low == pytest.approx((0.6, 0.9))
    assert identify.high == pytest.approx((0.7, 0.9))
    np.testing.assert_allclose(identify.sessions[A], [0.65, 0.9])
    np.testing.assert_allclose(identify.sessions[B], [0.65, np.nan])  # nothing scored there


def test_a_baseline_counts_once_for_the_same_labels(tmp_path: Path) -> None:
    """Two ways with seed 0 and 60 s have the same ridge decoder. Both count as much as seed 1."""
    ridge = by_label(curves([FinishedRun.read(folder) for folder in several(tmp_path)]))["ridge"]
    assert ridge.baseline
    assert ridge.mean == pytest.approx((0.4, 0.6))


def test_only_runs_that_decode_the_same_samples_are_compared(tmp_path: Path) -> None:
    folders = [
        *several(tmp_path),
        write_run(tmp_path, None, 600.0, {"sim/c": 0.9}),
    ]
    page = render([FinishedRun.read(folder) for folder in folders])
    assert page.count("<svg") == page.count("<h2>") == 2
    assert "2 sessions, 200 samples, by 4 runs" in page
    assert "1 session, 100 samples, by 1 run<" in page
    first = page[: page.index("1 session,")]
    assert "trained without a base" not in first
    assert first.index("identify-300s-0") < first.index("scratch-60s-0")


@pytest.mark.slow
def test_the_same_number_of_samples_is_not_enough(dataset: FakeDataset, tmp_path: Path) -> None:
    """Test splits that were drawn with another seed, and are as long."""
    n = np.arange(60)
    trials = {id: pa.table({"start": x.domain.start + n, "stop": x.domain.start + n + 1})
              for id, x in dataset.items()}  # fmt: skip
    drawn = FakeDataset(
        *(x.with_(intervals={"trials": trials[id]}, evaluation=x.domain)
          for id, x in dataset.items())
    )  # fmt: skip
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = {**TINY, "name": name, "runs": tmp_path, "data": {"splits": {"seed": seed}}}
        settings["training"] = {**TINY["training"], "steps": 1, "seed": len(runs)}
        Trainer(Recipe.model_validate(settings), drawn).fit()  # type: ignore[arg-type]
        runs.append(FinishedRun.read(tmp_path / name))
    assert runs[0].samples == runs[1].samples == runs[2].samples
    page = render(runs)
    assert page.count("<h2>") == 2
    assert page.count("by 2 runs<") == page.count("by 1 run<") == 1


def test_the_command_writes_a_page_and_says_what_is_on_it(tmp_path: Path) -> None:
    folders, out = several(tmp_path), tmp_path / "page.html"
    arguments = ["compare", *map(str, folders), "--out", str(out), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)
    assert [run["run"] for run in runs] == [folder.name for folder in folders]
    assert runs[0]["mean"] == {"decoder": pytest.approx(0.7), "baselines": {"ridge": 0.3}}
    assert runs[2]["sessions"] == {A: 0.9, B: None}
    assert runs[0]["base"] == "the_base"
    assert "unit identification" in out.read_text()


@pytest.mark.slow
def test_torch_is_not_loaded_to_compare(tmp_path: Path) -> None:
    folders = several(tmp_path)
    program = (
        "import sys; from pathlib import Path;"
        "from neurobrick_model.report.comparison import compare;"
        "compare([Path(x) for x in sys.argv[2:]], Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", program, tmp_path / "x.html", *folders]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_folder_without_a_finished_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = several(tmp_path)[0]
    metrics = folder / "metrics.json"
    new = metrics.read_text()
    for key in ("labels", "checksum"):
        old = json.loads(new)
        del old["sessions"][0][key]
        metrics.write_text(json.dumps(old))
        with pytest.raises(StoreError, match=rf"metrics\.json was written by another.*'{key}'"):
            FinishedRun.read(folder)
    metrics.write_text("{")
    with pytest.raises(StoreError, match="cannot read"):
        FinishedRun.read(folder)
    metrics.unlink()
    with pytest.raises(StoreError, match=r"no metrics\.json: it is no run"):
        FinishedRun.read(folder)
    result = CliRunner().invoke(main, ["compare", str(folder)])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "seconds"), [(None, 48.0), ("6s", 6.0)])
def test_a_run_says_how_many_seconds_of_labels_it_had(
    labels: str | None, seconds: float, dataset: FakeDataset, tmp_path: Path
) -> None:
    """Eight tenths of the minute are the training split."""
    settings = {**TINY, "name": "x", "runs": tmp_path, "data": {"labels": labels}}
    settings["training"] = {**TINY["training"], "steps": 1}
    metrics = Trainer(Recipe.model_validate(settings), dataset).fit()  # type: ignore[arg-type]
    assert [session["labels"] for session in metrics["sessions"]] == pytest.approx([seconds] * 2)
    assert FinishedRun.read(tmp_path / "x").labels == pytest.approx(seconds)
