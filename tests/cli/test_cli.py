"""The command line: help that teaches, output that a person or a program can read, exit status."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from pynwb import NWBFile, TimeSeries

from demo.archive import LoopbackArchive
from neurobrick import Dataset
from neurobrick.cli import main
from neurobrick.cli.options import complete_dataset
from neurobrick.display.describe import collapsed
from neurobrick.registry import Manifest
from neurobrick_model.cli import main as train
from tests.conftest import prepare_files
from tests.support.layouts import regular, spike_trains, with_gaps, write

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


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_shows_an_example_that_parses(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of the help begins with the command, and its parser takes that line."""
    monkeypatch.setattr(click.Path, "convert", lambda _, value, *__: Path(value))
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    start = f"neurobrick {' '.join(path)} "
    lines = [line.strip() for line in (command.help or "").splitlines()]
    examples = [f"{line} " for line in lines if f"{line} ".startswith(start)]
    assert examples, f"the help of {start}shows no example"
    for example in examples:
        words = shlex.split(example.partition("   ")[0].partition(" | ")[0])[1:]
        parse(main, words)


def parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Parse a command line as click does, without running it. Raises UsageError."""
    context = command.make_context(command.name, list(words), parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        parse(inner, rest, context)


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for path in commands(main):
        assert f"neurobrick {' '.join(path)}" in readme


@pytest.mark.slow
def test_list(corpus: Dataset) -> None:
    result = run("list", "--root", corpus.root)
    assert result.exit_code == 0
    for session in corpus:
        assert session in result.output
    rows = json.loads(run("list", "--root", corpus.root, "--json").output)
    assert [row["session"] for row in rows] == corpus.sessions


def test_a_narrow_terminal_cuts_no_id(corpus: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    said = run("list", "--root", corpus.root).output
    for session in corpus:
        assert session in said


def test_info_says_what_is_there_and_what_was_left(corpus: Dataset) -> None:
    result = run("info", "local/sub-A_ses-beside-voltage", "--root", corpus.root)
    assert "3 units" in result.output
    assert "acquisition/voltage: voltage traces" in result.output
    metadata = json.loads(run("info", SESSION, "--root", corpus.root, "--json").output)
    assert metadata["id"] == SESSION


@pytest.mark.slow
def test_plot_draws_a_picture(corpus: Dataset, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    result = run("plot", SESSION, "3", "6", "--root", corpus.root, "-o", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("plot", SESSION, "6", "3", "--root", corpus.root).exit_code == 2
    odd = run("plot", SESSION, "3", "6", "--root", corpus.root, "-o", tmp_path / "x.doc")
    assert odd.exit_code == 1
    assert "cannot draw" in odd.output


def test_info_counts_what_is_alike() -> None:
    rows = [f"acquisition/channel{k}: voltage traces" for k in range(40)] + ["scratch: a figure"]
    assert collapsed(rows) == [*rows[:2], "and 38 more like these", "scratch: a figure"]
    assert collapsed(rows[:20]) == rows[:20]


def test_info_says_what_is_scored_learned_and_where_it_comes_from(corpus: Dataset) -> None:
    session = corpus[SESSION]
    said = run("info", SESSION, "--root", corpus.root).output
    for part in ("target      hand_vel", "evaluation  all of it", "sub-A_ses-with-gaps.nwb"):
        assert part in said
    for name, split in session.splits.items():
        share = split.duration / session.domain.duration
        assert f"{name}  {split.duration:.1f} s ({share:.0%})" in said
    for note in session.metadata.notes:
        assert note in said


def test_verify(corpus: Dataset, tmp_path: Path) -> None:
    result = run("verify", "--root", corpus.root)
    assert result.exit_code == 0
    assert result.output.count("✓") == len(corpus)
    assert run("verify", "--root", tmp_path).exit_code == 1
    assert run("verify", "local/nobody", "--root", corpus.root).exit_code == 1


def test_verify_names_each_fault(corpus: Dataset, tmp_path: Path) -> None:
    shutil.copytree(corpus.root, tmp_path / "corpus")
    stores = [tmp_path / "corpus" / f"{session}.zarr" for session in corpus]
    spikes = next((stores[0] / "spikes" / "time" / "c").rglob("0"))
    spikes.write_bytes(bytes(reversed(spikes.read_bytes())))
    (stores[1] / "manifest.json").write_text("{")
    shutil.rmtree(stores[2])
    result = run("verify", "--root", tmp_path / "corpus")
    assert result.exit_code == 1
    assert f"✗ {corpus.sessions[0]}\n    ✗ spikes/time/c/0 does not match" in result.output
    assert f"✗ {corpus.sessions[1]}" in result.output
    assert f"{corpus.sessions[2]} is listed, but there is no whole store" in result.output
    plain = json.loads(run("verify", "--root", tmp_path / "corpus", "--json").stdout)
    bad = [session for session, faults in plain["sessions"].items() if faults]
    assert bad == corpus.sessions[:2]
    assert [finding["subject"] for finding in plain["corpus"]] == ["catalog"]


@pytest.mark.slow
def test_verify_compares_with_what_the_registry_expects(tmp_path: Path) -> None:
    """Six units and five; only once both sessions are there, and only at the pinned version."""
    folder = tmp_path / "archive" / "000999" / "0.1.0" / "sub-A"
    folder.mkdir(parents=True)
    write(folder / "sub-A_ses-1.nwb", regular)
    write(folder / "sub-A_ses-2.nwb", with_gaps)
    root = tmp_path / "corpus"

    def registry(version: str, **expect: int) -> Path:
        entry = {
            "id": "tiny",
            "title": "Tiny",
            "source": {"dandiset": "000999", "version": version},
        }
        path = tmp_path / "registry.yaml"
        path.write_text(yaml.safe_dump({"datasets": [{**entry, "expect": expect}]}))
        return path

    def verify(version: str, **expect: int) -> Result:
        return run("verify", "--root", root, "--manifest", registry(version, **expect))

    with LoopbackArchive(tmp_path / "archive") as archive:
        prepare = ("prepare", "manifest", "tiny", "--root", root, "--instance", archive.api_url)
        chosen = ("--manifest", registry("0.1.0"), "--jobs", "1")
        assert run(*prepare, *chosen, "--include", "*ses-1*").exit_code == 0
        partly = verify("0.1.0", sessions=2, units=182)
        assert run(*prepare, *chosen).exit_code == 0
    assert partly.exit_code == 0
    assert "✓ tiny\n    · 1 of 2 sessions prepared" in partly.output
    right = verify("0.1.0", sessions=2, units=11)
    assert right.exit_code == 0
    assert "✓ tiny\n    · sessions, units as the registry expects" in right.output
    wrong = verify("0.1.0", sessions=2, units=182)
    assert wrong.exit_code == 1
    assert "✗ tiny\n    ✗ 182 units expected, 11 there" in wrong.output
    more = verify("0.1.0", sessions=1)
    assert "✗ 1 sessions expected, 2 there" in more.output
    newer = verify("0.2.0", sessions=2, units=182)
    assert newer.exit_code == 0
    assert "version 0.1.0 is not compared: 0.2.0 is pinned" in newer.output


def mislabelled(file: NWBFile, rng: np.random.Generator) -> None:
    """A reaching hand, its velocity in cm/s and labelled m/s."""
    for times in spike_trains(rng, 3):
        file.add_unit(spike_times=times)
    stamps = np.arange(3000) / 100
    position = 0.1 * np.sin(2 * np.pi * np.outer(stamps, (0.7, 1.1)))
    velocity = np.gradient(position, 0.01, axis=0)
    module = file.create_processing_module("behavior", "reaching")
    for name, data, unit in (("hand_pos", position, "m"), ("hand_vel", 100 * velocity, "m/s")):
        module.add(TimeSeries(name=name, data=data, unit=unit, rate=100.0))


def test_validate_finds_a_velocity_in_another_unit(corpus: Dataset, tmp_path: Path) -> None:
    sane = run("validate", "--root", corpus.root)
    assert sane.exit_code == 0
    prepare_files(tmp_path / "corpus", write(tmp_path / "sub-A.nwb", mislabelled))
    result = run("validate", "--root", tmp_path / "corpus")
    assert result.exit_code == 1
    assert "✗ local/sub-A" in result.output
    assert "✗ hand_vel: it is 100 times the derivative of hand_pos" in result.output
    assert "1 of 1 sessions contradict themselves" in result.output
    plain = json.loads(run("validate", "--root", tmp_path / "corpus", "--json").stdout)
    errors = [f["subject"] for f in plain["local/sub-A"] if f["level"] == "error"]
    assert errors == ["hand_vel"]


def test_validate_goes_on_after_a_store_that_cannot_be_read(
    corpus: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(corpus.root, tmp_path / "corpus")
    store = tmp_path / "corpus" / f"{corpus.sessions[0]}.zarr"
    shutil.rmtree(store / "spikes")
    result = run("validate", "--root", tmp_path / "corpus")
    assert result.exit_code == 1
    assert "run neurobrick verify" in result.output
    assert f"✓ {corpus.sessions[-1]}" in result.output


def completed(*words: str) -> list[str]:
    """What bash is offered for the last of `words`."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    found = CliRunner().invoke(
        main, env=asked | {"_NEUROBRICK_COMPLETE": "bash_complete"}, prog_name="neurobrick"
    )
    return [line.partition(",")[2] for line in found.output.split()]


