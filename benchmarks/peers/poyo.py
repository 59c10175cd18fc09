"""Training of the peer's POYO, for comparison with `plain.py`. Run it with the peer's own
interpreter.

`torch_brain` 0.2.1 does everything but the loop: its `POYO` at the published sizes; its `Dataset`
of HDF5 recordings, written here with the statistics of `corpora.session`; its random windows, unit
dropout, `tokenize` and `collate`. Queries and targets are put beside the tokens as in its
`examples/poyo`, at most 64 a window. As in `plain.py`, and unlike in its example: fused AdamW in
place of LAMB, no dropout of attention weights, and torch's default precision of float32 products.
Attention is torch's unless xformers is installed, which the peer then uses on a GPU. Its base class
of pipelines names a type of ray, which training does not need; a stand-in makes it importable.

    python -m venv peer && peer/bin/pip install torch h5py pandas pynwb rich click
    peer/bin/pip install --no-deps torch_brain==0.2.1
    peer/bin/python benchmarks/peers/poyo.py poyo-1.3m --batch 32 --steps 20

Prints one line of JSON. The fields of `plain.Rate` are of training end to end, with the workers of
a DataLoader. `premade_windows_per_second` is of forward, backward and optimizer alone, on batches
that are on the device already.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import math
import resource
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

try:
    import ray.actor
except ImportError:
    ray = types.ModuleType("ray")
    ray.actor = types.ModuleType("ray.actor")
    ray.actor.ActorHandle = object
    sys.modules |= {"ray": ray, "ray.actor": ray.actor}

from torch_brain.batching import collate, pad8, track_mask8
from torch_brain.data import ArrayDict, Data, Interval, IrregularTimeSeries, SessionDescription
from torch_brain.datasets import Dataset, SpikingDatasetMixin
from torch_brain.models import POYO
from torch_brain.samplers import RandomFixedWindowSampler
from torch_brain.transforms import Compose, UnitDropout

UNITS, RATE, HZ = 170, 8.0, 100.0  # as in `corpora`
WINDOW = 1.0  # seconds
QUERIES = 64  # at most, a window
KEPT_UNITS = {"min_units": 30, "mode_units": 100, "max_units": 300}
WARMUP = 2  # steps
PREMADE = 4  # batches

SIZES = {
    "poyo-1.3m": {"dim": 64, "depth": 6, "cross_heads": 2, "num_latents_per_step": 16},
    "poyo-11.8m": {"dim": 128, "depth": 24, "cross_heads": 4, "num_latents_per_step": 32},
}

Batch = dict[str, dict[str, Tensor]]


class Recordings(SpikingDatasetMixin, Dataset):
    """The peer's dataset of spiking recordings; its unit ids are unique as written."""


class Example:
    """A window's inputs and targets: the last of the transforms."""

    def __init__(self, model: POYO) -> None:
        self.model = model
        self.rng = np.random.default_rng(0)

    def __call__(self, data: Data) -> dict[str, dict[str, Any]]:
        inputs = self.model.tokenize(data)
        n = len(data.cursor.timestamps)
        rows = np.sort(self.rng.permutation(n)[:QUERIES])
        inputs["output_timestamps"] = pad8(data.cursor.timestamps[rows].astype(np.float32))
        value = data.cursor.vel[rows].astype(np.float32)
        return {"inputs": inputs, "target": {"value": pad8(value), "mask": track_mask8(value)}}


def write_recordings(folder: Path, sessions: int, seconds: float) -> None:
    """Poisson spikes of units with log-normal rates, and a velocity, z-scored."""
    rng = np.random.default_rng(0)
    domain = Interval(0.0, seconds)
    for k in range(sessions):
        n = rng.poisson(UNITS * RATE * seconds)
        share = rng.lognormal(size=UNITS)
        velocity = np.cumsum(rng.normal(size=(int(seconds * HZ), 2)), axis=0)
        recording = Data(
            session=SessionDescription(id=f"s{k:03d}"),
            spikes=IrregularTimeSeries(
                timestamps=np.sort(rng.uniform(0, seconds, n)),
                unit_index=rng.choice(UNITS, n, p=share / share.sum()),
                domain=domain,
            ),
            units=ArrayDict(id=np.array([f"s{k:03d}/{unit}" for unit in range(UNITS)])),
            cursor=IrregularTimeSeries(
                timestamps=np.arange(len(velocity)) / HZ,
                vel=(velocity - velocity.mean(0)) / velocity.std(0),
                domain=domain,
            ),
            domain=domain,
        )
        with h5py.File(folder / f"s{k:03d}.h5", "w") as file:
            recording.to_hdf5(file)


