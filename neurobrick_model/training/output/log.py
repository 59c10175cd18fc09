"""The log of a run: JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from neurobrick_model.files import to_json, write_text

LOG = "log.jsonl"
CURVES = "tensorboard"


class Log:
    """Records by step, in `log.jsonl` and as TensorBoard's curves.

    Args: the run's folder, and the step that it goes on from: what was logged after it is dropped,
    as it is about to happen again.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._path = folder / LOG
        self.records = [r for r in read(folder) if r["step"] <= step] if step else []
        lines = (to_json(record, indent=None) for record in self.records)
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        self._curves = SummaryWriter(str(folder / CURVES), purge_step=step + 1)

    def write(self, step: int, **values: float) -> None:
        """Log `values` as they are after `step` steps."""
        self._append({"step": step, **values})
        for name, value in values.items():
            self._curves.add_scalar(name, value, step)

    def say(self, step: int, warning: str) -> None:
        """Log a warning."""
        self._append({"step": step, "warning": warning})
        self._curves.add_text("warning", warning, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._curves.close()

    def _append(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(to_json(record, indent=None) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line that was cut off by a kill is left out."""
    path = folder / LOG
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