def test_shells_complete_sessions_and_commands(corpus: Dataset, tmp_path: Path) -> None:
    here = ("--root", str(corpus.root))
    assert completed("neurobrick", "val") == ["validate"]
    assert completed("neurobrick", "info", *here, "local/sub-S") == [
        session for session in corpus if session.startswith("local/sub-S")
    ]
    assert SESSION not in completed("neurobrick", "verify", *here, SESSION, "local")
    assert completed("neurobrick", "info", "--root", str(tmp_path), "local") == []


def test_datasets_complete_from_the_registry() -> None:
    context = click.Context(main, info_name="neurobrick")
    found = complete_dataset(context, main.params[0], "mc_maze")
    titles = {spec.id: spec.title for spec in Manifest.load().datasets}
    assert len(found) >= 4
    for item in found:
        assert item.value.startswith("mc_maze")
        assert item.help == titles[item.value]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_NEUROBRICK_COMPLETE={shell}_complete" in result.output


@pytest.mark.slow
def test_piped_output_is_plain(corpus: Dataset) -> None:
    program = "from neurobrick.cli import main; main()"
    for command in ("list", "verify", "validate"):
        result = subprocess.run(
            [sys.executable, "-c", program, command, "--root", str(corpus.root)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "40"},
            capture_output=True,
            check=True,
        )
        assert b"\x1b" not in result.stdout + result.stderr
        assert b"\r" not in result.stdout + result.stderr
        for session in corpus:
            assert session.encode() in result.stdout


def test_help_loads_nothing_heavy() -> None:
    """No numpy, no pyarrow, no rich: help and completion answer at once."""
    program = (
        "import sys\n"
        "from neurobrick.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print({'numpy', 'pyarrow', 'rich', 'pydantic', 'h5py'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "set()"


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
        (["prepare", "manifest", "nothing"], 1, "the registry has no 'nothing'"),
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
    recipe = Path(__file__).parents[2] / "recipes" / "linear_track.yaml"
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train, [str(recipe), "--set", setting], catch_exceptions=False)
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
