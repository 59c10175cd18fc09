"""How long does training take to a given R², by optimizer?

Simulates a corpus of reaching, prepares it, and trains the same small decoder with each optimizer,
from the same weights and on the same batches, until the R² on the validation split is reached.
Reported: wall time, windows and steps.

    python benchmarks/time_to_r2.py [--r2 0.8] [--sessions 4] [--minutes 5] [--optimizer NAME=RATE]…
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from rich.console import Console
from rich.table import Table

# One learning rate each, of the usual size for that optimizer; --optimizer sets others.
OPTIMIZERS = ("adamw=0.002", "muon=0.004", "lamb=0.01")
RECIPE = {
    "data": {
        "sessions": ["*"],
        "target_rate": 50,
        "weights": {"elsewhere": 0.2, "rules": [{"during": "evaluation", "weight": 1.0}]},
    },
    "model": {"rotary_periods": [0.02, 4.0]},
    "training": {
        "batch": 32,
        "queries": 25,
        "unit_dropout": {"least": 20, "mode": 60, "most": 80},
        "schedule": "constant",
        "warmup": 0.02,
        "ema": 0.98,
    },
    "baseline": {"bins": [0.05], "lags": 5},
}


def run(*command: object) -> None:
    """Run a program of this environment, quietly."""
    program = Path(sys.executable).with_name(str(command[0]))
    subprocess.run([program, *map(str, command[1:])], check=True, stdout=subprocess.DEVNULL)


def train(folder: Path, optimizer: str, rate: float, r2: float, steps: int, seed: int) -> Any:
    """Train until validation reaches `r2`. Returns the step and the seconds, or None if it never
    does."""
    from neurobrick import Progress
    from neurobrick_model import Recipe, Trainer

    training = {
        **RECIPE["training"],
        "optimizer": optimizer,
        "learning_rate": rate,
        "steps": steps,
        "validate_every": 50,
        "seed": seed,
    }
    data = {**RECIPE["data"], "root": folder / "corpus"}
    recipe = Recipe.model_validate(
        {**RECIPE, "name": optimizer, "runs": folder / "runs", "data": data, "training": training}
    )

    class Reached(Exception):
        pass

    class Until(Progress):
        trainer: Trainer | None = None

        def say(self, line: str) -> None:
            if self.trainer and self.trainer.state.best >= r2:
                raise Reached

    progress = Until()
    trainer = progress.trainer = Trainer(recipe, progress=progress)
    with suppress(Reached):
        trainer.fit()
    state = trainer.state
    return {
        "optimizer": f"{optimizer}, rate {rate:g}",
        "reached": state.best >= r2,
        "best_r2": state.best,
        "steps": state.step,
        "windows": state.step * recipe.training.batch,
        "seconds": state.seconds,
    }


@click.command()
@click.option("--r2", default=0.8, show_default=True, help="Validation R² to reach.")
@click.option("--sessions", default=4, show_default=True, help="Simulated sessions.")
@click.option("--minutes", default=5.0, show_default=True, help="How long each is.")
@click.option("--steps", default=3000, show_default=True, help="Where to give up.")
@click.option("--seed", default=0, show_default=True, help="Of corpus and training.")
@click.option("--optimizer", "optimizers", multiple=True, default=OPTIMIZERS, metavar="NAME=RATE")
def main(
    r2: float, sessions: int, minutes: float, steps: int, seed: int, optimizers: tuple[str, ...]
) -> None:
    """Simulate, prepare, train with each optimizer, print a table."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("neurobrick", "simulate", folder / "nwb", "--sessions", sessions, "--minutes", minutes,
            "--seed", seed)  # fmt: skip
        run("neurobrick", "prepare", "nwb", folder / "nwb", "--root", folder / "corpus")
        for optimizer in optimizers:
            kind, _, rate = optimizer.partition("=")
            found.append(train(folder, kind, float(yaml.safe_load(rate)), r2, steps, seed))
            click.echo(json.dumps(found[-1]), err=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    table = Table("optimizer", title=f"to a validation R² of {r2}, {machine}, {date.today()}")
    for column in ("wall time", "windows", "steps", "best R²"):
        table.add_column(column, justify="right")
    for one in found:
        time = f"{one['seconds']:.0f} s" if one["reached"] else "not reached"
        table.add_row(
            one["optimizer"], time, f"{one['windows']:,}", f"{one['steps']:,}",
            f"{one['best_r2']:.3f}",
        )  # fmt: skip
    Console(width=100).print(table)
    result = {
        "date": str(date.today()),
        "machine": f"{machine}, {os.cpu_count()} cores",
        "r2": r2,
        "optimizers": found,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
