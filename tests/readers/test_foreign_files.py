"""Broken and hostile files are refused or repaired, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from neurobrick import Dataset
from neurobrick.store import damage
from tests.support.foreign_files import FOREIGN, SECRET
from tests.support.layouts import regular, write

pytestmark = pytest.mark.slow

MAX_SECONDS = 10.0  # of processor time, so that other work beside it does not count
MAX_BYTES = 500 * 10**6

if not Path("/proc/self/status").exists():
    pytest.skip("memory is read from /proc", allow_module_level=True)

# Prepares each file in this one process; prints processor time, and the largest memory so far.
PROGRAM = textwrap.dedent(
    """
    import json, re, sys, time
    from pathlib import Path
    from tests.conftest import prepare_files
    root = Path(sys.argv[1])
    for name in sys.argv[2:]:
        began = time.process_time()
        (outcome,) = prepare_files(root, Path(name))
        took = time.process_time() - began
        left = [[item.path, item.reason] for item in outcome.left]
        # Of this program alone: ru_maxrss begins with the memory of the process that forked it.
        memory = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        print(json.dumps([outcome.status, outcome.reason, left, took, 1024 * memory]), flush=True)
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """Status, reason, what was left, processor time in s, and memory in bytes, of each file."""
    paths = []
    for name, foreign in FOREIGN.items():
        paths.append(folder / f"{name}.nwb")
        foreign.write(paths[-1])
    command = [sys.executable, "-c", PROGRAM, str(folder / "corpus"), *map(str, paths)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(FOREIGN, lines, strict=True))


def test_there_are_many() -> None:
    assert len(FOREIGN) >= 20


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_or_repaired_as_the_policy_says(name: str, results: dict[str, Any]) -> None:
    status, reason, left, _, _ = results[name]
    expected = FOREIGN[name]
    assert status == expected.status, reason
    if expected.left is None:
        assert expected.said in reason
        assert "\n" not in reason
    else:
        assert any(p == expected.left and expected.said in why for p, why in left), left


@pytest.mark.parametrize("name", FOREIGN)
def test_it_takes_little_time_and_memory(name: str, results: dict[str, Any]) -> None:
    *_, seconds, memory = results[name]
    assert seconds < MAX_SECONDS
    assert memory < MAX_BYTES  # of all files so far, in one process


def test_what_was_prepared_is_whole_and_nothing_else_is_there(
    folder: Path, results: dict[str, Any]
) -> None:
    root = folder / "corpus"
    ds = Dataset(root)
    made = sorted(f"local/{name}" for name, result in results.items() if result[0] == "prepared")
    assert ds.sessions == made
    assert sorted(path.name for path in (root / "local").iterdir()) == [
        f"{session.removeprefix('local/')}.zarr" for session in made
    ]
    for session in ds:
        assert damage(root / f"{session}.zarr") == []


def test_nothing_of_another_file_came_along(folder: Path, results: dict[str, Any]) -> None:
    for session in (ds := Dataset(folder / "corpus")):
        arrays = [ds[session].spike_arrays()[0]]
        arrays += [ds[session].behavior_arrays(name)[1] for name in ds[session].behavior]
        for array in arrays:
            assert not set(SECRET.tolist()) & set(array.reshape(-1).tolist())


def test_no_payload_ran(results: dict[str, Any]) -> None:
    assert not (Path(__file__).parents[2] / "payload-ran").exists()


def test_the_command_line_says_it_in_one_line_each(folder: Path, results: dict[str, Any]) -> None:
    names = ["noise", "a_bomb_of_spikes", "an_index_that_falls", "circles_of_links"]
    write(folder / "good.nwb", regular)
    files = [str(folder / f"{name}.nwb") for name in (*names, "good")]
    command = [sys.executable, "-m", "neurobrick", "prepare", "nwb", *files]
    done = subprocess.run(
        [*command, "--root", str(folder / "again")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert any(
        line.startswith("2 prepared, 1 skipped, 2 failed") for line in done.stdout.splitlines()
    )
    assert len(Dataset(folder / "again")) == 2
