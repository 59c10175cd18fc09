"""Memory: what a corpus will take, estimated before it is taken, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from neurobrick import RecipeError, Session
from neurobrick_model.compute.memory import gigabytes
from neurobrick_model.data.timeline import BIN_BITS, TICKS
from neurobrick_model.recipe.settings import ReadoutSettings

SPIKE_BYTES = 6  # a tick and a unit
BIN_BYTES = 8  # of the index, for each bin
SAMPLE_BYTES = 25  # time, weight, session, split, row; and 4 for each axis
READOUT_BYTES = 12  # weight, split row; and its value
RESIDENT_SHARE = 0.5  # of what is free on a device may be spikes; the rest is for the model


def spike_bytes(sessions: Sequence[Session]) -> int:
    """Bytes of the packed spikes of `sessions`, from their metadata alone."""
    seconds = sum(last - first for first, last in (session.span for session in sessions))
    spikes = sum(session.n_spikes for session in sessions)
    return spikes * SPIKE_BYTES + int(seconds * TICKS / 2**BIN_BITS) * BIN_BYTES


def target_bytes(
    sessions: Sequence[Session],
    targets: Sequence[str],
    readouts: Mapping[str, ReadoutSettings] | None = None,
) -> int:
    """Bytes of their samples and of what else is decoded at these, at most: a recipe may thin them
    out."""
    each = sum(
        READOUT_BYTES + _value_bytes(sessions, name, own) for name, own in (readouts or {}).items()
    )
    shapes = [
        session.behavior[target].shape for session, target in zip(sessions, targets, strict=True)
    ]
    return sum(m * (SAMPLE_BYTES + 4 * d + each) for m, d in shapes)


def _value_bytes(sessions: Sequence[Session], name: str, settings: ReadoutSettings) -> int:
    """Of one sample of a readout: a class, or axes, as many as the sessions have that have it."""
    if settings.column:
        return 8
    behavior = settings.behavior or name
    return max(
        (4 * one.behavior[behavior].shape[1] for one in sessions if behavior in one.behavior),
        default=0,
    )


def choose_device_for_spikes(
    wanted: str, spikes: int, targets: int, device: torch.device, free: int, host_free: int
) -> torch.device:
    """Where packed spikes of that many bytes go: on `device` or on the host.

    Raises RecipeError when they do not fit where they have to be.
    """
    host = torch.device("cpu")
    if device.type != "cpu" and (
        wanted == "device" or (wanted == "auto" and spikes <= RESIDENT_SHARE * free)
    ):
        _check(spikes + targets, free, f"on {device}", "data.place=host keeps it in main memory")
        return device
    advice = "choose fewer sessions with data.sessions, or a machine with more"
    _check(spikes + targets, host_free, "of main memory", advice)
    return host


def _check(needed: int, free: int, where: str, advice: str) -> None:
    if needed > free:
        raise RecipeError(
            f"the corpus takes about {gigabytes(needed)} and {gigabytes(max(free, 0))} {where} "
            f"are free: {advice}"
        )
