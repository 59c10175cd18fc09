"""Memory: what a corpus will take, estimated before it is taken, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from neurobrick import RecipeError, Session
from neurobrick_model.data.timeline import BIN_BITS, TICKS
from neurobrick_model.recipe.settings import ReadoutSettings

SPIKE_BYTES = 6  # a tick and a unit
BIN_BYTES = 8  # of the index, for each bin
SAMPLE_BYTES = 25  # time, weight, session, split, row; and 4 for each axis
READOUT_BYTES = 12  # weight, split row; and its value
CGROUP = Path("/sys/fs/cgroup")
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


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`; of a CPU, what the machine or its container has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo")
    if not lines.exists():  # macOS and Windows do not say so; they swap rather than kill
        return 2**62
    available = next(
        int(line.split()[1]) * 1024
        for line in lines.read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    return min(available, container_room())


def container_room(group: Path = CGROUP) -> int:
    """Bytes that the control group (v2) in this folder still allows; no limit counts as 2^62.

    The cache of files that were read counts as used there, but gives way to who asks for memory.
    """
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        told = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return 2**62
    cached = int(told["inactive_file"]) + int(told["active_file"])
    return 2**62 if limit == "max" else int(limit) - used + cached


def place(
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


def gigabytes(n: int) -> str:
    """Bytes as people say them."""
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
