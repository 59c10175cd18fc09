"""neurobrick-train: exit status, one-line errors, help."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from neurobrick_model.cli import main
from neurobrick_model.training import trainer
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "runs": str(tmp_path / "runs"), **TINY}))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_training_exits_0_and_prints_scores(
    recipe_file: Path, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "Dataset", lambda root, cache_bytes: dataset)
    result = call(recipe_file, "--set", "training.steps=2")
    assert result.exit_code == 0, result.output
    for text in ("2 sessions, 21 units", "step 2/2", "sim/a", "mean", "report.html"):
        assert text in result.output
    assert re.search(r"sim/a .* -?\d\.\d{3} \(-?\d\.\d\d to -?\d\.\d\d\)", result.output)
    again = call(recipe_file, "--set", "training.steps=2", "--resume", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["training"]["steps"] == 2


def test_wrong_usage_exits_2(recipe_file: Path) -> None:
    for arguments, message in [
        (["none.yaml"], "does not exist"),
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


def test_everything_has_help() -> None:
    for command in (main, *main.commands.values()):
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
    assert call("--help").exit_code == 0


def test_threads_are_told_to_sleep_before_torch_is_loaded() -> None:
    """OpenMP reads its wait policy once, when torch loads it."""
    program = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); import neurobrick_model.cli;"
        " print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["PASSIVE", "False"]
