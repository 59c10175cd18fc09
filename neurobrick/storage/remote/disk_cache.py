"""Files of remote storages, kept on this machine's disk and shared by its processes.

A file is kept under what it is: its address and the checksum of its content. So nothing in the
cache can be out of date, and what does not match its checksum any more is fetched again.
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
BUDGET = 20 * 2**30
TOUCH_AFTER = 60  # seconds between two marks that a file is in use
ABANDONED_AFTER = 3600  # seconds after which a file half written is one of a process that ended
PAUSE = 60  # seconds without a try to write, after one that failed

log = logging.getLogger("neurobrick")


class DiskCache:
    """Files in `folder`, `budget` bytes of them, of which those that were used last stay.

    The folder is NEUROBRICK_CACHE_DIR, or the user's cache folder, unless given. The budget is held
    to within some hundredths, and by each process that writes. No method raises: a cache that
    cannot be read or written, as on a full disk, is one without files.
    """

    def __init__(self, folder: Path | None = None, budget: int = BUDGET) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        folder = folder or (Path(named) if named else user_cache_path("neurobrick"))
        self.folder = folder.absolute()
        self.budget = budget
        self._unseen = budget  # bytes written since the last look at the whole; look at the first
        self._paused_until = 0.0

    def __reduce__(self) -> tuple[type[DiskCache], tuple[Path, int]]:
        return (DiskCache, (self.folder, self.budget))

    def holds(self, address: str, crc: int) -> bool:
        """Whether there is a file that should have the content."""
        return os.path.exists(self._path(address, crc))  # noqa: PTH110 (asked of every file)

    def get(self, address: str, crc: int) -> bytes | None:
        """The content at `address` that has this crc32c, if it is here."""
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
        """Keep `content`, if it has this crc32c."""
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
        """When each file was used, its bytes and its path; without what others have abandoned."""
        found = []
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
                    found.append((status.st_mtime, status.st_size, entry.path))
        return found

    def _path(self, address: str, crc: int) -> str:
        key = hashlib.sha256(f"{crc:08x} {address}".encode()).hexdigest()
        return f"{self.folder}/{key[:2]}/{key[2:]}"


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except OSError:  # another process was faster, or has it open
        return
