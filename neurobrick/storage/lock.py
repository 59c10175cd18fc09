"""Locks of folders: one process at a time changes what is in them.

The system releases a lock however its process ends. Some file systems have no locks (NFS mounted
with `nolock`, Lustre with `localflock` off, many FUSE file systems). There, work goes on without a
lock.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from neurobrick.errors import StoreError

LOCK = ".lock"

# Errors of file systems without locks. EIO comes from FUSE, and from NFS without its lock server.
# A disk that fails says so again when it is written to.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO}

log = logging.getLogger("neurobrick")


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Hold the lock of the corpus at `root`, which is made if there is none.

    Raises StoreError when another process holds it, or `root` cannot be written. Exceptions of the
    body pass unchanged.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = acquire(root / LOCK)
    except filelock.Timeout as error:
        raise StoreError(
            f"another neurobrick is at work in {root}: wait for it, or choose another --root"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write to {root}: {error.strerror or error}") from error
    try:
        yield
    finally:
        release(lock)


def acquire(path: Path) -> filelock.BaseFileLock | None:
    """Take the lock of the file `path`, without waiting; None, and a warning, where the file system
    has no locks.

    Raises filelock.Timeout when another process holds it, OSError when the file cannot be made.
    """
    lock = filelock.FileLock(path.absolute(), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        why = os.strerror(error.errno)
    except NotImplementedError:  # how older versions of filelock report ENOSYS
        why = os.strerror(errno.ENOSYS)
    else:
        return lock
    log.warning(
        "nothing is locked in %s, because its file system has no locks (%s): let no other"
        " neurobrick write there until this one ends",
        path.parent,
        why,
    )
    return None


def release(lock: filelock.BaseFileLock | None) -> None:
    """Release what `acquire` gave. The lock is lost at the end of the process in any case."""
    if lock is not None:
        with suppress(OSError):
            lock.release()
