"""TensorBoard's curves, written as they come.

`torch.utils.tensorboard.SummaryWriter` writes from a thread of its own. On a full disk that thread
prints a traceback, and the run goes on without curves. Here a write that fails is an error at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import text as text_summary

from neurobrick_model.files import writing

CURVES = "tensorboard"


class Curves:
    """One event file in `folder`.

    `step` is the step that the run resumes from: TensorBoard hides points of earlier files that are
    later than it. Every method raises StoreError when the file cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._path = folder / f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
        self._add(Event(file_version="brain.Event:2"))
        self._add(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of the curves that `values` names."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=points)))

    def text(self, name: str, text: str, step: int) -> None:
        """Add a text."""
        self._add(Event(step=step, summary=text_summary(name, text)))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with writing(self._path), self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
