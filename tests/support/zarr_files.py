"""Zarr stores of NWB for tests: real ones from hdmf-zarr, and small ones made by hand.

hdmf-zarr up to 0.13 writes Zarr format 2 and needs zarr 2. From 0.14 on it writes format 3. Each
has an environment of its own, which `make test` makes. NEUROBRICK_ZARR2_PYTHON and
NEUROBRICK_ZARR3_PYTHON name the interpreters of others. Without one, tests that need it skip.
"""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

HERE = Path(__file__).parent
PROGRAMS = {2: "convert.py", 3: "convert_v3.py"}  # by Zarr format


def has_hdmf_zarr(zarr_format: int = 2) -> bool:
    """Whether there is an interpreter with an hdmf-zarr that writes Zarr format 2 or 3."""
    return _python(zarr_format).is_file()


def hdmf_zarr_python(zarr_format: int) -> Path:
    """The interpreter with an hdmf-zarr that writes the format; skips the test if there is none."""
    if not has_hdmf_zarr(zarr_format):
        pytest.skip(f"no environment with hdmf-zarr for Zarr {zarr_format}: make test creates it")
    return _python(zarr_format)


def _python(zarr_format: int) -> Path:
    named = os.environ.get(f"NEUROBRICK_ZARR{zarr_format}_PYTHON")
    return Path(named) if named else HERE.parents[1] / f".venv-zarr{zarr_format}/bin/python"


def convert(source: Path, target: Path, *options: str, zarr_format: int = 2) -> Path:
    """Export the HDF5 NWB file `source` with hdmf-zarr to the folder `target`."""
    program = HERE / "hdmf_zarr" / PROGRAMS[zarr_format]
    python = hdmf_zarr_python(zarr_format)
    command = [str(python), str(program), str(source), str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@dataclass
class MemoryFiles:
    """A store in memory that records its reads."""

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


def group3(path: str = "", **attributes: Any) -> dict[str, bytes]:
    """The file of a Zarr v3 group."""
    node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return {f"{path}/zarr.json".lstrip("/"): json.dumps(node).encode()}


def array3(
    path: str,
    values: np.ndarray,
    chunks: tuple[int, ...] | None = None,
    *,
    with_zarr: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> dict[str, bytes]:
    """The files of a Zarr v3 array, as zarr-python writes it with the settings `with_zarr`."""
    memory: dict[str, Any] = {}
    settings = {"chunks": chunks or tuple(max(n, 1) for n in values.shape)} | dict(with_zarr or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types and codecs that have no specification yet
        made = zarr.create_array(
            MemoryStore(memory), name=path, data=values, attributes=attributes, **settings
        )
    assert made.shape == values.shape
    return {key: data.to_bytes() for key, data in memory.items() if key.startswith(f"{path}/")}
