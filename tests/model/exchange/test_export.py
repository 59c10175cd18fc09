"""An exported decoder, as a folder and as a program, decodes as the run's decoder."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from neurobrick import Intervals, StoreError
from neurobrick_model import Decoder, Recipe, Trainer, adapt
from neurobrick_model.cli import main
from neurobrick_model.data.readouts import Readout
from neurobrick_model.decoding.spec import DecoderSpec, Scale, SessionEntry
from neurobrick_model.exchange.export import export, write
from neurobrick_model.files import replacing_folder
from neurobrick_model.recipe.settings import ModelSettings
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset, fake_session

pytestmark = pytest.mark.slow

SOURCE = {"project": "torch_brain", "file": "poyo.ckpt", "sha256": "0123abcd"}


@pytest.fixture(scope="module")
def run(dataset: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    runs = tmp_path_factory.mktemp("runs")
    recipe = Recipe.model_validate({"name": "done", "runs": runs, **TINY})
    Trainer(recipe, dataset).fit()  # type: ignore[arg-type]
    return runs / "done"


@pytest.fixture(scope="module")
def adapted(run: Path) -> Path:
    """The run, as if it had been imported, adapted to a session of another dataset."""
    imported = run.with_name("imported")
    write(Decoder.load(run), imported, "imported", {"imported": SOURCE})
    few = ["training.steps=3", "training.device=cpu", "baseline.bins=[0.1]", f"runs={run.parent}"]
    recipe = adapt(imported, ["new/*"], overrides=few)
    Trainer(recipe, FakeDataset(fake_session("new/c", 3, n_units=7))).fit()  # type: ignore[arg-type]
    return recipe.folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def front(folder: Path) -> dict[str, Any]:
    """The front matter of the card, which model hubs read."""
    found: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return found


def test_the_export_decodes_as_the_run(run: Path, dataset: FakeDataset, tmp_path: Path) -> None:
    result = call("export", run, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "hand_vel of 2 sessions, 21 units" in result.output
    there, here = Decoder.load(run), Decoder.load(tmp_path / "out")
    for one, other in zip(
        there.predict(dataset, "sim/b", 1010.0, 1012.0),  # type: ignore[arg-type]
        here.predict(dataset, "sim/b", 1010.0, 1012.0),  # type: ignore[arg-type]
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_card_says_what_it_decodes_and_how_well(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    metrics = yaml.safe_load((run / "metrics.json").read_text())  # JSON is YAML
    (result,) = front(tmp_path / "out")["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == metrics["mean"]["decoder"]
    assert "`hand_vel` (x, y; m/s)" in page
    for session in metrics["sessions"]:
        row = f"| {session['id']} | {session['units']} | {session['decoder']['r2']:.4f} |"
        assert row in page
    assert f"torch {torch.__version__}" in page


def test_the_card_names_the_sessions_that_were_scored(adapted: Path, tmp_path: Path) -> None:
    decoder = export(adapted, tmp_path / "out")
    assert [session.id for session in decoder.spec.sessions] == ["sim/a", "sim/b", "new/c"]
    (result,) = front(tmp_path / "out")["model-index"][0]["results"]
    assert result["dataset"]["name"] == "new"
    assert "| sim/b | 9 | – |" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_names_its_parent_without_its_folder(adapted: Path, tmp_path: Path) -> None:
    export(adapted, tmp_path / "out")
    texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.[jm]*")}
    assert set(texts) == {"README.md", "decoder.json", "metrics.json", "run.json"}
    weights = (adapted.with_name("imported") / "weights.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert (
        f"from the decoder `imported`, whose weights are of sha256 {digest}" in texts["README.md"]
    )
    assert "a checkpoint of torch_brain, `poyo.ckpt` (sha256 0123abcd)" in texts["README.md"]
    assert json.loads(texts["run.json"])["imported"] == SOURCE
    for name, text in texts.items():
        assert str(adapted.parent) not in text, name
    assert DecoderSpec.read(tmp_path / "out").parent


def test_an_export_replaces_no_other_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, code in [([], 0), ([], 1), (["--force"], 0)]:
        assert call("export", run, out, *options).exit_code == code
    (out / "thesis.txt").write_text("all of it")
    result = call("export", run, out, "--force")
    assert result.exit_code == 1
    assert "it holds thesis.txt: name a new folder" in result.output
    before = sorted(path.name for path in run.iterdir())
    assert call("export", out, run, "--force").exit_code == 1
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_folder_with_other_files_is_no_earlier_export(run: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    result = call("export", run, tmp_path, "--force")
    assert result.exit_code == 1
    assert "it holds README.md: name a new folder" in result.output
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_failed_export_restores_the_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "decoder.json").write_text("earlier")
    replacing = replacing_folder(out, ["decoder.json"], force=True)
    with pytest.raises(StoreError, match="cannot write"), replacing as aside:
        aside.rmdir()
    assert (out / "decoder.json").read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [out]


# The decoder's weights fit, its program does not.
FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from neurobrick_model.cli import main
main(["export", *sys.argv[1:], "--program"])
"""


