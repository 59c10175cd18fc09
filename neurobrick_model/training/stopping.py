"""How a run ends early: on a signal, or without memory."""

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
    """Within the block, SIGTERM (sent by clusters before they kill) and SIGINT (Ctrl-C) call `ask`.
    The second signal of either kind does what it did before."""

    def handle(number: int, frame: FrameType | None) -> None:
        ask()
        signal.signal(number, before[signal.Signals(number)])

    try:
        before = {number: signal.signal(number, handle) for number in SIGNALS}
    except ValueError:  # not in the main thread, and only that one receives signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Within the block, torch's OutOfMemoryError becomes a NeurobrickError that says what helps."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NeurobrickError(
            "the device's memory is full: set training.microbatch to fewer windows, which changes "
            f"no result, or data.place=host ({str(error).splitlines()[0]})"
        ) from error
