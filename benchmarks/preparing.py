"""How fast is preparation? One session in the layout of dandiset 000688, NWB to store, on one core.

neurobrick's `prepare_file` beside the peer's own pipeline for that dandiset, which
`peers/prepare.py` runs. Both read the same simulated file, in turn, one process each, after
imports, on the same core, with the file in the page cache. Both read spikes, units, cursor and
trials, split, and write one file or store. neurobrick's uses the registry's spec, and includes its
checks and checksums. Processor seconds stand beside seconds: on a shared machine they are steadier.

    python benchmarks/preparing.py [--peer-python PATH] [--rounds 9] [--units 170] [--seconds 1000]
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from neurobrick.prepare.one_file import prepare_file
from neurobrick.prepare.plan import Job
from neurobrick.registry import Manifest
from neurobrick.simulate import simulate
from neurobrick.sources.digests import sha256_of
from neurobrick.sources.local import LocalSource

OURS, PEER = "neurobrick", "brainsets"
# torch_brain 0512ee0, its pipeline at that commit, a session like this one.
STATED = "0.41–0.46 s, 16 B a spike (two shared cores, 24 GB, July 2026)"

Round = dict[str, float]


def job_for(file: Path, root: Path) -> Job:
    """The job of preparing the file as the registry's dandiset, with its digest known."""
    (asset,) = LocalSource([file]).assets()
    spec = Manifest.load().named(["perich_miller_center_out"])[0]
    asset = replace(asset, sha256=sha256_of(file))
    return Job(asset, f"000688/{file.stem}", "000688", spec, root)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def ours(job: Job, file: Path) -> Round:
    """One preparation by neurobrick, which replaces the last one."""
    shutil.rmtree(job.root, ignore_errors=True)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = prepare_file(job, file)
    spent = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    assert outcome.status == "prepared", outcome.reason
    spikes = size_of(job.store / "spikes")
    return spent | {"bytes": size_of(job.store), "spike_bytes": spikes, "spikes": outcome.spikes}


class Peer:
    """The peer, waiting in a process of its own."""

    def __init__(self, python: str, file: Path, folder: Path) -> None:
        script = Path(__file__).parent / "peers" / "prepare.py"
        self.process = subprocess.Popen(
            [python, str(script), str(file), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.versions: dict[str, str] = self._answer()

    def prepare(self) -> Round:
        """One preparation by the peer, which replaces the last one."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        store = Path(answer["store"])
        with h5py.File(store) as made:
            spikes = made["spikes"]
            sizes = [spikes[name].id.get_storage_size() for name in ("timestamps", "unit_index")]
            count = len(spikes["timestamps"])
        return {
            "seconds": answer["seconds"],
            "cpu_s": answer["cpu_s"],
            "bytes": size_of(store),
            "spike_bytes": sum(sizes),
            "spikes": count,
        }

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException("the peer ended: its own words are above")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End its process."""
        self.process.communicate()


def median(rounds: list[Round]) -> Round:
    """The median of each figure."""
    return {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}


def measure(file: Path, folder: Path, python: str | None, rounds: int) -> dict[str, Any]:
    """Medians of each preparer over `rounds` rounds in turn, after one warm-up round."""
    job = job_for(file, folder / "ours")
    found: dict[str, list[Round]] = {OURS: []}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        peer = None
        if python is not None:
            theirs = folder / "theirs"
            theirs.mkdir()
            peer = Peer(python, file, theirs)
            stack.callback(peer.close)
            found[PEER], versions = [], peer.versions
        for _ in range(rounds + 1):
            found[OURS].append(ours(job, file))
            if peer is not None:
                found[PEER].append(peer.prepare())
    counts = {one["spikes"] for several in found.values() for one in several}
    assert len(counts) == 1, f"they found different spikes: {counts}"
    return {"medians": {k: median(v[1:]) for k, v in found.items()}, "peer": versions}


@click.command()
@click.option(
    "--peer-python",
    envvar="NEUROBRICK_PEER_PYTHON",
    help="An interpreter with brainsets; see peers/prepare.py.",
)
@click.option("--rounds", default=9, show_default=True)
@click.option("--units", default=170, show_default=True)
@click.option("--seconds", default=1000.0, show_default=True)
def main(peer_python: str | None, rounds: int, units: int, seconds: float) -> None:
    """Simulate a session, prepare it in turn by each, print and keep the medians."""
    if hasattr(os, "sched_setaffinity"):  # Linux; the peer's process inherits it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (made,) = simulate(folder, layout="000688", sessions=1, units=units, minutes=seconds / 60)
        measured = measure(made.path, folder, peer_python, rounds)
        source = made.path.stat().st_size
    medians = measured["medians"]
    title = (
        f"{made.n_units} units, {made.n_spikes:,} spikes, {made.duration_s:.0f} s, NWB of"
        f" {source / 1e6:.1f} MB, {date.today()}"
    )
    table = Table("preparer", title=title, caption=None if peer_python else f"peer: {STATED}")
    for column in ("s", "processor s", "MB", "B/spike, times and units"):
        table.add_column(column, justify="right")
    for who, one in medians.items():
        table.add_row(
            who,
            f"{one['seconds']:.3f}",
            f"{one['cpu_s']:.3f}",
            f"{one['bytes'] / 1e6:.1f}",
            f"{one['spike_bytes'] / one['spikes']:.2f}",
        )
    Console(width=100).print(table)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    result = {"date": str(date.today()), "machine": machine, "rounds": rounds, "nwb_bytes": source}
    result |= measured
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
