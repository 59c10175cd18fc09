"""What does a corpus of POYO-1's size cost: 158 sessions, 27,373 units, 100 hours, 7 subjects?

Simulated in the layout of dandiset 000688. The NWB files need not fit on the disk: each session is
drawn, written and prepared, and its file discarded, several sessions at a time. Then the catalogue
is made, the corpus opened, packed, and trained on for some steps. Reported for each stage: time,
peak memory, bytes. Figures of the sessions' stages are sums over processes that work side by side;
each later stage has a process of its own. The default is 7 sessions of the full length.

    python benchmarks/scale.py [--sessions 158] [--hours 100] [--steps 20] [--batch 32] [--jobs 2]

A killed run continues with the sessions in its folder. Peak memory is the kernel's figure (Linux).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from neurobrick import Dataset, catalog
from neurobrick.prepare.one_file import prepare_file
from neurobrick.prepare.plan import Job
from neurobrick.registry import Manifest
from neurobrick.simulate import LAYOUTS
from neurobrick.simulate.sessions import Simulation
from neurobrick.sources.digests import sha256_of
from neurobrick.sources.local import LocalSource
from neurobrick.store import sweep

# Azabou et al. 2023, NeurIPS: the training data of POYO-1.
SESSIONS, UNITS, HOURS, SUBJECTS = 158, 27_373, 100.0, 7
PRESET = "poyo-1.3m"
UNIT_DROPOUT = {"least": 30, "mode": 100, "most": 300}  # as recipes/poyo_1.yaml
SESSION_STAGES = ("simulate", "write NWB", "prepare")
Report = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """The simulated corpus, the training on it, and its folder, below `base`."""

    base: Path
    sessions: int
    hours: float
    steps: int
    batch: int

    @property
    def folder(self) -> Path:
        """The files of a corpus of this size."""
        return self.base / f"{self.sessions}-sessions-{self.hours:.6g}-h"

    @property
    def root(self) -> Path:
        """The corpus."""
        return self.folder / "corpus"

    @property
    def files(self) -> Path:
        """The NWB files, until they are discarded."""
        return self.folder / "nwb"

    @property
    def simulation(self) -> Simulation:
        """The sessions."""
        return Simulation(
            layout=LAYOUTS["000688"],
            subjects=SUBJECTS,
            units=unit_counts(self.sessions),
            minutes=60 * self.hours / self.sessions,
            seed=0,
        )

    def said(self, of: int | str) -> Path:
        """The file with the report on a session or a later stage."""
        return self.folder / "reports" / f"{of}.json"


def unit_counts(sessions: int) -> list[int]:
    """Units of each session. Their sum is POYO-1's, in proportion to the number of sessions."""
    total = round(UNITS * sessions / SESSIONS)
    rng = np.random.default_rng(0)
    of_subject = rng.normal(0.0, 0.3, SUBJECTS)[np.arange(sessions) % SUBJECTS]
    share = np.exp(of_subject + rng.normal(0.0, 0.1, sessions))
    upto = np.rint(np.cumsum(share) / share.sum() * total).astype(int)
    counts = np.diff(upto, prepend=0)
    assert counts.sum() == total
    return counts.tolist()


