"""Fixtures: NWB files in every layout, prepared once a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurobrick import Dataset
from neurobrick.manifest import DatasetSpec
from neurobrick.prepare import Outcome, plan, prepare
from neurobrick.sources import LocalSource
from tests.layouts import LAYOUTS, write


def prepare_files(root: Path, *paths: Path, spec: DatasetSpec | None = None) -> list[Outcome]:
    """Prepare files on this machine into `root`, in this process."""
    source = LocalSource(paths)
    jobs = plan(source, spec or DatasetSpec.discovered("local"), root)
    return prepare(source, jobs, root)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One NWB file of every layout that the tests write themselves."""
    folder = tmp_path_factory.mktemp("nwb")
    return {
        name: write(folder / f"sub-A_ses-{name.replace('_', '-')}.nwb", layout)
        for name, layout in LAYOUTS.items()
    }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> Dataset:
    """Those files, prepared."""
    root = tmp_path_factory.mktemp("corpus")
    outcomes = prepare_files(root, *files.values())
    assert [outcome.status for outcome in outcomes] == ["prepared"] * len(files), outcomes
    return Dataset(root)


@pytest.fixture
def recording(files: dict[str, Path]) -> Path:
    """A small file that prepares."""
    return files["regular"]
