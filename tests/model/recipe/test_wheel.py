"""Who has only installed the wheel simulates, prepares and trains, with no checkout in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
SHORT = [
    "training.steps=4",
    "training.batch=4",
    "training.validate_every=2",
    "training.device=cpu",
    "model.dim=16",
    "model.depth=1",
]


def run(*command: object, folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel; it sees the libraries of this one,
    but not this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, TOP],
        capture_output=True,
        text=True,
    )
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling cannot be had here, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "fresh")
    (packages,) = (folder / "fresh").glob("lib/python*/site-packages")
    run(*pip, "--python", folder / "fresh", "install", "--no-deps", wheel, folder=folder)
    libraries = sorted({path for path in sys.path if path.endswith("site-packages")})
    libraries = [path for path in libraries if sysconfig.get_path("stdlib") != path]
    # Appended to the path as they are, so that an editable install of this checkout has no effect.
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return folder / "fresh" / "bin"


@pytest.mark.slow
def test_the_wheel_alone_simulates_prepares_and_trains(installed: Path, tmp_path: Path) -> None:
    where = "import neurobrick, neurobrick_model; print(neurobrick.__file__)"
    assert str(installed.parent) in run(installed / "python", "-c", where, folder=tmp_path)
    neurobrick, train = installed / "neurobrick", installed / "neurobrick-train"
    run(neurobrick, "simulate", "archive", "--sessions", 1, "--minutes", 1, folder=tmp_path)
    run(neurobrick, "prepare", "nwb", "archive", "--root", "data", folder=tmp_path)
    listed = run(train, "recipes", folder=tmp_path)
    names = [path.stem for path in sorted((TOP / "recipes").glob("*.yaml"))]
    assert [line.split()[0] for line in listed.splitlines()] == names
    (tmp_path / "mine.yaml").write_text(run(train, "recipes", "own", folder=tmp_path))
    overrides = [part for setting in SHORT for part in ("--set", setting)]
    for recipe, name in (("own", "by_name"), ("mine.yaml", "by_path")):
        named = ["--set", f"name={name}"]
        run(train, recipe, *overrides, *named, folder=tmp_path)
        metrics = json.loads((tmp_path / "runs" / name / "metrics.json").read_text())
        assert metrics["training"]["steps"] == 4
        assert (tmp_path / "runs" / name / "report.html").exists()
