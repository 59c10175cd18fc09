"""How well does the decoder decode, beside the baselines that everyone compares with?

Simulates and prepares a corpus of reaching, and prepares the real recording of a rat on a linear
track. Trains the decoder and every baseline on each, by its recipe: on the same training samples,
tuned on the same validation samples, scored on the same test samples.

    python benchmarks/baselines.py [--sessions 4] [--minutes 5] [--seed 0] [--steps N]
                                   [--recordings ../shared/data]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

TOP = Path(__file__).resolve().parents[1]
RECORDINGS = TOP.parent / "shared" / "data"
REAL = "900001"  # a folder of the recordings
LAYOUT = "000128"  # the layout of the simulated files, and their entry in the registry
BASELINES = ("ridge", "kalman", "mlp", "gru")


def run(*command: object) -> None:
    """Run a program of this environment, quietly."""
    program = Path(sys.executable).with_name(str(command[0]))
    subprocess.run([program, *map(str, command[1:])], check=True, stdout=subprocess.DEVNULL)


def compare(recipe: str, root: Path, runs: Path, steps: int | None, seed: int) -> dict[str, Any]:
    """Train a decoder and the baselines by a recipe. Returns mean test R² and that of each axis, by
    method."""
    from neurobrick_model import Recipe, Trainer

    overrides = [
        f"data.root={root}",
        f"runs={runs}",
        f"training.seed={seed}",
        f"baseline.which=[{', '.join(BASELINES)}]",
        *([f"training.steps={steps}"] if steps else []),
    ]
    settings = Recipe.from_yaml(TOP / "recipes" / f"{recipe}.yaml", overrides)
    metrics = Trainer(settings).fit()
    sessions = metrics["sessions"]

    def scores(mean: float, found: list[dict[str, Any]]) -> dict[str, Any]:
        by_axis = np.nanmean([one["axes"] for one in found], axis=0).tolist()
        by_session = {s["id"]: one["r2"] for s, one in zip(sessions, found, strict=True)}
        return {"r2": mean, "axes": by_axis, "sessions": by_session}

    mean = metrics["mean"]
    return {
        "target": metrics["target"],
        "axes": metrics["axes"],
        "steps": metrics["training"]["steps"],
        "training_seconds": metrics["training"]["seconds"],
        "methods": {
            "decoder": scores(mean["decoder"], [s["decoder"] for s in sessions]),
            **{
                name: scores(mean["baselines"][name], [s["baselines"][name] for s in sessions])
                for name in BASELINES
            },
        },
    }


def table(corpora: dict[str, dict[str, Any]], machine: str) -> Table:
    """One row a method; for each corpus the mean R², and that of each axis."""
    shown = Table("method", title=f"test R², {machine}, {date.today()}")
    for name, found in corpora.items():
        for column in (name, *found["axes"]):
            shown.add_column(column, justify="right")
    for method in ("decoder", *BASELINES):
        scores = [found["methods"][method] for found in corpora.values()]
        shown.add_row(method, *(f"{r2:.3f}" for one in scores for r2 in (one["r2"], *one["axes"])))
    return shown


@click.command()
@click.option("--sessions", default=4, show_default=True, help="Simulated sessions.")
@click.option("--minutes", default=5.0, show_default=True, help="How long each is.")
@click.option("--seed", default=0, show_default=True, help="Of simulation and training.")
@click.option("--steps", type=int, help="Of the decoder; by default those of the recipes.")
@click.option("--recordings", default=RECORDINGS, type=click.Path(path_type=Path),
              help="Folder of real recordings.  [default: ../shared/data]")  # fmt: skip
def main(sessions: int, minutes: float, seed: int, steps: int | None, recordings: Path) -> None:
    """Simulate, prepare, train, print a table."""
    corpora = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("neurobrick", "simulate", folder / "nwb", "--layout", LAYOUT, "--sessions", sessions,
            "--minutes", minutes, "--seed", seed)  # fmt: skip
        run("neurobrick", "prepare", "nwb", folder / "nwb", "--dataset", LAYOUT,
            "--root", folder / "simulated")  # fmt: skip
        runs = folder / "runs"
        corpora["simulated"] = compare("multisession", folder / "simulated", runs, steps, seed)
        if (recordings / REAL).is_dir():
            run("neurobrick", "prepare", "nwb", recordings / REAL, "--root", folder / "real")
            corpora["linear track"] = compare("linear_track", folder / "real", runs, steps, seed)
        else:
            click.echo(f"left out: there is no real recording in {recordings / REAL}", err=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    Console(width=100).print(table(corpora, machine))
    result = {
        "date": str(date.today()),
        "machine": f"{machine}, {os.cpu_count()} cores",
        "simulated": {"sessions": sessions, "minutes": minutes},
        "seed": seed,
        "corpora": corpora,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
