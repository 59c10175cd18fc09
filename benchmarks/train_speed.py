"""How fast is training, end to end, and how much of a step is not the model?

Each way trains in a process of its own, in turns, on the same simulated corpus: our trainer; the
same model written plainly, padded, with a DataLoader (`plain.py`); and, where another interpreter
has it, the peer's (`peers/poyo.py`). All use unit dropout, AdamW and the same sizes.

    python benchmarks/train_speed.py [--preset poyo-1.3m] [--batch 32] [--rounds 3]
        [--peer-python PATH] [--profile]

On a CPU the default is poyo-1.3m at batch 32 and poyo-11.8m at batch 8; on a GPU both at 1,024.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import click
import corpora
import torch
from rich.console import Console
from rich.table import Table

QUERIES = 64
UNIT_DROPOUT = {"least": 30, "mode": 100, "most": 300}
WARMUP = 3  # steps
SETTINGS = {"cpu": {"poyo-1.3m": (32, 12), "poyo-11.8m": (8, 3)},
            "cuda": {"poyo-1.3m": (1024, 60), "poyo-11.8m": (1024, 30)}}  # fmt: skip
SESSIONS = {"cpu": 4, "cuda": 100}
PEER = Path(__file__).parent / "peers/poyo.py"


def ours(root: Path, preset: str, batch: int, steps: int, *, profile: bool) -> dict[str, Any]:
    """The trainer's own loop, without validation and checkpoints."""
    from neurobrick_model import Recipe, Trainer
    from neurobrick_model.training.throughput import Meter

    recipe = Recipe.model_validate({
        "name": "speed",
        "data": {"root": root, "target": corpora.TARGET},
        "model": {"preset": preset},
        "training": {
            "steps": 10**6,
            "batch": batch,
            "queries": QUERIES,
            "unit_dropout": UNIT_DROPOUT,
            "learning_rate": 1e-3,
        },
    })  # fmt: skip
    trainer = Trainer(recipe)
    for step in range(WARMUP):
        trainer.train_step(step)
    wait()
    meter: Meter = trainer.setup.meter
    meter.restart()
    for step in range(WARMUP, WARMUP + steps):
        trainer.train_step(step)
    wait()
    reading = meter.read()
    result = {**asdict(reading), "precision": str(trainer.setup.precision).removeprefix("torch.")}
    result["peak_bytes"] = result.pop("memory")
    result["cutting"] = cutting(trainer, steps) / (batch / reading.windows_per_second)
    if trainer.setup.device.type == "cuda" or profile:
        result["busy"], table = profiled(trainer, WARMUP + steps)
        if profile:
            click.echo(table, err=True)
    return result


def cutting(trainer: Any, steps: int) -> float:
    """Seconds to cut one batch, without training: the median of `steps`."""
    seconds = []
    for step in range(steps):
        wait()
        began = time.perf_counter()
        trainer.gradients.prefetcher.prepare(step)
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def profiled(trainer: Any, first: int, steps: int = 5) -> tuple[float, str]:
    """The share of time in which the device computes, and its kernels, over some steps."""
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    card = trainer.setup.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card else [])]
    trainer.train_step(first)
    wait()
    everywhere = _ExperimentalConfig(profile_all_threads=True)  # worker threads compute, too
    with profile(activities=activities, experimental_config=everywhere) as found:
        began = time.perf_counter()
        for step in range(first + 1, first + 1 + steps):
            trainer.train_step(step)
        wait()
        seconds = time.perf_counter() - began
    kind = "self_device_time_total" if card else "self_cpu_time_total"
    events = found.key_averages()
    spent = sum(getattr(event, kind) for event in events) / 1e6
    table = events.table(sort_by=kind, row_limit=25, max_name_column_width=60)
    return min(spent / seconds, 1.0), table


