"""neurobrick-train: exit status, one-line errors, help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from neurobrick_model.cli import main
from neurobrick_model.recipe import shipped
from neurobrick_model.training import setup
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset

TOP = Path(__file__).parents[2]


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "runs": str(tmp_path / "runs"), **TINY}))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_training_exits_0_and_prints_scores(
    recipe_file: Path, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "Dataset", lambda root, cache_bytes: dataset)
    result = call(recipe_file, "--set", "training.steps=2")
    assert result.exit_code == 0, result.output
    for text in ("2 sessions, 21 units", "training 2/2", "sim/a", "mean", "report.html"):
        assert text in result.output
    assert re.search(r"sim/a .* -?\d\.\d{3} \(-?\d\.\d\d to -?\d\.\d\d\)", result.output)
    again = call(recipe_file, "--set", "training.steps=2", "--resume", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["training"]["steps"] == 2


def test_wrong_usage_exits_2(recipe_file: Path) -> None:
    for arguments, message in [
        (["none.yaml"], "none.yaml is no recipe: there is no such file"),
        ([recipe_file, "--set", "training.stepz=2"], "did you mean steps?"),
        ([recipe_file, "--sett", "x=2"], "No such option"),
    ]:
        result = call(*arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert "Traceback" not in result.output


def test_a_failure_exits_1_with_one_line(recipe_file: Path, tmp_path: Path) -> None:
    result = call(recipe_file, "--set", f"data.root={tmp_path / 'nothing'}")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: ")
    assert "nothing" in result.output


@pytest.mark.slow
def test_a_decoder_without_a_score_exits_1_and_says_why(
    recipe_file: Path, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that does not vary where it is scored has no R²."""
    still = []
    for session in dataset.values():
        start, stop = session.splits["test"].start, session.splits["test"].stop
        inside = [
            (session.timestamps >= a) & (session.timestamps <= b)
            for a, b in zip(start, stop, strict=True)
        ]
        values = np.where(np.any(inside, axis=0)[:, None], 0.1, session.values)
        still.append(session.with_(values=values))
    flat = FakeDataset(*still)
    monkeypatch.setattr(setup, "Dataset", lambda root, cache_bytes: flat)
    result = call(recipe_file)
    assert result.exit_code == 1
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: no session has a test R²: sim/a has no test R²: the target does")
    assert "warning: sim/b has no test R²: the target does not vary over its 200" in result.output
    metrics = json.loads((recipe_file.parent / "runs/tiny/metrics.json").read_text())
    assert metrics["mean"]["decoder"] is None
    assert len(metrics["training"]["warnings"]) == 2
    assert "has no test R²" in (recipe_file.parent / "runs/tiny/report.html").read_text()


def test_the_shipped_recipes_are_listed_with_a_line_each() -> None:
    result = call("recipes")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == sorted(shipped.shipped())
    for line in lines:
        assert re.fullmatch(r"\S+ +[A-Z].*[.]", line), line
        assert len(line) <= 100


@pytest.mark.parametrize("name", shipped.shipped())
def test_a_shipped_recipe_is_printed_as_it_is(name: str) -> None:
    result = call("recipes", name)
    assert result.exit_code == 0
    assert result.output == (TOP / "recipes" / f"{name}.yaml").read_text()


def test_a_shipped_recipe_is_run_by_its_name_unless_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = call("own", "--set", "data.root=nowhere")
    assert (by_name.exit_code, "nowhere" in by_name.output) == (1, True)
    (tmp_path / "own").mkdir()  # a folder is no recipe
    assert call("own", "--set", "data.root=nowhere").exit_code == 1
    (tmp_path / "multisession").write_text("name: x\nnonsense: 1")
    assert "unknown key nonsense" in call("multisession").output
    for command in ([], ["recipes"]):
        wrong = call(*command, "multisesion")
        assert wrong.exit_code == 2
        assert "did you mean multisession?" in wrong.output


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_signs_that_the_output_cannot_encode_are_replaced(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    program = (
        "import rich.console as r, neurobrick_model.console as c; "
        "c.replace_what_cannot_be_encoded(); r.Console().print('R² 0.5 – 2 × ✓ …')"
    )
    command = [sys.executable, "-m", "neurobrick_model.cli", "recipes", "mc_maze"]
    for arguments in (command, [sys.executable, "-c", program]):
        done = subprocess.run(arguments, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert b"R" in done.stdout
    assert done.stdout.decode(encoding).strip() == "R² 0.5 – 2 × ✓ …".encode(
        encoding, "replace"
    ).decode(encoding)


def test_everything_has_help() -> None:
    for command in (main, *main.commands.values()):
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
    assert call("--help").exit_code == 0


@pytest.mark.slow
def test_idle_threads_sleep_which_is_set_before_torch_is_loaded() -> None:
    """OpenMP reads its wait policy once, when torch loads it."""
    program = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); import neurobrick_model.cli;"
        " print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "False"]
