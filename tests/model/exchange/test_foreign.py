"""An imported POYO of torch_brain decodes as it does there; any other file is refused.

The outputs of the peer are in tests/model/exchange/data. They are made anew where an interpreter
has torch_brain: this one, or the one that NEUROBRICK_TORCH_BRAIN_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from neurobrick import Intervals, NeurobrickError, StoreError
from neurobrick_model import Decoder
from neurobrick_model.cli import main
from neurobrick_model.exchange.torch_brain import Supplement, load
from tests.support.model.fakes import FakeDataset, fake_session

DATA = Path(__file__).parent / "data"
HZ = 64
MEAN, STD = np.array([0.1, -0.1]), np.array([0.2, 0.3])  # m/s
OPTIONS = [
    *("--target", "cursor_vel", "--unit", "m/s", "--rate", HZ),
    *("--mean", MEAN[0], "--mean", MEAN[1], "--std", STD[0], "--std", STD[1]),
]
SIZES = ["--window", 1, "--latent-step", 0.25]
TOLD = {"target": "v", "unit": "m/s", "rate": HZ, "std": (1,), "window": 1, "latent_step": 0.25}

State = dict[str, Any]


class Peer:
    """The files that the peer wrote: a state dict, and windows with their outputs."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "poyo.json").read_text())
        tensors = load_file(folder / "poyo.safetensors")
        self.sizes = told["sizes"]
        self.sessions = [session for session in told["sessions"] if session != "NA"]
        self.windows = {
            session: {
                name: tensors[f"{session.rpartition('/')[2]}/{name}"].numpy()
                for name in ("times", "units", "outputs")
            }
            for session in self.sessions
        }
        self.state: State = {name: x for name, x in tensors.items() if "emb" in name or "." in name}
        self.state["unit_emb.vocab"] = OrderedDict(told["units"])
        self.state["session_emb.vocab"] = OrderedDict(told["sessions"])

    def n_units(self, session: str) -> int:
        return sum(unit.startswith(f"{session}/") for unit in self.state["unit_emb.vocab"])

    def dataset(self, rows: Callable[[int], int] = lambda row: row) -> FakeDataset:
        """A recording of each window, with the units in these `rows`."""
        return FakeDataset(
            *(
                fake_session(session, 0, n_units=self.n_units(session), seconds=1.0).with_(
                    spike_times=window["times"],
                    spike_units=np.array([rows(unit) for unit in window["units"]], dtype=np.int32),
                    domain=Intervals([0.0], [1.0]),
                )
                for session, window in self.windows.items()
            )
        )

    def agrees(self, decoder: Decoder, dataset: FakeDataset) -> None:
        """Compare with the peer's outputs, which are z-scored: within 1e-4, and within the
        precision of float32 where its times are whole ticks of our clock."""
        for (session, window), near in zip(self.windows.items(), (1e-4, 5e-6), strict=True):
            times, values = decoder.predict(dataset, session, 0.0, 1.0)  # type: ignore[arg-type]
            assert len(times) == len(window["outputs"]) == HZ
            assert window["outputs"].std(0).min() > 5e-3  # they vary
            np.testing.assert_allclose((values - MEAN) / STD, window["outputs"], rtol=0, atol=near)


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer(DATA)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def save(folder: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, folder / "poyo.pt")
    return folder / "poyo.pt"


def test_an_imported_decoder_matches_stored_outputs_of_torch_brain(
    peer: Peer, tmp_path: Path
) -> None:
    path = save(tmp_path, peer.state)
    result = call("import", path, tmp_path / "out", *OPTIONS, *SIZES)
    assert result.exit_code == 0, result.output
    assert "2 sessions, 17 units" in result.output
    decoder = Decoder.load(tmp_path / "out")
    assert decoder.spec.axes == ("x", "y")
    assert decoder.spec.model.self_heads == peer.sizes["self_heads"]
    peer.agrees(decoder, peer.dataset())


