"""The outputs of `torch_brain` for a few windows, for tests/model/exchange/test_foreign.py.

Run by an interpreter that has it (benchmarks/peers/poyo.py says how to make one), safetensors too:

    peer/bin/python tests/model/exchange/data/poyo.py tests/model/exchange/data

Leaves `poyo.safetensors`, the weights of a tiny POYO, every one of them moved away from its initial
value, the query times, and of each session one window: spike times and units, and the outputs; and
`poyo.json`, its vocabularies and sizes. With --checkpoint, also `poyo.pt`, the state dict as it is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

try:
    import ray.actor
except ImportError:  # of which torch_brain wants the name of a type, for what is not done here
    ray = types.ModuleType("ray")
    ray.actor = types.ModuleType("ray.actor")
    ray.actor.ActorHandle = object
    sys.modules |= {"ray": ray, "ray.actor": ray.actor}

from torch_brain.batching import collate
from torch_brain.data import ArrayDict, Data, Interval, IrregularTimeSeries, SessionDescription
from torch_brain.models import POYO

UNITS = {"monkey/center_out": 12, "monkey/random_target": 5}  # from ten on, sorted not as numbers
SPIKES = {"monkey/center_out": 150, "monkey/random_target": 9}  # the second one's units: some none
TICKS = {"monkey/center_out": None, "monkey/random_target": 2**24}  # of its clock, a second
HZ = 64.0
SIZES = {
    "sequence_length": 1.0,
    "latent_step": 0.25,
    "num_latents_per_step": 3,
    "dim_out": 2,
    "dim": 16,
    "depth": 2,
    "dim_head": 64,
    "cross_heads": 1,
    "self_heads": 2,
    "ffn_dropout": 0.1,
    "lin_dropout": 0.3,
}


def unit_ids(session: str) -> np.ndarray:
    """In the order of the recording, as the peer's pipelines write them."""
    return np.array([f"{session}/group_M1/elec{7 * k % 5}/unit_{k}" for k in range(UNITS[session])])


def make_model(seed: int) -> POYO:
    """A tiny POYO that looks trained: its scales are not 1, its biases not 0."""
    torch.manual_seed(seed)
    model = POYO(**SIZES).eval()
    model.unit_emb.initialize_vocab(np.sort(np.concatenate([*map(unit_ids, UNITS)])).tolist())
    model.session_emb.initialize_vocab(list(UNITS))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def window(session: str, rng: np.random.Generator) -> Data:
    """A second of spikes, at any time, or at ticks of a clock."""
    n, ticks = SPIKES[session], TICKS[session]
    times = np.sort(rng.uniform(0, SIZES["sequence_length"], n))
    domain = Interval(0.0, SIZES["sequence_length"])
    return Data(
        session=SessionDescription(id=session),
        spikes=IrregularTimeSeries(
            timestamps=np.rint(times * ticks) / ticks if ticks else times,
            unit_index=rng.integers(0, UNITS[session], n),
            domain=domain,
        ),
        units=ArrayDict(id=unit_ids(session)),
        domain=domain,
    )


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Windows and what torch_brain makes of them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", action="store_true")
    args = parser.parse_args()
    model, rng = make_model(args.seed), np.random.default_rng(args.seed)
    state = model.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    queries = np.arange(0, SIZES["sequence_length"], 1 / HZ)
    tensors["queries"] = torch.from_numpy(queries)
    for session in UNITS:
        data = window(session, rng)
        inputs = collate([model.tokenize(data) | {"output_timestamps": queries}])
        with torch.no_grad():
            output = model(**inputs)[0]
        name = session.rpartition("/")[2]
        tensors[f"{name}/times"] = torch.from_numpy(data.spikes.timestamps)
        tensors[f"{name}/units"] = torch.from_numpy(data.spikes.unit_index)
        tensors[f"{name}/outputs"] = output
    save_file(tensors, args.folder / "poyo.safetensors")
    told = {
        "torch_brain": importlib.metadata.version("torch_brain"),
        "sizes": SIZES,
        "units": state["unit_emb.vocab"],
        "sessions": state["session_emb.vocab"],
    }
    (args.folder / "poyo.json").write_text(json.dumps(told, indent=2) + "\n")
    if args.checkpoint:
        torch.save(state, args.folder / "poyo.pt")


if __name__ == "__main__":
    main()
