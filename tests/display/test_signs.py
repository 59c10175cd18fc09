"""Output that cannot encode every sign: no command dies of it, and signs become plain ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurobrick import Dataset
from tests.support.layouts import regular, write

ENCODINGS = {
    "windows": {"PYTHONIOENCODING": "cp1252"},
    "latin": {"PYTHONIOENCODING": "latin-1:strict"},
    "plain": {"PYTHONIOENCODING": "ascii"},
    "c-locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
SESSION = "local/sub-A_ses-with-gaps"


def run(encoding: str, *arguments: str | Path) -> str:
    """What `neurobrick ARGUMENTS` prints through a pipe of that encoding."""
    done = subprocess.run(
        [sys.executable, "-m", "neurobrick", *map(str, arguments)],
        env={k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG")}
        | ENCODINGS[encoding],
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_prints_on_any_output(encoding: str, corpus: Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.nwb", regular)
    prepared = run(encoding, "prepare", "nwb", tmp_path, "--root", tmp_path / "root")
    assert "+ local/a" in prepared
    assert "2 prepared" in prepared
    assert "cursor_pos" in run(encoding, "inspect", tmp_path / "a.nwb")
    here = ("--root", corpus.root)
    for command in (["list"], ["info", SESSION], ["verify"], ["validate"], ["verify", "--help"]):
        assert run(encoding, *command, *here)
    assert f"+ {SESSION}" in run(encoding, "verify", SESSION, *here)


@pytest.mark.slow
def test_an_output_that_has_the_signs_shows_them(corpus: Dataset) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neurobrick", "verify", SESSION, "--root", str(corpus.root)],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    assert "✓" in done.stdout.decode()
