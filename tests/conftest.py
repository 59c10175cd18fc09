"""Fixtures: NWB files in every layout, prepared once a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurobrick import Dataset
from neurobrick.prepare.conduct import prepare
from neurobrick.prepare.plan import Outcome, plan
from neurobrick.registry import DatasetSpec
from neurobrick.simulate import simulate
from neurobrick.sources.local import LocalSource
from tests.support.buckets import isolated, moto, s3, web  # noqa: F401 (fixtures)
from tests.support.layouts import LAYOUTS, write
from tests.support.refusals import refuse  # noqa: F401 (a fixture)


def prepare_files(root: Path, *paths: Path, spec: DatasetSpec | None = None) -> list[Outcome]:
    """Prepare files on this machine into `root`, in this process."""
    source = LocalSource(paths)
    return prepare([plan(source, spec or DatasetSpec.discovered("local"), root)], root)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One NWB file of every layout that the tests write themselves."""
    folder = tmp_path_factory.mktemp("nwb")
    return {
        name: write(folder / f"sub-A_ses-{name.replace('_', '-')}.nwb", layout)
        for name, layout in LAYOUTS.items()
    }


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small simulated file in the layout of each dandiset, by its number."""
    folder = tmp_path_factory.mktemp("simulated")
    made: dict[str, Path] = {}
    for layout in ("000128", "000688"):
        (session,) = simulate(folder, layout=layout, sessions=1, units=6, minutes=1)
        made[layout] = session.path
    return made


@pytest.fixture(scope="session")
def corpus(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path], simulated: dict[str, Path]
) -> Dataset:
    """All those files, prepared by discovery."""
    root = tmp_path_factory.mktemp("corpus")
    outcomes = prepare_files(root, *files.values(), *simulated.values())
    assert {outcome.status for outcome in outcomes} == {"prepared"}, outcomes
    return Dataset(root)


@pytest.fixture
def recording(files: dict[str, Path]) -> Path:
    """A small file that prepares."""
    return files["regular"]
