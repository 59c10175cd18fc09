"""A corpus in a folder of this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import ENOENT
from functools import partial
from pathlib import Path

from neurobrick.errors import StoreError


class Folder:
    """The files below `path`."""

    is_remote = False
    lists = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = f"{path}/"

    @property
    def url(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The content of a file."""
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
            raise StoreError(f"cannot read {self._prefix}{name}: {error.strerror}") from error

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files."""
        return [self.read(name) for name in names]

    def fetch(self, names: Sequence[str], crcs: Sequence[int]) -> list[Callable[[], bytes]]:
        """Each call reads one of the files."""
        return [partial(self.read, name) for name in names]

    def read_ahead(self, names: Sequence[str], crcs: Sequence[int]) -> None:
        """Nothing: the system reads ahead better."""

    def files(self, prefix: str = "") -> dict[str, int]:
        """The names that begin with `prefix`, and their bytes."""
        folder = prefix.rpartition("/")[0]
        found = {}
        for path in self._inside(folder).rglob("*"):
            name = path.relative_to(self.path).as_posix()
            with suppress(FileNotFoundError):  # removed meanwhile
                if name.startswith(prefix) and path.is_file():
                    found[name] = path.stat().st_size
        return dict(sorted(found.items()))

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`: all of it, or what was there stays."""
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
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
        finally:
            staged.unlink(missing_ok=True)

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        for name in names:
            self._inside(name).unlink(missing_ok=True)

    def _inside(self, name: str) -> Path:
        if Path(name).anchor or ".." in Path(name).parts:
            raise StoreError(f"{name!r} leads out of {self.path}")
        return self.path / name
