"""The log of a run: JSON lines for programs, and TensorBoard's curves for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neurobrick import StoreError
from neurobrick_model.files import to_json, write_text, writing
from neurobrick_model.training.output.curves import CURVES, Curves

LOG = "log.jsonl"


class Log:
    """Records by step, in `log.jsonl` and as curves.

    Args:
        folder: the run's folder.
        step: the step that the run resumes from, 0 for a new run. Later records are dropped, since
            those steps are about to be taken again.

    Every method raises StoreError when a file cannot be written, as on a full disk.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._path = folder / LOG
        self.records = [r for r in read(folder) if r["step"] <= step] if step else []
        lines = (to_json(record, indent=None) for record in self.records)
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        self._curves = Curves(folder / CURVES, step)

    def write(self, step: int, **values: float | None) -> None:
        """Log `values` as they are after `step` steps. A value of None has no point on a curve."""
        self._append({"step": step, **values})
        self._curves.points(step, {k: value for k, value in values.items() if value is not None})

    def say(self, step: int, warning: str) -> None:
        """Log a warning."""
        self._append({"step": step, "warning": warning})
        self._curves.text("warning", warning, step)

    def _append(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(to_json(record, indent=None) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The records in a run's folder; none when there is no log. A last line that a kill cut off is
    dropped. Raises StoreError when the log cannot be read."""
    path = folder / LOG
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
