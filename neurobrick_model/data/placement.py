"""Where spikes lie in memory, by an estimate of the corpus's size before it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from neurobrick import RecipeError, Session
from neurobrick_model.compute.memory import gigabytes
from neurobrick_model.data.timeline import BIN_BITS, TICKS
from neurobrick_model.recipe.settings import ReadoutSettings

SPIKE_BYTES = 6  # of a spike: its tick and its unit
BIN_BYTES = 8  # of a bin of the index
SAMPLE_BYTES = 25  # of a sample: time, weight, session, split, row; its axes come on top
AXIS_BYTES = 4  # of a value
CLASS_BYTES = 8  # of a class
READOUT_BYTES = 12  # of a readout's sample: weight, row; its value comes on top
RESIDENT_SHARE = (
    0.5  # spikes may take this share of a device's free memory; the rest is the model's
)


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
    """Bytes of the samples of `targets`, one name a session, and of the readouts, before they are
    decimated."""
    each = sum(
        READOUT_BYTES + _value_bytes(sessions, name, settings)
        for name, settings in (readouts or {}).items()
    )
    shapes = [
        session.behavior[target].shape for session, target in zip(sessions, targets, strict=True)
    ]
    return sum(m * (SAMPLE_BYTES + AXIS_BYTES * d + each) for m, d in shapes)


def _value_bytes(sessions: Sequence[Session], name: str, settings: ReadoutSettings) -> int:
    """Bytes of a readout's value at one sample."""
    if settings.column:
        return CLASS_BYTES
    behavior = settings.behavior or name
    infos = [session.behavior[behavior] for session in sessions if behavior in session.behavior]
    return max((AXIS_BYTES * info.shape[1] for info in infos), default=0)


def choose_device_for_spikes(
    wanted: str, spikes: int, targets: int, device: torch.device, free: int, host_free: int
) -> torch.device:
    """The device that holds the packed spikes: `device`, or the host.

    `wanted` is the recipe's `data.place`: device, host or auto. `spikes` and `targets` are their
    bytes; `free` and `host_free` are the free bytes on `device` and on the host.

    Raises RecipeError when they do not fit there.
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
