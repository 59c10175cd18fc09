"""Files of a run, each written beside its place and then moved there: what exists is whole."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from neurobrick import StoreError

# torch is loaded with the first tensor: what compares runs, and reads none, is quick.
if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, moved to `path` when the block ends well and removed when it does not.

    Raises StoreError when it cannot be written, as on a full disk; what was there stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """A folder to write files of these `names` to, moved to `folder` when the block ends well and
    removed when it does not. What is in `folder` is replaced with `force`, if it has only such
    names, and the first of them.

    Raises StoreError when it is not replaced, or cannot be written; what was there stays.
    """
    folder = folder.resolve()
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in there if name not in names or names[0] not in there]
    if others:
        raise StoreError(f"{folder} is not empty, it holds {others[0]}: name a new folder")
    if there and not force:
        raise StoreError(f"{folder} is there already: name a new folder, or replace it by --force")
    aside, old = (folder.with_name(f".{folder.name}.{os.getpid()}{tail}") for tail in ("", ".old"))
    try:
        aside.mkdir(parents=True)
        yield aside
        if there:
            folder.replace(old)
        try:
            aside.replace(folder)
        except OSError:
            if there:
                old.replace(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file of a run says, None when there is none. Raises StoreError when it is
    damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    return found


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """`value` as JSON; NaN and infinities become null, as JSON knows none."""
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
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    with replacing(path) as aside:
        whole = {name: value.detach().contiguous() for name, value in weights.items()}
        save_file(whole, aside, metadata)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from safetensors. Raises StoreError when the file is absent or damaged."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"cannot read the weights {path}: {error}") from error


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file, by name, out of its header. Raises
    StoreError when the file is absent or damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()  # not a dictionary's: it cannot be iterated over
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"cannot read the weights {path}: {error}") from error


def sha256(path: Path) -> str:
    """The digest of a file, as `sha256sum` prints it. Raises StoreError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
