"""Free memory: of a GPU, of this machine, or of the container that the process runs in."""

from __future__ import annotations

from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 2**62  # bytes


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on `device`. For a CPU: what the machine, or the container, has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # macOS and Windows have none; they swap rather than kill
        return UNLIMITED
    available = next(
        int(line.split()[1]) * 1024
        for line in meminfo.read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    return min(available, container_room())


def container_room(group: Path = CGROUP) -> int:
    """Bytes that the control group (version 2) in the folder `group` still allows; `UNLIMITED` when
    there is no limit.

    The group counts its page cache as used. The kernel gives that up when memory is needed, so it
    counts as free here.
    """
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return UNLIMITED
    statistics = dict(line.split() for line in lines)
    cached = int(statistics["inactive_file"]) + int(statistics["active_file"])
    return UNLIMITED if limit == "max" else int(limit) - used + cached


def gigabytes(n: int) -> str:
    """`n` bytes in words: `3.2 GB`, `41.0 MB`."""
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
