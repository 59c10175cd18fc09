"""Opening an HDF5 file that the system does not give is no fault of the file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner

from neurobrick.cli import main
from neurobrick.errors import CorruptFile, SourceError, UnsupportedFile
from neurobrick.readers.hdf5 import open_hdf5
from neurobrick.readers.tree import boundary
from tests.support.layouts import regular, write

HOLD = "import sys, h5py; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); input()"
CRASH = """
import os, sys, h5py
file = h5py.File(sys.argv[1], "w", libver="v110")
file["x"] = 1
file.swmr_mode = True
os._exit(0)
"""


@contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Another process has the file open for writing."""
    command = [sys.executable, "-c", HOLD, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.communicate(b"\n")


@pytest.mark.slow
def test_a_file_that_is_open_elsewhere_fails_and_the_others_are_prepared(tmp_path: Path) -> None:
    busy, other = (write(tmp_path / name, regular) for name in ("busy.nwb", "other.nwb"))
    with held_open(busy):
        command = ["prepare", "nwb", str(busy), str(other), "--root", str(tmp_path / "root")]
        result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "1 prepared, 1 failed" in result.output
    assert "HDF5_USE_FILE_LOCKING=FALSE" in result.output
    assert "not an NWB file" not in result.output


SYSTEM = [
    errno.EAGAIN, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EACCES,
    errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT, errno.ENOENT,
]  # fmt: skip


def refused(number: int) -> OSError:
    """As h5py words it, whatever HDF5 was about to do."""
    return OSError(number, "Unable to synchronously open file (…)")


@pytest.mark.parametrize("number", SYSTEM, ids=errno.errorcode.get)
def test_what_the_system_refuses_is_a_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def opening(*_: Any, **__: Any) -> None:
        raise refused(number)

    monkeypatch.setattr(h5py, "File", opening)
    with (
        pytest.raises(SourceError, match=r"a\.nwb cannot be") as caught,
        open_hdf5(tmp_path / "a.nwb", "a.nwb"),
    ):
        pass
    assert os.strerror(number) in str(caught.value)


@pytest.mark.parametrize("number", SYSTEM, ids=errno.errorcode.get)
def test_a_read_that_the_system_refuses_is_a_source_error(number: int) -> None:
    with pytest.raises(SourceError, match=os.strerror(number)), boundary("units/id"):
        raise refused(number)


def test_a_read_that_the_library_refuses_is_a_corrupt_file() -> None:
    with pytest.raises(CorruptFile, match="units/id cannot be read"), boundary("units/id"):
        raise OSError("Can't synchronously read data (wrong fletcher32 checksum)")


def test_a_file_that_its_writer_left_open_names_h5clear(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=True)
    with pytest.raises(SourceError, match="h5clear -s"), open_hdf5(path, "a.nwb"):
        pass


def test_an_absent_file_is_no_unsupported_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"), open_hdf5(tmp_path / "a.nwb", "a.nwb"):
        pass


def test_a_file_that_is_not_hdf5_stays_unsupported(tmp_path: Path) -> None:
    (tmp_path / "a.nwb").write_bytes(b"text" * 100)
    with (
        pytest.raises(UnsupportedFile, match="not an NWB file"),
        open_hdf5(tmp_path / "a.nwb", "a.nwb"),
    ):
        pass