@contextmanager
def measured(report: Report, stage: str) -> Iterator[None]:
    """Add the seconds, processor seconds and peak memory of a stage to `report`."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    spent = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    report[stage] = spent | {"peak_bytes": int(peak[1]) * 1024}


def make_session(work: Work, number: int) -> None:
    """Simulate and prepare one session, leave its store, and write its report."""
    simulation = work.simulation
    spec = Manifest.load().named(["perich_miller_center_out"])[0]
    report: Report = {}
    with TemporaryDirectory(dir=work.files) as folder:
        with measured(report, "simulate"):
            units = next(islice(simulation.populations(), number, None))
            recording = simulation.record(number, units)
        with measured(report, "write NWB"):
            file = simulation.write(Path(folder), number, recording)
        report["write NWB"]["bytes"] = file.stat().st_size
        del recording
        with measured(report, "prepare"):
            (asset,) = LocalSource([file]).assets()
            asset = replace(asset, sha256=sha256_of(file))
            job = Job(asset, simulation.name(number), "000688", spec, work.root)
            outcome = prepare_file(job, file)
    assert outcome.status == "prepared", outcome.reason
    report["prepare"]["bytes"] = size_of(job.store)
    about = {"units": outcome.units, "spikes": outcome.spikes, "seconds": outcome.seconds}
    partial = work.files / f"{number}.json"
    partial.write_text(json.dumps(about | report))
    partial.replace(work.said(number))


def make_sessions(work: Work, jobs: int) -> int:
    """Make the missing sessions, `jobs` at a time. Returns how many were made."""
    rmtree(work.files, ignore_errors=True)  # left by a killed run
    sweep(work.root)
    work.files.mkdir(parents=True)
    work.said(0).parent.mkdir(exist_ok=True)
    missing = [number for number in range(work.sessions) if not work.said(number).exists()]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        made = [pool.submit(make_session, work, number) for number in missing]
        for future in track(as_completed(made), "sessions", len(made)):
            future.result()
    return len(missing)


def list_stores(work: Work, report: Report) -> None:
    """Make the catalogue."""
    with measured(report, "catalogue"):
        faults = catalog.build(work.root)
    assert not faults, faults
    report["catalogue"]["bytes"] = size_of(work.root / "catalog")


def open_corpus(work: Work, report: Report) -> None:
    """Open the corpus, and each of its sessions."""
    with measured(report, "open"):
        dataset = Dataset(work.root)
    with measured(report, "open each session"):
        sessions = [dataset[name] for name in dataset]
    assert len(sessions) == work.sessions


def pack(work: Work, report: Report) -> None:
    """Pack it as training does."""
    import torch

    from neurobrick_model.data.corpus import Corpus
    from neurobrick_model.recipe.settings import DataSettings
    from neurobrick_model.training.trainer import CACHE

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with measured(report, "pack"):
        dataset = Dataset(work.root, cache_bytes=CACHE)
        corpus = Corpus.from_dataset(dataset, DataSettings(root=work.root), device)
    parts = [*vars(corpus.spikes).values(), *vars(corpus.targets).values()]
    report["pack"]["tensors"] = sum(x.nbytes for x in parts if isinstance(x, torch.Tensor))


def train(work: Work, report: Report) -> None:
    """Set up the trainer, which packs the corpus again, take some steps, keep the decoder."""
    from neurobrick_model import Recipe, Trainer
    from neurobrick_model.training.optimization.loss import Scores

    recipe = Recipe.model_validate({
        "name": "scale",
        "data": {"root": work.root},
        "model": {"preset": PRESET},
        "training": {"steps": work.steps, "batch": work.batch, "unit_dropout": UNIT_DROPOUT},
    })  # fmt: skip
    with measured(report, "set up training"):
        trainer = Trainer(recipe)
    trainer.setup.meter.restart()
    with measured(report, "train"):
        scores = [Scores.of(trainer.train_step(step)[0]) for step in range(work.steps)]
    reading = trainer.setup.meter.read()
    report["train"] |= {
        "device": str(trainer.setup.device),
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "losses": [score.loss for score in scores],
        "null_losses": [score.null_loss for score in scores],
        **asdict(reading),
    }
    folder = work.folder / "decoder"
    with measured(report, "save the decoder"):
        folder.mkdir(exist_ok=True)
        trainer.setup.spec.save(folder, trainer.weights.state_dict())
    report["save the decoder"]["bytes"] = size_of(folder)


STAGES = {"catalogue": list_stores, "open": open_corpus, "pack": pack, "train": train}


def size_of(path: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def apart(work: Work, stage: str) -> Report:
    """The report of a stage, run in a process of its own."""
    options = {
        "--stage": stage,
        "--folder": work.base,
        "--sessions": work.sessions,
        "--hours": work.hours,
        "--steps": work.steps,
        "--batch": work.batch,
    }
    words = [str(word) for option in options.items() for word in option]
    subprocess.run([sys.executable, __file__, *words], check=True)
    return json.loads(work.said(stage).read_text())


def gathered(work: Work) -> tuple[Report, Report]:
    """The size of the corpus, and the stages of its sessions: sums, and the highest peak."""
    sessions = [json.loads(work.said(k).read_text()) for k in range(work.sessions)]
    stages = {}
    for stage in SESSION_STAGES:
        found = [session[stage] for session in sessions]
        stages[stage] = {
            "seconds": sum(one["seconds"] for one in found),
            "cpu_s": sum(one["cpu_s"] for one in found),
            "peak_bytes": max(one["peak_bytes"] for one in found),
            "bytes": sum(one.get("bytes", 0) for one in found),
        }
    corpus = {key: sum(one[key] for one in sessions) for key in ("units", "spikes", "seconds")}
    return {"sessions": work.sessions, "subjects": SUBJECTS, **corpus}, stages


def show(result: Report) -> None:
    """One row a stage."""
    corpus, stages, made = result["corpus"], result["stages"], result["made_now"]
    trained = stages["train"]
    loss, null_loss = (np.mean(trained[key][-5:]) for key in ("losses", "null_losses"))
    table = Table(
        "stage",
        title=f"{corpus['sessions']} sessions, {corpus['units']:,} units, {corpus['spikes']:,}"
        f" spikes, {corpus['seconds'] / 3600:.1f} h; {result['machine']}, {result['date']}",
        caption=f"times of the first {len(SESSION_STAGES)} stages are sums over {result['jobs']}"
        f" processes ({made['sessions']} sessions made now, in {made['elapsed_s']:,.0f} s); packed:"
        f" {stages['pack']['tensors'] / 1e9:.2f} GB; {PRESET}, {trained['parameters']:,}"
        f" parameters, {result['steps']} steps of {result['batch']} windows on"
        f" {trained['device']}: {trained['windows_per_second']:.1f} windows/s, loss {loss:.3f},"
        f" of guessing the mean {null_loss:.3f}",
    )
    for column in ("time", "processor", "a session", "peak memory", "on disk"):
        table.add_column(column, justify="right")
    for stage, one in stages.items():
        table.add_row(
            stage,
            f"{one['seconds']:,.1f} s",
            f"{one['cpu_s']:,.1f} s",
            f"{one['seconds'] / corpus['sessions']:.3f} s",
            f"{one['peak_bytes'] / 1e9:.2f} GB",
            f"{one['bytes'] / 1e9:.3f} GB" if one.get("bytes") else "",
        )
    Console(width=110).print(table)


@click.command()
@click.option("--sessions", default=7, show_default=True, help="How many; POYO-1 has 158.")
@click.option("--hours", type=float, help="In all; by default as long a session as at full size.")
@click.option("--jobs", default=2, show_default=True, help="Sessions that are made at a time.")
@click.option("--steps", default=20, show_default=True, help="Of training.")
@click.option("--batch", default=32, show_default=True, help="Windows a step.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("data/scale"),
    show_default=True,
    help="Where the corpora are kept, one a size.",
)
@click.option("--stage", type=click.Choice(list(STAGES)), hidden=True)
def main(
    sessions: int,
    hours: float | None,
    jobs: int,
    steps: int,
    batch: int,
    folder: Path,
    stage: str | None,
) -> None:
    """Make the corpus, open, pack and train on it, print a table."""
    hours = HOURS * sessions / SESSIONS if hours is None else hours
    work = Work(folder, sessions, hours, steps, batch)
    if stage:
        report: Report = {}
        STAGES[stage](work, report)
        work.said(stage).write_text(json.dumps(report))
        return
    began = time.perf_counter()
    made = make_sessions(work, jobs)
    elapsed = time.perf_counter() - began
    corpus, stages = gathered(work)
    for name in STAGES:
        stages |= apart(work, name)
    result = {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "jobs": jobs,
        "steps": steps,
        "batch": batch,
        "made_now": {"sessions": made, "elapsed_s": elapsed},
        "corpus": corpus,
        "stages": stages,
    }
    show(result)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
