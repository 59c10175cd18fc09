"""Does a run that is killed and resumed equal one that is left alone?

Trains a small decoder on a simulated corpus twice. One run is undisturbed. The other is killed
(SIGKILL) at random moments, also while it writes a checkpoint, and resumed each time. Compares
every weight of the two, bit for bit.

    python benchmarks/kills.py [--kills 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpora
import yaml
from safetensors.torch import load_file

STEPS = 2500
LONGEST = 1.5  # s of training before a kill
RECIPE = {
    "data": {"sessions": ["*"], "target": corpora.TARGET, "splits": {"blocks": 5}},
    "model": {"dim": 16, "head_dim": 8, "depth": 1, "latent_step": 0.25, "latents_per_step": 2},
    "training": {
        "steps": STEPS,
        "batch": 4,
        "queries": 8,
        "unit_dropout": {"least": 2, "mode": 8, "most": 16},
        "ema": 0.99,
        "validate_every": 250,
        "checkpoint_every": 5,
        "device": "cpu",
    },
    "baseline": {"bins": [0.1], "lags": 1},
}


def start(recipe: Path, *options: str) -> subprocess.Popen[str]:
    """Start `neurobrick-train`, and wait until training begins."""
    command = [sys.executable, "-m", "neurobrick_model.cli", str(recipe), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    for line in process.stdout:
        if " parameters, on " in line:
            return process
    raise SystemExit(f"{' '.join(command)} did not begin to train")


def finish(process: subprocess.Popen[str]) -> None:
    """Wait until it ends by itself."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)


def write_recipe(folder: Path, name: str) -> Path:
    """The recipe of a run of that name."""
    path = folder / f"{name}.yaml"
    data = {**RECIPE["data"], "root": str(folder / "corpus")}
    recipe = {**RECIPE, "name": name, "runs": str(folder / "runs"), "data": data}
    path.write_text(yaml.safe_dump(recipe))
    return path


def main() -> None:
    """Train, kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    rng = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora.write_corpus(folder / "corpus", sessions=2, seconds=120.0)
        finish(start(write_recipe(folder, "alone")))
        recipe = write_recipe(folder, "killed")
        process, reached = start(recipe), []
        for _ in range(wanted.kills):
            time.sleep(rng.uniform(0, LONGEST))
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            paths = sorted((folder / "runs/killed/checkpoints").glob("step-*"))
            reached.append(int(paths[-1].stem.removeprefix("step-")) if paths else 0)
            process = start(recipe, "--resume")
        finish(process)
        runs = [folder / "runs" / run for run in ("alone", "killed")]
        weights = [load_file(run / "weights.safetensors") for run in runs]
        last = [load_file(run / f"checkpoints/step-{STEPS:09d}.safetensors") for run in runs]
        same = all(
            a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a) for a, b in (weights, last)
        )
        scores = [json.loads((run / "metrics.json").read_text())["mean"]["decoder"] for run in runs]
        left = [p.name for p in runs[1].rglob(".*") if p.name != ".lock"]
    print(f"{len(reached)} kills, with checkpoints at steps {reached} of {STEPS}")
    print(f"weights, optimizer and average identical: {same}; R² {scores[0]!r} and {scores[1]!r}")
    print(f"temporary files left behind: {left or 'none'}")
    if not same or len(reached) < wanted.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
