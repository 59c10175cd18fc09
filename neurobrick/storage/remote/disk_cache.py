"""Files of remote storages, kept on this machine's disk and shared by its processes.

The key of a file is its address and the checksum of its content. So the cache is never out of date,
and a file that no longer matches its checksum is fetched again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from filelock import Timeout
from platformdirs import user_cache_path

from neurobrick.storage.checksum import matches
from neurobrick.storage.lock import acquire, release

FOLDER_VARIABLE = "NEUROBRICK_CACHE_DIR"
BUDGET = 20 * 2**30  # bytes
TOUCH_AFTER = 60  # seconds before the time of last use of a file is written again
ABANDONED_AFTER = 3600  # seconds; an older half-written file is of a process that has ended
PAUSE = 60  # seconds without writing, after a write that failed

log = logging.getLogger("neurobrick")


class DiskCache:
    """At most `budget` bytes of files in `folder`; the least recently used are removed.

    The default folder is NEUROBRICK_CACHE_DIR, or the user's cache folder. Each process that writes
    keeps to the budget, to within a few percent. No method raises: a cache that cannot be read or
    written, as on a full disk, behaves as an empty one.
    """

    def __init__(self, folder: Path | None = None, budget: int = BUDGET) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        folder = folder or (Path(named) if named else user_cache_path("neurobrick"))
        self.folder = folder.absolute()
        self.budget = budget
        self._unseen = budget  # bytes written since files were counted; count at the first write
        self._paused_until = 0.0

    def __reduce__(self) -> tuple[type[DiskCache], tuple[Path, int]]:
        return (DiskCache, (self.folder, self.budget))

    def holds(self, address: str, crc: int) -> bool:
        """Whether there is a file for this content; it may be damaged."""
        return os.path.exists(self._path(address, crc))  # noqa: PTH110 (asked of every file)

    def get(self, address: str, crc: int) -> bytes | None:
        """The content at `address` with this checksum, or None."""
        path = self._path(address, crc)
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                content = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if not matches(content, crc):
            _remove(path)
            return None
        if time.time() - used > TOUCH_AFTER:
            try:
                os.utime(path)
            except OSError:  # another process has removed it
                return content
        return content

    def put(self, address: str, crc: int, content: bytes) -> None:
        """Keep `content`, if it has this checksum."""
        size = len(content)
        if size > self.budget or time.monotonic() < self._paused_until:
            return
        if not matches(content, crc):
            return
        path = self._path(address, crc)
        staged = f"{path}.{os.getpid()}-{threading.get_ident()}"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
            Path(staged).write_bytes(content)
            os.replace(staged, path)  # noqa: PTH105
        except OSError as error:
            _remove(staged)
            self._paused_until = time.monotonic() + PAUSE
            log.warning("nothing is cached in %s for a minute: %s", self.folder, error.strerror)
            return
        self._unseen += size
        if self._unseen > self.budget // 32:
            self._unseen = 0
            self._evict()

    def _evict(self) -> None:
        """Remove the least recently used files, until nine tenths of the budget are left."""
        try:
            lock = acquire(self.folder / "lock")
        except (Timeout, OSError):  # another process does it, or nothing can be written here
            return
        try:
            with suppress(OSError):
                self._shrink()
        finally:
            release(lock)

    def _shrink(self) -> None:
        files = self._files()
        total = sum(size for _, size, _ in files)
        if total <= self.budget:
            return
        for _, size, path in sorted(files):
            _remove(path)
            total -= size
            if total <= self.budget * 0.9:
                return

    def _files(self) -> list[tuple[float, int, str]]:
        """Time of last use, bytes and path of each file. Abandoned files are removed."""
        files = []
        for folder in os.scandir(self.folder):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(folder):
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # removed meanwhile
                    continue
                if "." in entry.name and time.time() - status.st_mtime > ABANDONED_AFTER:
                    _remove(entry.path)
                else:
                    files.append((status.st_mtime, status.st_size, entry.path))
        return files

    def _path(self, address: str, crc: int) -> str:
        key = hashlib.sha256(f"{crc:08x} {address}".encode()).hexdigest()
        return f"{self.folder}/{key[:2]}/{key[2:]}"


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except OSError:  # another process was faster, or has it open
        return
