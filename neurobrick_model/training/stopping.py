"""How a run ends before its time: asked to, or out of memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from neurobrick import NeurobrickError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def asked_to_stop(ask: Callable[[], None]) -> Iterator[None]:
    """While SIGTERM, with which clusters announce the end, and Ctrl-C ask to stop. The second of
    either does what it always did."""

    def handle(number: int, frame: FrameType | None) -> None:
        ask()
        signal.signal(number, before[signal.Signals(number)])

    try:
        before = {number: signal.signal(number, handle) for number in SIGNALS}
    except ValueError:  # not the main thread, which alone is sent signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def out_of_memory() -> Iterator[None]:
    """While a device that is too small is an error that says what helps."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NeurobrickError(
            "the device's memory is full: set training.microbatch to fewer windows, which changes "
            f"no result, or data.place=host ({str(error).splitlines()[0]})"
        ) from error
