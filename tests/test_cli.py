"""The command line: help that teaches, output that a person or a program can read, exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from neurobrick import Dataset
from neurobrick.cli import main
from neurobrick_model.cli import main as train

SESSION = "local/sub-A_ses-with-gaps"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_and_option_has_help(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.name} has no help"
    assert run(*path, "--help").exit_code == 0


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for path in commands(main):
        assert f"neurobrick {' '.join(path)}" in readme


def test_list(corpus: Dataset) -> None:
    result = run("list", "--root", corpus.root)
    assert result.exit_code == 0
    for session in corpus:
        assert session in result.output
    rows = json.loads(run("list", "--root", corpus.root, "--json").output)
    assert [row["session"] for row in rows] == corpus.sessions


def test_info_says_what_is_there_and_what_was_left(corpus: Dataset) -> None:
    result = run("info", "local/sub-A_ses-beside-voltage", "--root", corpus.root)
    assert "3 units" in result.output
    assert "acquisition/voltage: voltage traces" in result.output
    metadata = json.loads(run("info", SESSION, "--root", corpus.root, "--json").output)
    assert metadata["id"] == SESSION


def test_plot_draws_a_picture(corpus: Dataset, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    result = run("plot", SESSION, "3", "6", "--root", corpus.root, "-o", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("plot", SESSION, "6", "3", "--root", corpus.root).exit_code == 2
    odd = run("plot", SESSION, "3", "6", "--root", corpus.root, "-o", tmp_path / "x.doc")
    assert odd.exit_code == 1
    assert "cannot draw" in odd.output


def test_verify(corpus: Dataset, tmp_path: Path) -> None:
    result = run("verify", "--root", corpus.root)
    assert result.exit_code == 0
    assert result.output.count("✓") == len(corpus)
    assert run("verify", "--root", tmp_path).exit_code == 1
    assert run("verify", "local/nobody", "--root", corpus.root).exit_code == 1


def test_simulate_states_what_an_oracle_reaches(tmp_path: Path) -> None:
    result = run("simulate", tmp_path, "--sessions", "1", "--units", "5", "--minutes", "1")
    assert result.exit_code == 0, result.output
    assert "oracle R²" in result.output
    (file,) = (tmp_path / "000128" / "draft").rglob("*.nwb")
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list"], 1, "neurobrick prepare"),
        (["info", "a/b"], 1, "neurobrick prepare"),
        (["plot", "a/b", "0", "1"], 1, "neurobrick prepare"),
        (["prepare", "nwb", "nowhere.nwb"], 2, "does not exist"),
        (["prepare", "nwb", ".", "--dataset", "../out"], 2, "letters, digits"),
        (["prepare", "manifest", "nothing"], 1, "the registry does not list nothing"),
        (["prepare", "dandiset", "12"], 1, "six digits"),
        (["prepare", "dandiset", "000128", "--instance", "here"], 1, "address of a DANDI API"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "status", "said"),
    [
        ("trainng.steps=3", 2, "did you mean training"),
        ("training.steps=many", 2, "training.steps"),
        ("data.root=nowhere", 1, "neurobrick prepare"),
    ],
)
def test_bad_recipes_get_one_line(
    setting: str, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "linear_track.yaml"
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train, [str(recipe), "--set", setting], catch_exceptions=False)
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
