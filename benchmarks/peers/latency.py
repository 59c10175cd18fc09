"""The peer's POYO on one window after the other, to stand beside `streaming_latency.py`; run by the
peer's own interpreter, as `poyo.py`, whose model this takes.

    peer/bin/python benchmarks/peers/latency.py poyo-1.3m 100 300

Windows of 1 s slide by 20 ms over Poisson spikes at 10 Hz a unit, and one query is asked at their
end. Prints one line of JSON: of each step, seconds of the clock and of the processor, for the model
alone and with the making of its tokens.
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
    """Spikes of a population, as the peer keeps them."""
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
    """The clock and the processor's, seconds."""
    return np.array([time.perf_counter(), time.thread_time()])


if __name__ == "__main__":
    main()
