"""Stores that this user may not read: a listing passes over them as if they were not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from neurobrick.store import MANIFEST, SUFFIX

T = TypeVar("T")

NO_DATASETS = {"lost+found"}  # of a file system's root; closed to all users


@dataclass(frozen=True)
class Unreadable:
    """What below a root cannot be opened."""

    stores: dict[str, Path] = field(default_factory=dict)  # session id → path of its store
    datasets: dict[str, str] = field(default_factory=dict)  # folder of a dataset → the reason


def unreadable(root: Path) -> Unreadable:
    """The stores below `root`, and the folders of datasets, that cannot be opened."""
    result = Unreadable()
    for dataset in _attempt(_children, root)[0] or []:
        stores, reason = _attempt(_children, dataset)
        if reason is not None and dataset.name not in NO_DATASETS:
            result.datasets[dataset.name] = f"cannot read {dataset}: {reason}"
        for store in stores or []:
            if store.name.endswith(SUFFIX):
                _, reason = _attempt(Path.stat, store / MANIFEST)
                if reason is not None:
                    result.stores[f"{dataset.name}/{store.name.removesuffix(SUFFIX)}"] = store
    return result


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _attempt(call: Callable[[Path], T], path: Path) -> tuple[T | None, str | None]:
    """The result of `call(path)`, and why the system refuses it; None for both if there is no such
    path."""
    try:
        return call(path), None
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return None, str(error.strerror)
