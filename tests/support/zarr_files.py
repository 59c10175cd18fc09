"""Zarr stores of NWB for tests: real ones from hdmf-zarr, and small ones made by hand.

hdmf-zarr needs zarr 2 and lives in an environment of its own: `make test` makes it, and
NEUROBRICK_ZARR2_PYTHON names the interpreter of another. Without one, tests that need it skip.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

HERE = Path(__file__).parent
CONVERT = HERE / "hdmf_zarr" / "convert.py"


def has_hdmf_zarr() -> bool:
    """Whether there is an interpreter that has hdmf-zarr."""
    return _python().is_file()


def zarr2_python() -> Path:
    """The interpreter that has hdmf-zarr; skips the test when there is none."""
    if not has_hdmf_zarr():
        pytest.skip("no environment with hdmf-zarr: make test creates it")
    return _python()


def _python() -> Path:
    named = os.environ.get("NEUROBRICK_ZARR2_PYTHON")
    return Path(named) if named else HERE.parents[1] / ".venv-zarr2" / "bin" / "python"


def convert(source: Path, target: Path, *options: str) -> Path:
    """Export the HDF5 NWB file `source` with hdmf-zarr to the folder `target`."""
    command = [str(zarr2_python()), str(CONVERT), str(source), str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@dataclass
class MemoryFiles:
    """A store in memory, which writes down what is read of it."""

    files: dict[str, bytes]
    reads: list[list[str]] = field(default_factory=list)

    def listing(self) -> Mapping[str, int]:
        return {key: len(data) for key, data in self.files.items()}

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        self.reads.append(list(keys))
        return {key: self.files[key] for key in keys if key in self.files}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files of a store, in a folder."""
    for key, data in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def group(path: str = "", **attributes: Any) -> dict[str, bytes]:
    """The files of a group."""
    at = f"{path}/" if path else ""
    files = {f"{at}.zgroup": b'{"zarr_format": 2}'}
    return files | ({f"{at}.zattrs": json.dumps(attributes).encode()} if attributes else {})


def array(
    path: str,
    values: np.ndarray,
    chunks: tuple[int, ...] | None = None,
    compressor: dict[str, Any] | None = None,
    filters: list[dict[str, Any]] | None = None,
    order: Any = "C",
    separator: str = ".",
    **attributes: Any,
) -> dict[str, bytes]:
    """The files of an array, encoded as the Zarr v2 specification says, with numcodecs alone."""
    chunks = chunks or values.shape
    metadata = {
        "zarr_format": 2, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str,
        "compressor": compressor, "filters": filters, "order": order, "fill_value": 0,
        "dimension_separator": separator,
    }  # fmt: skip
    files = {f"{path}/.zarray": json.dumps(metadata).encode()}
    if attributes:
        files[f"{path}/.zattrs"] = json.dumps(attributes).encode()
    for at in np.ndindex(*(-(-n // c) for n, c in zip(values.shape, chunks, strict=True))):
        whole = np.zeros(chunks, values.dtype)
        part = values[tuple(slice(k * c, (k + 1) * c) for k, c in zip(at, chunks, strict=True))]
        whole[tuple(slice(0, n) for n in part.shape)] = part
        data: Any = whole.reshape(-1, order=order)
        for codec in [*(filters or []), *([compressor] if compressor else [])]:
            data = numcodecs.get_codec(codec).encode(data)
        name = separator.join(map(str, at)) or "0"
        files[f"{path}/{name}"] = data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
    return files
