"""How long does it take to decode the behavior now, every 20 ms, on one core?

A stream, fed what is new and asked; beside it, in turns at the same steps, the same decoder that
computes each window anew; and, where another interpreter has it, the peer's model on such windows
(`peers/latency.py`). All are of the published sizes, untrained, and read Poisson spikes at 10 Hz a
unit. Times are those of the clock, which counts other work on the machine too, and those that the
processor spent.

    python benchmarks/streaming_latency.py [--peer-python PATH]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from neurobrick import Intervals
from neurobrick_model import Decoder
from neurobrick_model.causal import decode_causally
from neurobrick_model.decoder import DecoderSpec, SessionEntry
from neurobrick_model.settings import ModelSettings
from neurobrick_model.timeline import Spikes, ticks

SIZES = {"poyo-1.3m": 300, "poyo-11.8m": 60}  # steps
UNITS = (100, 300)
RATE = 10.0  # Hz
STEP = 0.02  # s
FIRST = 2.0  # s, from when windows are full
WARMUP = 10  # steps
PEER = Path(__file__).parent / "peers/latency.py"


def spikes(units: int, seconds: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and unit rows of a population."""
    rng = np.random.default_rng(0)
    n = rng.poisson(units * RATE * seconds)
    return np.sort(rng.uniform(0, seconds, n)), rng.integers(0, units, n)


def make_decoder(preset: str, units: int) -> Decoder:
    """One of that size, untrained, for a session of that many units."""
    session = SessionEntry(id="s", units=units, mean=(0.0, 0.0), std=(1.0, 1.0))
    model = ModelSettings.model_validate({"preset": preset})
    spec = DecoderSpec(
        target="vel", unit="m/s", axes=("x", "y"), rate=1 / STEP, step=0.5, model=model,
        sessions=(session,),
    )  # fmt: skip
    torch.manual_seed(0)
    return Decoder(spec, spec.build())


def ours(preset: str, units: int, steps: int) -> dict[str, dict[str, float]]:
    """Both ways, step by step."""
    decoder = make_decoder(preset, units)
    seconds = FIRST + (WARMUP + steps) * STEP
    times, rows = spikes(units, seconds)
    recording = Spikes.gather(
        [(0, times, rows, Intervals([0.0], [seconds]))], 1, torch.device("cpu")
    )
    stream, fed = decoder.stream("s"), 0
    clocks: dict[str, list[tuple[float, float]]] = {"stream": [], "each window anew": []}
    furthest = 0.0
    for step in range(WARMUP + steps):
        t = FIRST + step * STEP
        until = int(np.searchsorted(times, t))
        new = slice(fed, until)
        at = torch.from_numpy(ticks(np.array([t]))) + recording.base

        def streamed(new: slice = new, t: float = t) -> NDArray[np.float64]:
            stream.feed(times[new], rows[new])
            return stream.decode(t)

        def anew(at: torch.Tensor = at) -> NDArray[np.float64]:
            vocabulary, window = decoder.spec.vocabulary, decoder.spec.model.window
            output = decode_causally(decoder.model, vocabulary, recording, at, window, 0.0)
            return output[0].double().numpy()

        one, other = clocked(streamed, clocks["stream"]), clocked(anew, clocks["each window anew"])
        furthest = max(furthest, float(np.abs(one - other).max()))
        fed = until
    found = {way: summary(clock[WARMUP:]) for way, clock in clocks.items()}
    found["stream"]["furthest_from_anew"] = furthest
    return found


def clocked(
    call: Callable[[], NDArray[np.float64]], clock: list[tuple[float, float]]
) -> NDArray[np.float64]:
    """What `call` returns; its seconds, of the clock and of the processor, go to `clock`."""
    began = time.perf_counter(), time.thread_time()
    found = call()
    clock.append((time.perf_counter() - began[0], time.thread_time() - began[1]))
    return found


def summary(clock: list[tuple[float, float]]) -> dict[str, float]:
    """Milliseconds."""
    passed, worked = np.array(clock).T * 1e3
    return {
        "median": float(np.median(passed)),
        "p95": float(np.percentile(passed, 95)),
        "processor": float(np.median(worked)),
    }


def theirs(python: str, preset: str, units: int, steps: int) -> dict[str, dict[str, float]]:
    """What the peer's interpreter says."""
    arguments = [python, PEER, preset, str(units), str(steps)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    clocks: dict[str, list[tuple[float, float]]] = json.loads(done.stdout.splitlines()[-1])
    return {way: summary(clock) for way, clock in clocks.items()}


@click.command()
@click.option("--peer-python", help="An interpreter that has torch_brain.")
def main(peer_python: str | None) -> None:
    """Time a step of every way, at both sizes."""
    torch.set_num_threads(1)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, of which one"
    result: dict[str, Any] = {
        "date": str(date.today()), "machine": machine, "torch": torch.__version__,
    }  # fmt: skip
    table = Table("", "units", title=f"ms a step, {machine}, {date.today()}")
    for column in ("median", "95 %", "processor"):
        table.add_column(column, justify="right")
    for preset, steps in SIZES.items():
        for units in UNITS:
            ways = ours(preset, units, steps)
            if peer_python:
                ways |= theirs(peer_python, preset, units, steps)
            result[f"{preset}, {units} units"] = ways
            for way, row in ways.items():
                values = (f"{row[key]:.1f}" for key in ("median", "p95", "processor"))
                table.add_row(f"{preset}: {way}", str(units), *values)
        table.add_section()
    Console(width=110).print(table)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
