"""A store that may not be read is reported. It is not passed over as if it were not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurobrick import Dataset
from neurobrick.checks.unreadable import unreadable
from neurobrick.cli import main

CLOSED = "local/sub-A_ses-regular"


def a_loop(store: Path) -> None:
    """A manifest that links to itself cannot be opened by anybody."""
    (store / "manifest.json").unlink()
    (store / "manifest.json").symlink_to("manifest.json")


def no_permission(store: Path) -> None:
    store.chmod(0)


as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.fixture
def root(corpus: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.root, tmp_path / "corpus"))


@pytest.mark.parametrize("close", [a_loop, pytest.param(no_permission, marks=as_user)])
@pytest.mark.parametrize("command", ["verify", "validate"])
def test_a_store_that_may_not_be_read(
    command: str, close: Callable[[Path], None], root: Path
) -> None:
    store = root / f"{CLOSED}.zarr"
    close(store)
    try:
        assert list(unreadable(root).stores) == [CLOSED]
        for sessions in ([], [CLOSED]):
            result = CliRunner().invoke(main, [command, *sessions, "--root", str(root)])
            assert result.exit_code == 1
            assert f"cannot read {store}" in result.output
            assert "there is no" not in result.output
    finally:
        store.chmod(0o755)


@as_user
@pytest.mark.parametrize("command", ["verify", "validate"])
def test_a_dataset_that_may_not_be_listed(command: str, root: Path) -> None:
    (root / "local").chmod(0)
    try:
        for sessions in ([], [CLOSED]):
            result = CliRunner().invoke(main, [command, *sessions, "--root", str(root)])
            assert result.exit_code == 1
            assert f"cannot read {root / 'local'}" in result.output
    finally:
        (root / "local").chmod(0o755)


def test_a_corpus_that_may_be_read_has_none(corpus: Dataset) -> None:
    assert unreadable(Path(corpus.root)).stores == {}
    assert unreadable(Path(corpus.root) / "nowhere").datasets == {}