def test_an_imported_decoder_matches_torch_brain(tmp_path: Path) -> None:
    python = os.environ.get("NEUROBRICK_TORCH_BRAIN_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("torch_brain") is None:
        pytest.skip("no interpreter with torch_brain: NEUROBRICK_TORCH_BRAIN_PYTHON names one")
    command = [python, DATA / "poyo.py", tmp_path, "--seed", "1", "--checkpoint"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = call("import", tmp_path / "poyo.pt", tmp_path / "out", *OPTIONS, *SIZES)
    assert result.exit_code == 0, result.output
    peer = Peer(tmp_path)
    peer.agrees(Decoder.load(tmp_path / "out"), peer.dataset())


def test_sizes_are_read_from_a_lightning_checkpoint(peer: Peer, tmp_path: Path) -> None:
    checkpoint = {
        "epoch": 3,
        "state_dict": {f"model.{name}": value for name, value in peer.state.items()},
        "hyper_parameters": {"model": {"_target_": "torch_brain.models.POYO", **peer.sizes}},
    }
    result = call("import", save(tmp_path, checkpoint), tmp_path / "out", *OPTIONS)
    assert result.exit_code == 0, result.output
    decoder = Decoder.load(tmp_path / "out")
    assert decoder.spec.model.feedforward_dropout == peer.sizes["ffn_dropout"]
    assert decoder.spec.model.residual_dropout == peer.sizes["lin_dropout"]
    peer.agrees(decoder, peer.dataset())


def test_sessions_are_taken_by_our_ids_with_units_in_our_order(peer: Peer, tmp_path: Path) -> None:
    theirs = peer.sessions[0]
    ids = [unit for unit in peer.state["unit_emb.vocab"] if unit.startswith(f"{theirs}/")]
    row = {int(unit.rpartition("_")[2]): ids.index(unit) for unit in ids}
    (tmp_path / "sessions.json").write_text(
        json.dumps({"000688/a": {"session": theirs, "units": ids}, "000688/b": peer.sessions[1]})
    )
    path, out = save(tmp_path, peer.state), tmp_path / "out"
    mapped = ["--sessions", tmp_path / "sessions.json"]
    assert call("import", path, out, *OPTIONS, *SIZES, *mapped).exit_code == 0
    decoder = Decoder.load(out)
    assert [session.id for session in decoder.spec.sessions] == ["000688/a", "000688/b"]
    recording = peer.dataset(lambda unit: row[unit])[theirs]
    dataset = FakeDataset(recording.with_(id="000688/a"))
    _, values = decoder.predict(dataset, "000688/a", 0.0, 1.0)  # type: ignore[arg-type]
    outputs = peer.windows[theirs]["outputs"]
    np.testing.assert_allclose((values - MEAN) / STD, outputs, rtol=0, atol=1e-4)


def renamed(state: State, old: str, new: str) -> State:
    """The checkpoint with other ids of units."""
    words = state["unit_emb.vocab"]
    return {
        **state,
        "unit_emb.vocab": OrderedDict((w.replace(old, new), r) for w, r in words.items()),
    }


def listing(*units: str) -> dict[str, Any]:
    """A source: one of the peer's sessions, with its units listed."""
    session = "monkey/center_out"
    return {"session": session, "units": [f"{session}/group_M1/elec0/{unit}" for unit in units]}


@pytest.mark.parametrize(
    ("change", "told", "message"),
    [
        (lambda s: s, {"window": None}, "does not hold window"),
        (lambda s: s, {"window": 0.9}, "window must be a multiple of latent_step"),
        (lambda s: s, {"std": (1, 1, 1)}, "std has 3 values, the decoder 2 outputs"),
        (lambda s: s, {"rate": 0}, "rate: input should be greater than 0"),
        (lambda s: s, {"sessions": {"a": "other"}}, "no session 'other'; it has: monkey/c"),
        (
            lambda s: s,
            {"sessions": {"a": {"session": "monkey/center_out", "units": ["x"]}}},
            "no units x",
        ),
        (
            lambda s: s,
            {"sessions": {"a": listing("unit_0", "unit_5", "unit_0")}},
            "elec0/unit_0' is taken twice",
        ),
        (
            lambda s: s,
            {"sessions": {"a": listing("unit_0"), "b": listing("unit_5", "unit_0")}},
            "is taken twice, for a and for b",
        ),
        (
            lambda s: renamed(s, "monkey/", ""),
            {},
            "no unit's id begins with that of session 'monkey/center_out'",
        ),
        (lambda s: renamed(s, "unit_3", "unit_33"), {}, "do not give their rows"),
        (lambda s: {**s, "readout.bias": None}, {}, "readout.bias is missing"),
        (lambda s: {**s, "readout.scale": torch.ones(2)}, {}, "readout.scale, which no POYO"),
        (lambda s: {**s, "readout.bias": torch.ones(3)}, {}, "sizes do not agree: its readout"),
        (
            lambda s: {**s, "rotary_emb.omega": torch.arange(4.0)},
            {},
            "rotary_emb.omega is no POYO's",
        ),
        (
            lambda s: {**s, "unit_emb.vocab": OrderedDict(NA=0)},
            {},
            "does not name each of its 18 rows once",
        ),
        (
            lambda s: {**s, "token_type_emb.weight": s["token_type_emb.weight"][:2]},
            {},
            r"sizes do not agree: its kind_embedding.weight is of shape \(2, 16\)",
        ),
        (lambda s: {"model": s, "epoch": 3}, {}, "its names are: model, epoch. Save the state "),
        (
            lambda s: {f"{of}.{name}": x for of in ("raw", "ema") for name, x in s.items()},
            {},
            r"holds 2 tensors .* one model alone: torch.save\(model.state_dict\(\), path\)",
        ),
        (lambda s: {"layer.weight": torch.ones(2)}, {}, "its names are: layer.weight"),
        (lambda s: [1, 2], {}, "holds 0 tensors unit_emb.weight"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_lacks_something_is_an_error(
    peer: Peer, tmp_path: Path, change: Callable[[State], Any], told: dict[str, Any], message: str
) -> None:
    path = save(tmp_path, change(peer.state))
    with pytest.raises(NeurobrickError, match=message):
        load(path, Supplement.of(**{**TOLD, **told}))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about what hardly anybody saves
@pytest.mark.parametrize("name", ["unit_emb.weight", "readout.weight", "rotary_emb.omega"])
@pytest.mark.parametrize(
    "claim",
    [
        lambda: torch.ones(1).expand(2**28, 2**20),  # a petabyte, of one number
        lambda: torch.ones(2**28, 2**20, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.zeros(2, dtype=torch.float8_e8m0fnu),
    ],
)
def test_a_tensor_that_claims_more_than_the_file_holds_is_an_error(
    peer: Peer, tmp_path: Path, name: str, claim: Callable[[], torch.Tensor]
) -> None:
    path = save(tmp_path, {**peer.state, name: claim()})
    with pytest.raises(StoreError, match=rf"the checkpoint's {name} is "):
        load(path, Supplement.of(**TOLD))


class Hostile:
    """An object that runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_code_in_a_checkpoint_is_run(peer: Peer, tmp_path: Path) -> None:
    path = save(tmp_path, {**peer.state, "note": Hostile(tmp_path / "ran")})
    result = call("import", path, tmp_path / "out", *OPTIONS, *SIZES)
    assert result.exit_code == 1
    assert "only running code from the file could read" in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_an_error_or_read_unchanged(peer: Peer, tmp_path: Path) -> None:
    whole = save(tmp_path, peer.state).read_bytes()
    supplement, damaged = Supplement.of(**TOLD), tmp_path / "damaged.pt"
    rng = np.random.default_rng(0)
    expected = load(tmp_path / "poyo.pt", supplement)[0].model.state_dict()
    for cut in rng.integers(0, len(whole), 20):
        damaged.write_bytes(whole[:cut])
        with pytest.raises(NeurobrickError):
            load(damaged, supplement)
    for place in rng.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[place] ^= 1 << rng.integers(8)
        damaged.write_bytes(data)
        try:
            found = load(damaged, supplement)[0].model.state_dict()
        except NeurobrickError:
            continue
        for name, value in expected.items():
            assert torch.equal(found[name], value), name
