"""How long does it take to decode the behavior now, every 20 ms, on one core?

A stream, fed with new spikes and asked for a value. Then, over the same steps, the same decoder
computing each window anew; and, where another interpreter has it, the peer's model on such windows
(`peers/latency.py`). All have the published sizes, are untrained, and read Poisson spikes at 10 Hz
a unit. Times are wall-clock, which counts other work on the machine too, and processor time.

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
from neurobrick_model.data.timeline import PackedSpikes, ticks
from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.decoding.trailing_windows import decode_causally
from neurobrick_model.recipe.settings import ModelSettings

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
    """An untrained decoder of that size, for one session of that many units."""
    session = SessionEntry(id="s", units=units, mean=(0.0, 0.0), std=(1.0, 1.0))
    model = ModelSettings.model_validate({"preset": preset})
    spec = DecoderSpec(
        target="vel", unit="m/s", axes=("x", "y"), rate=1 / STEP, step=0.5, model=model,
        sessions=(session,),
    )  # fmt: skip
    torch.manual_seed(0)
    return Decoder(spec, spec.build())


def ours(preset: str, units: int, steps: int) -> dict[str, dict[str, float]]:
    """Both ways, one after the other."""
    decoder = make_decoder(preset, units)
    moments = FIRST + STEP * np.arange(WARMUP + steps)
    times, rows = spikes(units, moments[-1])
    recording = PackedSpikes.gather(
        [(0, times, rows, Intervals([0.0], [moments[-1] + STEP]))], 1, torch.device("cpu")
    )
    until = np.searchsorted(times, moments)
    stream = decoder.stream("s")

    def streamed(step: int) -> NDArray[np.float64]:
        new = slice(until[step - 1] if step else 0, until[step])
        stream.feed(times[new], rows[new])
        return stream.decode(moments[step])

    def anew(step: int) -> NDArray[np.float64]:
        at = torch.from_numpy(ticks(moments[step : step + 1])) + recording.base
        vocabulary, window = decoder.spec.vocabulary, decoder.spec.model.window
        output = decode_causally(decoder.model, vocabulary, recording, at, window, 0.0)
        return output[0].double().numpy()

    found, values = {}, []
    for name, way in {"stream": streamed, "each window anew": anew}.items():
        clock, value = clocked(way, WARMUP + steps)
        found[name] = summary(clock[WARMUP:])
        values.append(value)
    found["stream"]["furthest_from_anew"] = float(np.abs(values[0] - values[1]).max())
    return found


def clocked(
    way: Callable[[int], NDArray[np.float64]], steps: int
) -> tuple[list[tuple[float, float]], NDArray[np.float64]]:
    """Wall-clock and processor seconds of each step, and its result."""
    clock, values = [], []
    for step in range(steps):
        began = time.perf_counter(), time.thread_time()
        values.append(way(step))
        clock.append((time.perf_counter() - began[0], time.thread_time() - began[1]))
    return clock, np.array(values)


def summary(clock: list[tuple[float, float]]) -> dict[str, float]:
    """Milliseconds."""
    passed, worked = np.array(clock).T * 1e3
    return {
        "median": float(np.median(passed)),
        "p95": float(np.percentile(passed, 95)),
        "processor": float(np.median(worked)),
    }


def theirs(python: str, preset: str, units: int, steps: int) -> dict[str, dict[str, float]]:
    """The figures that the peer's interpreter prints."""
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