def make_model(preset: str) -> POYO:
    """The peer's model of a published size, before it has a vocabulary."""
    return POYO(
        sequence_length=WINDOW,
        latent_step=WINDOW / 8,
        dim_out=2,
        dim_head=64,
        self_heads=8,
        ffn_dropout=0.2,
        lin_dropout=0.4,
        atn_dropout=0.0,
        **SIZES[preset],
    )


def epochs(loader: DataLoader[Any]) -> Iterator[Batch]:
    """Batches without end."""
    while True:
        yield from loader


def to(device: torch.device, batch: Batch) -> Batch:
    """The batch on `device`."""
    return {
        part: {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        for part, tensors in batch.items()
    }


class Training:
    """A model and its optimizer on a device; `step` takes a batch that is there."""

    def __init__(self, model: POYO, device: torch.device, precision: str) -> None:
        self.device, self.model = device, model.to(device)
        self.half = precision == "bfloat16"
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True
        )

    def step(self, batch: Batch) -> Tensor:
        """Forward, backward, optimizer; returns the loss."""
        value, mask = batch["target"]["value"], batch["target"]["mask"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            error = (self.model(**batch["inputs"]) - value).square().mean(2)
            loss = (error * mask).sum() / mask.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def tick(self) -> Any:
        """The time now; on a CUDA device, the time when the device gets here."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, ticks: list[Any]) -> np.ndarray:
        """Between each tick and the next."""
        if self.device.type != "cuda":
            return np.diff(ticks)
        torch.cuda.synchronize(self.device)
        return np.array([a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(ticks)])


def end_to_end(training: Training, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """The fields of `plain.Rate`, without memory."""
    there = real = windows = 0
    ticks = []
    for step in range(WARMUP + steps):
        if step >= WARMUP:
            ticks.append(training.tick())
        batch = next(batches)
        if step >= WARMUP:
            mask = batch["inputs"]["input_mask"]
            windows += len(mask)
            there += mask.numel()
            real += int(mask.sum())
        loss = training.step(to(training.device, batch))
    ticks.append(training.tick())
    assert math.isfinite(loss.item()), "training diverged"
    each = training.seconds(ticks)
    return {
        "windows_per_second": windows / each.sum(),
        "tokens_per_second": real / each.sum(),
        "seconds_per_step": float(np.median(each)),
        "padding": 1 - real / there,
    }


def premade(training: Training, batches: list[Batch], steps: int) -> float:
    """Windows a second on batches that are on the device."""
    training.step(batches[0])
    ticks = [training.tick()]
    for batch in itertools.islice(itertools.cycle(batches), steps):
        training.step(batch)
        ticks.append(training.tick())
    n = len(batches[0]["inputs"]["input_mask"])
    return n * steps / float(training.seconds(ticks).sum())


def peak_bytes(device: torch.device) -> int:
    """As in `plain.Rate`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # in KiB on Linux


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training of the peer's POYO, timed.")
    parser.add_argument("preset", choices=SIZES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1000.0)
    return parser.parse_args()


def main() -> None:
    """Write recordings, train, print."""
    args = parse()
    device = torch.device(args.device)
    torch.manual_seed(0)
    model = make_model(args.preset)
    with tempfile.TemporaryDirectory() as folder:
        write_recordings(Path(folder), args.sessions, args.seconds)
        transform = Compose([UnitDropout(**KEPT_UNITS), Example(model)])
        dataset = Recordings(folder, transform=transform)
        model.init_vocabs(dataset)
        training = Training(model, device, args.precision)
        loader = DataLoader(
            dataset,
            batch_size=args.batch,
            sampler=RandomFixedWindowSampler(
                sampling_intervals=dataset.get_sampling_intervals(), window_length=WINDOW
            ),
            collate_fn=collate,
            drop_last=True,
            num_workers=args.workers,
            persistent_workers=args.workers > 0,
            pin_memory=device.type == "cuda",
        )
        batches = epochs(loader)
        rate = end_to_end(training, batches, args.steps)
        there = [to(device, next(batches)) for _ in range(PREMADE)]
        batches.close()
        del batches, loader  # and its workers, which would take their share of the cores
        alone = premade(training, there, args.steps)
    result = rate | {
        "peak_bytes": peak_bytes(device),
        "premade_windows_per_second": alone,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "xformers": importlib.util.find_spec("xformers") is not None,
        "torch_brain": importlib.metadata.version("torch_brain"),
        "torch": torch.__version__,
    }
    print(json.dumps(vars(args) | result))


if __name__ == "__main__":
    main()
