"""The files of a run, written beside their place and then moved there: a file that exists is
complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from neurobrick import StoreError

# Import torch lazily, so that `compare`, which reads no tensors, starts quickly.
if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to. It is moved to `path` when the block ends, and removed when it raises.

    The file gets the mode that the umask asks for, whatever mode the writing library gave it:
    safetensors 0.8.1 writes files that only their owner may read.

    Raises StoreError when the file cannot be written, as on a full disk; an older file at `path` is
    kept then.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)  # left by a killed process of the same number
        aside.touch()
        mode = stat.S_IMODE(aside.stat().st_mode)
        yield aside
        if stat.S_IMODE(aside.stat().st_mode) != mode:
            aside.chmod(mode)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """A folder to write files to. It is moved to `folder` when the block ends, and removed when it
    raises.

    `names` are the files that may be written. With `force`, an existing `folder` is replaced if it
    holds the first of `names`, and no file of another name.

    Raises StoreError when `folder` exists and is not replaced, or when it cannot be written; an
    older folder is kept then.
    """
    folder = folder.resolve()
    try:
        existing = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror or error}") from error
    foreign = [name for name in existing if name not in names or names[0] not in existing]
    if foreign:
        raise StoreError(f"{folder} is not empty, it holds {foreign[0]}: name a new folder")
    if existing and not force:
        raise StoreError(f"{folder} is there already: name a new folder, or replace it by --force")
    aside, old = (folder.with_name(f".{folder.name}.{os.getpid()}{tail}") for tail in ("", ".old"))
    try:
        aside.mkdir(parents=True)
        yield aside
        if existing:
            folder.replace(old)
        try:
            aside.replace(folder)
        except OSError:
            if existing:
                old.replace(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _not_written(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, an OSError becomes a StoreError that says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises StoreError when it cannot be written."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None when there is no such file. Raises StoreError when it
    cannot be read, or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: it is damaged: {error}") from error
    if not isinstance(content, dict):
        raise StoreError(f"cannot read {path}: it is damaged: it holds no JSON object")
    return content


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """`value` as JSON. NaN and infinities become null, since JSON has no numbers for them."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_weights(
    path: Path, weights: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors. Raises StoreError when the file cannot be written."""
    from safetensors.torch import save_file

    with replacing(path) as aside:
        tensors = {name: value.detach().contiguous() for name, value in weights.items()}
        save_file(tensors, aside, metadata)


@contextmanager
def reading_tensors(path: Path, what: str) -> Iterator[None]:
    """Within the block, whatever safetensors raises becomes a StoreError: "cannot read `what`
    `path`", and why.

    The file is opened once before: safetensors says "No such file" of a file that may not be read.
    """
    try:
        with path.open("rb"):
            pass
        yield
    except OSError as error:
        raise StoreError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"cannot read {what} {path}: it is damaged: {first}") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from safetensors. Raises StoreError when the file is absent, may not be read, or
    is damaged."""
    from safetensors.torch import load_file

    with reading_tensors(path, "the weights"):
        return load_file(path)


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file by name, read from its header alone. Raises
    StoreError as `load_weights` does."""
    with reading_tensors(path, "the weights"), safetensors.safe_open(path, "numpy") as file:
        names = file.keys()  # a list: the file itself cannot be iterated over
        return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def sha256(path: Path) -> str:
    """The digest of a file, as `sha256sum` prints it. Raises StoreError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def _not_written(path: Path, error: Exception) -> StoreError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return StoreError(f"cannot write {path}: {reason}")
