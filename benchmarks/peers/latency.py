"""The peer's POYO on one window after the other, for comparison with `streaming_latency.py`. Run it
with the peer's own interpreter, as `poyo.py`, whose model this uses.

    peer/bin/python benchmarks/peers/latency.py poyo-1.3m 100 300

Windows of 1 s slide by 20 ms over Poisson spikes at 10 Hz a unit. One query is asked at the end of
each. Prints one line of JSON: wall-clock and processor seconds of each step, for the model alone
and with the making of its tokens.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from poyo import WINDOW, make_model
from torch_brain.batching import collate, pad8
from torch_brain.data import ArrayDict, Data, Interval, IrregularTimeSeries, SessionDescription

RATE, STEP, WARMUP = 10.0, 0.02, 10


def recording(units: int, seconds: float) -> Data:
    """Spikes of a population, in the peer's format."""
    rng = np.random.default_rng(0)
    n = rng.poisson(units * RATE * seconds)
    domain = Interval(0.0, seconds)
    return Data(
        session=SessionDescription(id="s"),
        spikes=IrregularTimeSeries(
            timestamps=np.sort(rng.uniform(0, seconds, n)),
            unit_index=rng.integers(0, units, n),
            domain=domain,
        ),
        units=ArrayDict(id=np.array([f"s/{unit}" for unit in range(units)])),
        domain=domain,
    )


def main() -> None:
    """Time every step."""
    preset, units, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make_model(preset).eval()
    data = recording(units, WINDOW + (WARMUP + steps) * STEP)
    model.unit_emb.initialize_vocab(list(data.units.id))
    model.session_emb.initialize_vocab(["s"])
    alone, whole = [], []
    for step in range(WARMUP + steps):
        window = data.slice(step * STEP, step * STEP + WINDOW)
        began = clocks()
        tokens = model.tokenize(window)
        tokens["output_timestamps"] = pad8(np.array([WINDOW], dtype=np.float32))
        inputs = collate([tokens])
        ready = clocks()
        with torch.inference_mode():
            model(**inputs)
        done = clocks()
        alone.append((done - ready).tolist())
        whole.append((done - began).tolist())
    ways = {"torch_brain, model alone": alone, "torch_brain, with its tokens": whole}
    print(json.dumps({way: clock[WARMUP:] for way, clock in ways.items()}))


def clocks() -> np.ndarray:
    """Wall-clock and processor seconds."""
    return np.array([time.perf_counter(), time.thread_time()])


if __name__ == "__main__":
    main()