def test_a_full_disk_is_an_error_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    """In a process of its own, because torch's writer would end it."""
    command = [sys.executable, "-c", FULL, run, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"Error: cannot write \S+decoder.pt2: .*File too large\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


SPEC = DecoderSpec(
    target="hand_vel",
    unit="m/s",
    axes=("x", "y"),
    readouts=(Readout(name="pos", unit="m", axes=("x",)), Readout(name="reach", classes=(1, 2, 3))),
    rate=50,
    step=0.5,
    model=ModelSettings.model_validate({**TINY["model"], "depth": 2}),
    sessions=tuple(
        SessionEntry(
            id=f"sim/{name}",
            units=units,
            mean=(0.1 * units, 0.2),
            std=(2.0, 0.3),
            readouts={"pos": Scale(mean=(0.05,), std=(0.1 * units,))},
        )
        for name, units in [("a", 12), ("b", 5), ("c", 1)]
    ),
)
CASES = [("sim/a", 150, 50), ("sim/b", 0, 50), ("sim/b", 1, 1), ("sim/c", 700, 13)]
# What the card shows, on the first case of a file, and the same program on the others.
PROGRAM = """
import sys
sys.modules.update(neurobrick=None, neurobrick_model=None)
import numpy as np
import torch
cases, decoded = np.load("cases.npz"), {{}}
inputs = [[torch.from_numpy(cases[f"{{k}}/{{i}}"]) for i in range(4)] for k in range({n})]
times, units, queries, session = inputs[0]
{code}
assert values.shape == (len(queries), 2)
for k, case in enumerate(inputs):
    for name, one in decode(*case).items():
        decoded[f"{{k}}/{{name}}"] = one.numpy()
np.savez("decoded.npz", **decoded)
"""


def test_the_program_decodes_without_neurobrick(tmp_path: Path) -> None:
    """Also for the smallest windows: no spike, one spike, one query, one unit."""
    torch.manual_seed(0)
    model = SPEC.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    SPEC.save(tmp_path, model.state_dict())
    result = call("export", tmp_path, tmp_path / "out", "--program")
    assert result.exit_code == 0, result.output
    cases, arrays = [], {}
    for k, (id, spikes, queries) in enumerate(CASES):
        rng = np.random.default_rng(k)
        row = [session.id for session in SPEC.sessions].index(id)
        times = np.sort(rng.uniform(0, 1, spikes))
        units = rng.integers(0, SPEC.sessions[row].units, spikes)
        inputs: list[Any] = [times, units, np.arange(queries) / SPEC.rate, np.array(row)]
        arrays |= {f"{k}/{i}": array for i, array in enumerate(inputs)}
        recording = fake_session(id, 0, n_units=SPEC.sessions[row].units).with_(
            spike_times=times, spike_units=units.astype(np.int32), domain=Intervals([0.0], [1.0])
        )
        cases.append((id, FakeDataset(recording), queries / SPEC.rate))
    np.savez(tmp_path / "out" / "cases.npz", **arrays)
    page = (tmp_path / "out" / "README.md").read_text()
    code = re.search(r"```python\n(import torch\n.*?)```", page, re.DOTALL)
    assert code
    program = PROGRAM.format(n=len(CASES), code=code[1])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    decoded, decoder = np.load(tmp_path / "out" / "decoded.npz"), Decoder.load(tmp_path)
    for k, (id, dataset, stop) in enumerate(cases):
        for readout in ("hand_vel", "pos", "reach"):
            _, values = decoder.predict(dataset, id, 0.0, stop, readout)  # type: ignore[arg-type]
            assert decoded[f"{k}/{readout}"].shape == values.shape
            np.testing.assert_allclose(decoded[f"{k}/{readout}"], values, rtol=0, atol=1e-5)
    assert decoded["0/hand_vel"].std(0).min() > 1e-3
