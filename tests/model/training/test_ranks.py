"""Training on several ranks, by torchrun and gloo, gives the results of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from neurobrick import Dataset, NeurobrickError, RecipeError
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.cli import main
from neurobrick_model.compute.ranks import Ranks
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset, fake_session
from tests.support.model.rank_program import losses

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[3]


def torchrun(ranks: int, *program: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), *map(str, program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("settings", [{"ema": 0.9}, {"optimizer": "lamb", "microbatch": 3}])
def test_two_ranks_take_the_steps_of_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Same losses, validation and weights, but for rounding: unit dropout and dropout depend on the
    window, not on the rank."""
    training = {**TINY["training"], "steps": 50, "batch": 12, **settings}
    recipe = {"name": "x", "runs": str(tmp_path / "runs"), **TINY, "training": training}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    alone, weights = losses(Recipe.from_yaml(path), 50)
    torchrun(2, "-m", "tests.support.model.rank_program", path, 50, tmp_path / "out.json")
    together = json.loads((tmp_path / "out.json").read_text())
    assert len(together) == 52
    assert together == pytest.approx(alone, rel=2e-4)
    assert together[:5] == pytest.approx(alone[:5], rel=1e-6)
    for name, value in torch.load(tmp_path / "out.pt", weights_only=True).items():
        torch.testing.assert_close(value, weights[name], rtol=5e-3, atol=5e-4)


def test_two_ranks_unfreeze_as_one(tmp_path: Path) -> None:
    """Gradients of weights that learn only later are averaged, too."""
    runs = {"runs": str(tmp_path / "runs")}
    base = Recipe.model_validate({"name": "base", **runs, **TINY})
    Trainer(base, FakeDataset(fake_session("sim/c", 3, n_units=7))).fit()  # type: ignore[arg-type]
    path = tmp_path / "recipe.yaml"
    adapt = {"base": str(base.folder), "way": "unfreeze", "unfreeze_at": 0.5}
    training = {"steps": 12, "batch": 8}
    path.write_text(yaml.safe_dump({"name": "x", "adapt": adapt, "training": training}))
    alone, weights = losses(Recipe.from_yaml(path), 12)
    torchrun(2, "-m", "tests.support.model.rank_program", path, 12, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == pytest.approx(alone, rel=2e-4)
    start = Decoder.load(base.folder).model.state_dict()
    for name, value in torch.load(tmp_path / "out.pt", weights_only=True).items():
        torch.testing.assert_close(value, weights[name], rtol=5e-3, atol=5e-4)
        assert value.shape != start[name].shape or not torch.equal(value, start[name]), name


def test_the_command_runs_under_torchrun_and_prints_once(corpus: Dataset, tmp_path: Path) -> None:
    id = next(id for id in corpus.sessions if id.endswith("ses-regular"))
    path = tmp_path / "pair.yaml"
    data = {"root": str(corpus.root), "sessions": [id]}
    path.write_text(
        yaml.safe_dump({"name": "pair", "runs": str(tmp_path / "runs"), "data": data, **TINY})
    )
    done = torchrun(2, "-m", "neurobrick_model.cli", path)
    assert done.stdout.count("report: ") == 1
    assert "on 2 × cpu" in done.stdout
    metrics = json.loads((tmp_path / "runs/pair/metrics.json").read_text())
    assert metrics["training"]["ranks"] == 2
    # One rank resumes the run of two; here, at the end.
    again = subprocess.run(
        [sys.executable, "-m", "neurobrick_model.cli", path, "--resume", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(again.stdout)["mean"]["decoder"] == pytest.approx(
        metrics["mean"]["decoder"], rel=1e-4
    )


def test_a_batch_that_ranks_cannot_share_evenly_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"training\.batch is 10 and there are 4 ranks"):
        Ranks(0, 4).check(10)


PAIR = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_the_ranks_are_those_of_the_environment() -> None:
    assert Ranks.from_environment({}) == Ranks(0, 1, 0)
    assert Ranks.from_environment({"WORLD_SIZE": "1", "RANK": "0"}) == Ranks(0, 1, 0)
    assert Ranks.from_environment({**PAIR, "RANK": "1", "LOCAL_RANK": "1"}) == Ranks(1, 2, 1)


@pytest.mark.parametrize("value", ["", "two", "-1", "1.5", "0x2", None, "99999999"])
@pytest.mark.parametrize("name", [*PAIR, "LOCAL_RANK"])
def test_a_launchers_variable_that_is_missing_or_malformed_is_named(
    name: str, value: str | None
) -> None:
    variables = {**PAIR, name: value}
    given = {key: text for key, text in variables.items() if text is not None}
    if (name, value) == ("LOCAL_RANK", None) or (name == "MASTER_ADDR" and value):
        Ranks.from_environment(given)  # has a default, or may be any text
        return
    if (name, value) == ("WORLD_SIZE", None):
        assert Ranks.from_environment(given).count == 1  # rank 0 of one
        return
    if (name, value) == ("WORLD_SIZE", "99999999"):
        assert Ranks.from_environment(given).count == 99999999
        return
    with pytest.raises(RecipeError, match=rf"in the environment, .*\b{name}\b") as caught:
        Ranks.from_environment(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left", [["WORLD_SIZE"], ["RANK"], ["LOCAL_RANK"], ["WORLD_SIZE", "RANK"]])
def test_the_command_names_variables_that_were_left_over(tmp_path: Path, left: list[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ndata: {root: nowhere}")
    result = CliRunner(env=dict.fromkeys(left, "2" if len(left) == 1 else "1")).invoke(
        main, [str(path)]
    )
    if left == ["WORLD_SIZE", "RANK"]:
        assert "RANK is 1, but WORLD_SIZE is 1" in result.output
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert left[0] in result.output


def test_ranks_that_do_not_come_end_the_wait_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that is free, and nobody else who knows of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {**PAIR, "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    ranks = Ranks.from_environment()
    with (
        pytest.raises(
            NeurobrickError, match=r"not all of the 2 processes that WORLD_SIZE"
        ) as error,
        ranks.joined(torch.device("cpu"), lines.append, within=1.0),
    ):
        pass
    assert "\n" not in str(error.value)
    assert lines == [f"waiting for 2 processes (WORLD_SIZE) at 127.0.0.1:{port}"]


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**PAIR, "RANK": "1", "MASTER_ADDR": "nowhere.invalid"}.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks.from_environment()
    with (
        pytest.raises(NeurobrickError, match=r"MASTER_ADDR:MASTER_PORT, nowhere\.invalid:29500"),
        ranks.joined(torch.device("cpu"), lambda line: None, within=1.0),
    ):
        pass
