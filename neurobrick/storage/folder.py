"""A corpus in a folder of this machine."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from errno import ENOENT
from functools import partial
from pathlib import Path

from neurobrick.errors import StoreError

ABSENT = (FileNotFoundError, NotADirectoryError)


class Folder:
    """The files below `path`, which is made absolute: a later change of directory changes nothing.

    Folders are no files. Links to folders are followed.
    """

    is_remote = False
    lists = True

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._prefix = f"{self.path}/"

    @property
    def url(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        if ".." in name or name.startswith("/"):
            self._inside(name)
        # Plain open: a store is read as some dozen small files, and pathlib is slow.
        try:
            with open(self._prefix + name, "rb", buffering=0) as file:  # noqa: PTH123
                return file.read()
        except FileNotFoundError:
            raise
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), error.filename) from error
        except OSError as error:
            raise self._failure("read", name, error) from error
        except ValueError as error:  # a NUL in the name
            raise self._failure("read", name, error) from error

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files. Raises FileNotFoundError."""
        return [self.read(name) for name in names]

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Each call reads one of the files, and raises FileNotFoundError."""
        return [partial(self.read, name) for name in names]

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Nothing: the system reads ahead better."""

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and the bytes of each file."""
        start = self._inside(prefix.rpartition("/")[0])
        sizes = {}
        for folder, names in self._folders(start):
            below = Path(folder).relative_to(self.path).as_posix()
            for file in names:
                name = file if below == "." else f"{below}/{file}"
                if name.startswith(prefix):
                    with suppress(FileNotFoundError):  # removed meanwhile, or a link to nowhere
                        status = os.stat(f"{folder}/{file}")  # noqa: PTH116
                        if stat.S_ISREG(status.st_mode):
                            sizes[name] = status.st_size
        return dict(sorted(sizes.items()))

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or the file stays as it was."""
        path = self._inside(name)
        staged = path.with_name(f".staging-{os.getpid()}-{threading.get_ident()}-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        except OSError as error:
            raise self._failure("write", name, error) from error
        finally:
            with suppress(OSError):
                staged.unlink(missing_ok=True)

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; absent ones are no error."""
        for name in names:
            path = self._inside(name)
            try:
                if not path.is_dir():
                    path.unlink()
            except ABSENT:
                continue
            except OSError as error:
                raise self._failure("delete", name, error) from error

    def _folders(self, start: Path) -> Iterator[tuple[str, list[str]]]:
        """Each folder from `start` on, once, and the names in it that are no folders."""
        seen = set()

        def refuse(error: OSError) -> None:
            if isinstance(error, ABSENT):  # removed meanwhile
                return
            folder = Path(str(error.filename))
            # What the system keeps in the root of a disk is no part of a corpus.
            hidden = folder.name.startswith(".") or folder.name == "lost+found"
            if not (hidden and folder.parent == self.path):
                raise self._failure("read", folder.relative_to(self.path).as_posix(), error)

        for folder, folders, names in os.walk(start, onerror=refuse, followlinks=True):
            with suppress(*ABSENT):
                status = os.stat(folder)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in seen:  # links that lead in a circle
                    folders.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                yield folder, names

    def _inside(self, name: str) -> Path:
        if Path(name).anchor or ".." in Path(name).parts:
            raise StoreError(f"{name!r} leads out of {self.path}")
        if "\0" in name:
            raise StoreError(f"{name!r} is no name of a file in {self.path}")
        return self.path / name

    def _failure(self, verb: str, name: str, error: OSError | ValueError) -> StoreError:
        reason = getattr(error, "strerror", None) or error
        return StoreError(f"cannot {verb} {self._prefix}{name}: {reason}")
