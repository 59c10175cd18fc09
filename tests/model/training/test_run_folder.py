"""A run's folder: one process at a time, one line when it cannot be written, modes as the umask
says."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from neurobrick import NeurobrickError, RecipeError, StoreError
from neurobrick_model import Recipe, Trainer
from neurobrick_model.decoding.spec import WEIGHTS
from neurobrick_model.files import (
    load_weights,
    read_json,
    replacing,
    save_weights,
    sha256,
    weight_shapes,
    write_text,
)
from neurobrick_model.training.output.checkpoint import load_state, save_state
from neurobrick_model.training.output.curves import CURVES
from neurobrick_model.training.output.log import LOG, Log
from neurobrick_model.training.output.run_folder import LOCK, NO_LOCKS, exclusive
from tests.support.model.fakes import FakeDataset

NOBODY = 65534


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within the block, writing more than `size` bytes to a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def another_user() -> Iterator[None]:
    """Within the block, this process may do what any user may, even if the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def a_lock_that_is_a_folder(folder: Path) -> Path:
    (folder / "tiny" / LOCK).mkdir(parents=True)
    return folder


def a_lock_that_is_a_link(folder: Path) -> Path:
    (folder / "tiny").mkdir()
    (folder / "tiny" / LOCK).symlink_to(folder / "elsewhere")
    return folder


UNUSABLE = {
    "a file": a_file,
    "below a file": lambda folder: a_file(folder) / "runs",
    "a name that is too long": lambda folder: folder / ("x" * 300),
    "no real file system": lambda folder: Path("/proc/none/here"),
    "a lock that is a folder": a_lock_that_is_a_folder,
    "a lock that is a link": a_lock_that_is_a_link,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_folder_that_cannot_be_used_is_one_line(
    recipe: Recipe, dataset: FakeDataset, tmp_path: Path, kind: str
) -> None:
    runs = UNUSABLE[kind](tmp_path)
    run = Trainer(recipe.model_copy(update={"runs": runs}), dataset)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"cannot write to the run's folder .*runs=") as caught:
        run.fit()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("owned", ["runs", "run", "lock"])
def test_a_folder_of_another_user_is_one_line(open_folder: Path, owned: str) -> None:
    run = open_folder / "runs" / "x"
    run.parent.mkdir()
    if owned != "runs":
        run.mkdir()
    if owned == "lock":
        run.chmod(0o777)
        (run / LOCK).write_text("")
        (run / LOCK).chmod(0o600)
    for path in (run, run.parent):
        if path.exists() and owned != "lock":
            path.chmod(0o555)
    if owned == "lock" and os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    with (
        another_user(),
        pytest.raises(StoreError, match=r"cannot write to .*Permission denied.*runs="),
        exclusive(run),
    ):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("code", sorted(NO_LOCKS), ids=lambda code: errno.errorcode[code])
def test_a_file_system_without_locks_is_a_warning(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    lines: list[str] = []
    with exclusive(recipe.folder, lines.append):
        assert recipe.folder.is_dir()
    if code != errno.ENOSYS:  # then filelock itself locks in another way, and warns
        assert re.fullmatch(r"warning: .* file system without locks \(.+\): make sure .*", lines[0])


def test_an_error_inside_the_lock_is_not_the_locks(recipe: Recipe) -> None:
    with pytest.raises(BrokenPipeError), exclusive(recipe.folder):
        raise BrokenPipeError
    with exclusive(recipe.folder):
        pass


def lifecycle(folder: Path) -> None:
    log = Log(folder)
    for step in (20, 40, 60):
        log.write(step, loss=0.5, **{f"unknown{k}": None for k in range(20)})  # on no curve
        log.say(step, "the loss has risen")


def test_a_log_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Wherever in the log, or in the curves, the disk gets full."""
    lifecycle(tmp_path)
    files = [tmp_path / LOG, *(tmp_path / CURVES).iterdir()]
    longest = max(path.stat().st_size for path in files)
    assert longest > 300
    reasons = set()
    for size in range(1, longest, 23):
        folder = tmp_path / str(size)
        folder.mkdir()
        with files_of_at_most(size), pytest.raises(StoreError) as caught:
            lifecycle(folder)
        match = re.fullmatch(
            r"cannot write \S+(log|tfevents)\S+: File too large", str(caught.value)
        )
        assert match, caught.value
        reasons.add(match[1])
    assert reasons == {"log", "tfevents"}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 1000, 3000, 10_000, 40_000, 80_000])
def test_a_run_on_a_full_disk_ends_with_one_line(
    recipe: Recipe, dataset: FakeDataset, size: int
) -> None:
    run = Trainer(recipe, dataset)  # type: ignore[arg-type]
    with files_of_at_most(size), pytest.raises(StoreError, match=r"^cannot write \S+: ") as caught:
        run.fit()
    assert "\n" not in str(caught.value)
    assert not list(recipe.folder.rglob(f".*{os.getpid()}"))  # nothing half written is left


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_files_of_a_run_have_the_mode_that_the_umask_says(
    recipe: Recipe, dataset: FakeDataset, mask: int
) -> None:
    with umask(mask):
        Trainer(recipe, dataset).fit()  # type: ignore[arg-type]
    modes = {
        path.relative_to(recipe.folder): stat.S_IMODE(path.stat().st_mode)
        for path in recipe.folder.rglob("*")
        if path.is_file() and path.name != LOCK
    }
    assert len(modes) == 10
    assert set(modes.values()) == {0o666 & ~mask}, modes


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_mode_that_a_library_chose_is_not_kept(tmp_path: Path, mask: int) -> None:
    """As safetensors 0.8.1, which writes to a file of its own and moves it."""
    path = tmp_path / "weights"
    with umask(mask), replacing(path) as aside:
        aside.unlink()
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


READERS: dict[str, Any] = {
    "weights": load_weights,
    "shapes": weight_shapes,
    "checkpoint": load_state,
    "json": read_json,
    "digest": sha256,
    "recipe": Recipe.from_yaml,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_may_not_be_read_is_not_called_absent(open_folder: Path, reader: str) -> None:
    path = open_folder / "file"
    path.write_text("{}")
    path.chmod(0)
    with (
        another_user(),
        pytest.raises((StoreError, RecipeError), match=r"cannot read .*Permission denied"),
    ):
        READERS[reader](path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_one_line(tmp_path: Path, reader: str, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    if reader == "digest":
        assert len(sha256(path)) == 64
        return
    with pytest.raises(NeurobrickError) as caught:
        READERS[reader](path)
    assert "\n" not in str(caught.value)


WRITERS: dict[str, Any] = {
    "text": lambda path: write_text(path, "x"),
    "weights": lambda path: save_weights(path, {"x": torch.zeros(2)}),
    "checkpoint": lambda path: save_state(path, {"x": torch.zeros(2), "step": 3}),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["/proc/none/x", "absent/x", "file/x"])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, writer: str, place: str) -> None:
    a_file(tmp_path)
    with pytest.raises(StoreError, match=rf"cannot write .*{place}: ") as caught:
        WRITERS[writer](tmp_path / place)
    assert "\n" not in str(caught.value)


def test_nothing_outside_of_runs_is_deleted(tmp_path: Path) -> None:
    """`name: ..` with --force deleted the files of the folder above."""
    (tmp_path / WEIGHTS).write_text("mine")
    for name in ("..", ".", "../x", "x/../.."):
        with pytest.raises(RecipeError, match="name: must begin with a letter or digit"):
            Recipe.from_settings({"name": name, "runs": str(tmp_path / "runs")})
    assert (tmp_path / WEIGHTS).read_text() == "mine"