def wait() -> None:
    """Until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def plainly(root: Path, preset: str, batch: int, steps: int, precision: str) -> dict[str, Any]:
    """`plain.py`, in the same precision."""
    import plain

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return asdict(
        plain.measure(root, preset, batch=batch, steps=steps, device=device, precision=precision)
    )


def apart(*arguments: object, python: str = sys.executable) -> dict[str, Any]:
    """The last line that a process of its own prints."""
    done = subprocess.run(
        [python, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    root: Path, preset: str, batch: int, steps: int, rounds: int, peer: str | None, profile: bool
) -> dict[str, dict[str, Any]]:
    """Medians over `rounds` of every way; ways take turns."""
    me, size = Path(__file__), (preset, batch, steps)
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        options = ["--profile"] if profile and number == 0 else []
        mine = apart(me, "--one", "neurobrick", "--root", root, "--size", *size, *options)
        precision = mine.pop("precision")
        found.setdefault(f"neurobrick, {precision}", []).append(mine)
        other = apart(me, "--one", precision, "--root", root, "--size", *size)
        found.setdefault(f"plain, padded, DataLoader, {precision}", []).append(other)
        if peer:
            theirs = apart(
                PEER, preset, "--batch", batch, "--steps", steps, "--precision", precision,
                "--device", "cuda" if torch.cuda.is_available() else "cpu", python=peer,
            )  # fmt: skip
            found.setdefault(f"torch_brain, {precision}", []).append(theirs)
    return {
        name: {
            key: statistics.median(run[key] for run in runs)
            for key, value in runs[0].items()
            if isinstance(value, int | float)
        }
        for name, runs in found.items()
    }


def show(title: str, ways: dict[str, dict[str, Any]]) -> None:
    """One row a way."""
    table = Table("", title=title)
    base = next(rates for name, rates in ways.items() if name.startswith("plain"))
    for column in ("windows/s", "× plain", "tokens/s", "peak", "of matmul rate", "cutting", "busy"):
        table.add_column(column, justify="right")

    def share(rates: dict[str, Any], name: str) -> str:
        return f"{rates[name]:.1%}" if name in rates else ""

    for name, rates in ways.items():
        table.add_row(
            name,
            f"{rates['windows_per_second']:,.1f}",
            f"{rates['windows_per_second'] / base['windows_per_second']:.2f}",
            f"{rates['tokens_per_second']:,.0f}",
            f"{rates['peak_bytes'] / 1e9:.1f} GB",
            *(share(rates, key) for key in ("utilization", "cutting", "busy")),
        )
    Console(width=130).print(table)


@click.command()
@click.option("--preset", type=click.Choice(["poyo-1.3m", "poyo-11.8m"]), help="Only this one.")
@click.option("--batch", type=int, help="Windows a step.")
@click.option("--steps", type=int, help="Steps that are timed.")
@click.option("--rounds", default=3, show_default=True, help="Turns that each way has.")
@click.option("--peer-python", help="An interpreter that has torch_brain.")
@click.option("--profile", is_flag=True, help="Print where our time goes.")
@click.option("--one", hidden=True, help="Measure one way, in this process.")
@click.option("--root", type=click.Path(path_type=Path), hidden=True)
@click.option("--size", type=(str, int, int), hidden=True)
def main(
    preset: str | None,
    batch: int | None,
    steps: int | None,
    rounds: int,
    peer_python: str | None,
    profile: bool,
    one: str | None,
    root: Path,
    size: tuple[str, int, int],
) -> None:
    """Time every way of training both presets, side by side."""
    if one == "neurobrick":
        click.echo(json.dumps(ours(root, *size, profile=profile)))
        return
    if one:
        click.echo(json.dumps(plainly(root, *size, one)))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    result: dict[str, Any] = {
        "date": str(date.today()),
        "machine": f"{machine}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        corpora.write_corpus(Path(folder), SESSIONS[device], 1000.0)
        for name, (usual_batch, usual_steps) in SETTINGS[device].items():
            if preset in (None, name):
                size = (name, batch or usual_batch, steps or usual_steps)
                ways = compare(Path(folder), *size, rounds, peer_python, profile)
                show(f"{name}, batch {size[1]}, {result['machine']}, {date.today()}", ways)
                result[name] = ways
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
