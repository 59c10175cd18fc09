"""Replacing a folder by another, in one step where the system can."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h
RENAME_SWAP = 2  # macOS sys/stdio.h


def exchange(staged: Path, path: Path) -> None:
    """Move the folder `staged` to `path`, and remove the folder that was there.

    Linux and macOS exchange two folders in one step, so that a reader finds the old folder or the
    new one. Other systems, and some file systems, cannot: there the old folder is renamed first,
    and for a moment a reader finds none. Raises OSError.
    """
    if not path.exists():
        staged.rename(path)
        return
    aside = staged
    if not _exchanged(staged, path):
        aside = staged.with_name(f"{staged.name}.old")
        path.rename(aside)
        staged.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    """Exchange two folders. False where the system or the file system cannot."""
    names = os.fsencode(a), os.fsencode(b)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return libc.renamex_np(*names, RENAME_SWAP) == 0
        return libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    except (OSError, TypeError, AttributeError):  # no such library, or no such call in it
        return False
