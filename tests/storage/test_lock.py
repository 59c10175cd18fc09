"""One run at a time, errors of its work unchanged, and file systems that have no locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from neurobrick import StoreError
from neurobrick.storage import lock
from neurobrick.storage.lock import only_run
from neurobrick.storage.remote.disk_cache import DiskCache

fcntl = pytest.importorskip("fcntl")

HOLDS = """
import sys
from pathlib import Path
from neurobrick.storage.lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_ends_however_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="another neurobrick is at work"), only_run(tmp_path):
            pass
        first.kill()
        first.wait()
        with only_run(tmp_path):
            pass


ERRNOS = sorted(errno.errorcode)


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_an_error_of_the_work_passes_unchanged(tmp_path: Path, number: int) -> None:
    error = OSError(number, os.strerror(number), "somewhere else")
    with pytest.raises(type(error)) as raised, only_run(tmp_path):
        raise error
    assert raised.value is error
    with only_run(tmp_path):  # and the lock is released
        pass


@pytest.mark.parametrize("error", [filelock.Timeout("other.lock"), TimeoutError(), KeyError("x")])
def test_no_error_of_the_work_is_taken_for_one_of_the_lock(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(type(error)) as raised, only_run(tmp_path):
        raise error
    assert raised.value is error


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every lock of this process is refused with an error of the system."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.filterwarnings("ignore:flock not supported:UserWarning")  # filelock's own, for ENOSYS
@pytest.mark.parametrize("number", sorted(lock.NO_LOCKS), ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    without_locks(monkeypatch, number)
    done = False
    with only_run(tmp_path / "new"):
        done = True
    assert done
    if number != errno.ENOSYS:  # there filelock uses a lock file of another kind, and warns
        assert "has no locks" in caplog.text
        assert str(tmp_path / "new") in caplog.text


def test_enosys_of_older_versions_of_filelock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with only_run(tmp_path):
        pass
    assert "has no locks" in caplog.text


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_root_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    target = (Path, "mkdir") if call == "mkdir" else (filelock.FileLock, "acquire")
    monkeypatch.setattr(*target, refuse)
    with (
        pytest.raises(StoreError, match=f"cannot write to {tmp_path}: {os.strerror(number)}"),
        only_run(tmp_path),
    ):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported:UserWarning")
@pytest.mark.parametrize("number", sorted(lock.NO_LOCKS), ids=errno.errorcode.get)
def test_the_cache_keeps_its_budget_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from neurobrick.storage.checksum import checksum

    without_locks(monkeypatch, number)
    cache = DiskCache(tmp_path / "cache", budget=10_000)
    for k in range(50):
        content = bytes([k]) * 1000
        cache.put(f"{k}", checksum(content), content)
    kept = [path for path in (tmp_path / "cache").rglob("*/*") if path.is_file()]
    assert 5 <= len(kept) <= 11
