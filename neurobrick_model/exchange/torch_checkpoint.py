"""Checkpoints of other projects, written by torch.save, read without running anything of them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from neurobrick import StoreError


def load_foreign(path: Path) -> Any:
    """Read a file that another project wrote with torch.save: tensors, and plain values around
    them. No code in the file is run.

    Raises StoreError when the file is absent or damaged, or holds anything else.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):  # torch.load does not look at its checksums
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} in it does not match its checksum")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"{path} is damaged, or holds objects that only running code from the file could read; "
            "where it was made, save its tensors alone: torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # a damaged file can raise any exception
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"cannot read the checkpoint {path}: {first}") from error
