"""The lock of a corpus: one run at a time changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from neurobrick.errors import StoreError

LOCK = ".lock"


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Hold the lock of `root`, which the system lets go of however the run ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / LOCK, timeout=0)
        with lock:
            yield
    except filelock.Timeout as error:
        raise StoreError(
            f"another neurobrick is at work in {root}: wait for it, or choose another --root"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write to {root}: {error.strerror or error}") from error
