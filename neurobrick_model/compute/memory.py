"""Free memory of a device, of this machine, or of the container it runs in."""

from __future__ import annotations

from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


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


def gigabytes(n: int) -> str:
    """Bytes as people say them."""
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
