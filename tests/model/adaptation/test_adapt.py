"""A trained decoder learns new sessions. It decodes the others as before, and its folder is not
written to."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from neurobrick import RecipeError, StoreError
from neurobrick_model import Decoder, Recipe, Trainer, adapt
from neurobrick_model.adaptation.recipes import resolve
from neurobrick_model.cli import main
from neurobrick_model.decoding.spec import DecoderSpec
from neurobrick_model.decoding.vocabulary import TABLES
from neurobrick_model.errors import UnknownSession
from neurobrick_model.evaluation.metrics import mean_r2
from neurobrick_model.training import setup
from neurobrick_model.training.output.checkpoint import load_state
from neurobrick_model.training.output.run_folder import checkpoints
from tests.model.conftest import TINY
from tests.model.data.test_readouts import READOUTS, with_more
from tests.support.model.fakes import FakeDataset, fake_session

pytestmark = pytest.mark.slow

WEIGHTS = [{"during": "evaluation", "weight": 3.0}]
FEW = ("training.steps=6", "training.batch=8", "training.validate_every=3")


@pytest.fixture(scope="module")
def stores() -> FakeDataset:
    units = {"sim/a": 12, "sim/b": 9, "new/c": 7, "new/d": 10}
    return FakeDataset(*(fake_session(id, k, n_units=n) for k, (id, n) in enumerate(units.items())))


@pytest.fixture(scope="module")
def base(stores: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of sim/a and sim/b."""
    data = {"sessions": ["sim/*"], "weights": {"rules": WEIGHTS}}
    settings = {**TINY, "name": "base", "runs": tmp_path_factory.mktemp("runs"), "data": data}
    return fit(Recipe.model_validate(settings), stores)


@pytest.fixture(scope="module")
def identified(base: Path, stores: FakeDataset) -> Path:
    """The base, adapted to new/c and new/d by identification."""
    return fit(new(base, name="identified"), stores)


def fit(recipe: Recipe, stores: FakeDataset, *, resume: bool = False) -> Path:
    Trainer(recipe, stores).fit(resume=resume)  # type: ignore[arg-type]
    return recipe.folder


def start(recipe: Recipe, stores: FakeDataset) -> Trainer:
    return Trainer(recipe, stores)  # type: ignore[arg-type]


def new(base: Path, way: Any = "identify", *more: str, **settings: Any) -> Recipe:
    """A short adaptation to the sessions new/*."""
    return adapt(base, ["new/*"], way=way, overrides=[*FEW, *more], **settings)


def shared(folder: Path) -> dict[str, Tensor]:
    """The weights without the embeddings of units and sessions."""
    state = Decoder.load(folder).model.state_dict()
    return {name: weight for name, weight in state.items() if name not in TABLES}


def last(folder: Path) -> dict[str, Any]:
    """The state after the last step; the weights that are kept may be those of an earlier step."""
    path = checkpoints(folder, 1).paths()[-1]
    assert path.stem.endswith("6")
    return load_state(path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Settings that are left open


def test_open_settings_are_inherited_from_the_base(base: Path) -> None:
    recipe = new(base, "identify", "data.target_rate=20", labels="30s")
    was = Recipe.from_yaml(base / "recipe.yaml")
    assert recipe.name == "base-identify-30s"
    assert recipe.folder == base.with_name("base-identify-30s")
    assert recipe.data == was.data.model_copy(
        update={"sessions": ("new/*",), "labels": 30.0, "target_rate": 20.0}
    )
    assert recipe.baseline == was.baseline
    assert recipe.model.dim == was.model.dim == 16
    assert recipe.training.unit_dropout == was.training.unit_dropout
    assert recipe.training.learning_rate != was.training.learning_rate  # the way's own
    assert resolve(recipe) == recipe
    assert adapt(base, name="x", root="elsewhere").data.root == "elsewhere"


def test_a_recipe_file_adapts_too(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: mine\nadapt: {{base: {base}}}\ndata: {{sessions: [new/c]}}")
    recipe = resolve(Recipe.from_yaml(path))
    assert recipe == adapt(base, ["new/c"], name="mine")
    path.write_text(recipe.to_yaml())
    assert resolve(Recipe.from_yaml(path)) == recipe


def test_a_recipe_is_resolved_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = new(base)
    monkeypatch.setattr(DecoderSpec, "read", lambda folder: pytest.fail("read again"))
    assert resolve(recipe) is recipe
    fresh = Recipe.from_settings({"name": "fresh"})
    assert resolve(resolve(fresh)).model_dump() == fresh.model_dump()


def test_mappings_with_user_chosen_keys_are_replaced_as_a_whole(base: Path, tmp_path: Path) -> None:
    """So a recipe can name fewer of them than the base."""
    rich = shutil.copytree(base, tmp_path / "rich")
    rule = "{{table: trials, start: go, where: {{{}}}}}"
    settings = Recipe.from_yaml(base / "recipe.yaml", [
        "data.readouts={hand_pos: {weight: 0.5}, gaze: {}}",
        f"data.splits.within={rule.format('result: R, kind: far')}",
        f"evaluation.during.hold={rule.format('')}",
    ])  # fmt: skip
    (rich / "recipe.yaml").write_text(settings.to_yaml())
    assert adapt(rich).data.readouts == settings.data.readouts
    within = "data.splits.within={table: trials, where: {result: F}}"
    recipe = adapt(rich, overrides=["data.readouts={}", "evaluation.during={}", within])
    assert recipe.data.readouts == recipe.evaluation.during == {}
    told = recipe.model_dump()["data"]["splits"]["within"]
    assert told["where"] == {"result": ["F"]}
    assert told["start"]["column"] == "go"  # a setting of a group, as in the base


def test_a_decoder_without_a_recipe_can_be_adapted(base: Path, tmp_path: Path) -> None:
    Decoder.load(base).save(tmp_path / "exported")
    recipe = new(tmp_path / "exported", "identify", f"runs={tmp_path}")
    assert recipe.model == Recipe.from_yaml(base / "recipe.yaml").model
    assert recipe.data.target_rate == 100.0
    assert recipe.evaluation.step == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dim=32", r"model\.dim is 32, but 16 in .*base: leave the model's sizes out"),
        ("name=base", "would write over it"),
        ("adapt.way=all", r"adapt\.way: must be 'identify', 'unfreeze'"),
        ("adapt.unfreeze=0.1", "did you mean unfreeze_at"),
    ],
)
def test_settings_that_contradict_the_base_are_an_error(
    base: Path, override: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        new(base, "identify", override)


def test_a_base_without_a_decoder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no decoder"):
        new(tmp_path)


@pytest.mark.parametrize(
    "metrics",
    [b"{", b"", b"\xff", b"[]", b"1", b"{}", b'{"training": 3}', b'{"training": {}}',
     b'{"training": {"best_step": "last"}}'],
)  # fmt: skip
def test_a_base_whose_metrics_are_damaged_is_an_error(
    base: Path, stores: FakeDataset, tmp_path: Path, metrics: bytes
) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    (folder / "metrics.json").write_bytes(metrics)
    with pytest.raises(StoreError, match=r"metrics\.json.* damaged"):
        start(new(folder), stores)


def test_sessions_that_the_base_knows_are_an_error(base: Path, stores: FakeDataset) -> None:
    recipe = adapt(base, ["sim/b", "new/c"], overrides=FEW)
    other = FakeDataset(stores["new/c"], fake_session("sim/b", 7, n_units=11))
    with pytest.raises(RecipeError, match=r"knows sim/b already, with 9 units \(here it has 11\)"):
        fit(recipe, other)
    assert not recipe.folder.exists()


def test_another_target_is_an_error(base: Path, stores: FakeDataset) -> None:
    other = FakeDataset(stores["new/c"].with_(unit="m"))
    with pytest.raises(RecipeError, match=r"decodes 2 axes in m/s, .*'hand_vel' has 2 in m;"):
        fit(adapt(base, overrides=FEW), other)
    session = stores["new/c"]
    deep = FakeDataset(session.with_(values=session.values[:, [0, 1, 0]]))
    for more in ((), ("data.normalize=session",)):
        with pytest.raises(RecipeError, match=r"'hand_vel' has 3 .*set data\.target"):
            fit(adapt(base, overrides=[*FEW, *more]), deep)


# What learns, and what stays


def test_identification_leaves_the_bases_sessions_bit_for_bit(
    base: Path, identified: Path, stores: FakeDataset
) -> None:
    decoder, was = Decoder.load(identified), Decoder.load(base)
    assert [s.id for s in decoder.spec.sessions] == ["sim/a", "sim/b", "new/c", "new/d"]
    assert decoder.spec.model == was.spec.model
    for name, weight in was.model.state_dict().items():
        now = decoder.model.state_dict()[name]
        assert torch.equal(now[: len(weight)] if name in TABLES else now, weight), name
    for id in ("sim/a", "sim/b"):
        np.testing.assert_array_equal(
            *(d.predict(stores, id, 2.0, 30.0)[1] for d in (was, decoder))  # type: ignore[arg-type]
        )
    assert decoder.predict(stores, "new/d", 2.0, 30.0)[1].shape == (2800, 2)  # type: ignore[arg-type]


def test_embeddings_alone_are_enough_to_decode_new_units(
    stores: FakeDataset, tmp_path: Path
) -> None:
    training = {**TINY["training"], "steps": 150, "validate_every": 150, "learning_rate": 5e-3}
    model = {**TINY["model"], "residual_dropout": 0.0, "feedforward_dropout": 0.0}
    settings = {**TINY, "training": training, "model": model, "data": {"sessions": ["sim/*"]}}
    base = fit(Recipe.model_validate({**settings, "name": "able", "runs": tmp_path}), stores)
    run = start(adapt(base, ["new/*"], labels="15s", overrides=["training.steps=60"]), stores)
    before = mean_r2(run.decode("test").values())
    for step in range(60):
        run.train_step(step)
    after = mean_r2(run.decode("test").values())
    assert before < 0.05
    assert after > 0.25


def test_unfreezing_lets_all_weights_learn_from_its_step_on(
    base: Path, stores: FakeDataset
) -> None:
    run = start(new(base, "unfreeze", "adapt.unfreeze_at=0.5"), stores)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}

    def unchanged() -> set[str]:
        now = run.model.state_dict()
        return {name for name, weight in before.items() if torch.equal(weight, now[name])}

    for step in range(3):
        run.train_step(step)
        assert unchanged() == set(before) - set(TABLES)
    run.train_step(3)
    assert unchanged() == set()


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "muon"])
def test_frozen_weights_do_not_decay(base: Path, stores: FakeDataset, optimizer: str) -> None:
    settings = (f"training.optimizer={optimizer}", "training.ema=0.5", "training.weight_decay=0.5")
    run = start(new(base, "identify", *settings), stores)
    for step in range(4):
        run.train_step(step)
    for name, weight in run.weights.state_dict().items():
        assert name in TABLES or torch.equal(weight, shared(base)[name]), name


def test_finetuning_starts_from_the_base_and_scratch_does_not(
    base: Path, stores: FakeDataset
) -> None:
    for way, alike in (("finetune", True), ("scratch", False)):
        weights = start(new(base, way), stores).model.state_dict()
        for name, weight in shared(base).items():
            if name.endswith("up.weight"):
                assert torch.equal(weights[name], weight) == alike


def test_other_ways_keep_the_new_sessions_only(base: Path, stores: FakeDataset) -> None:
    """Because the shared weights have changed since the base's sessions were learned."""
    for way, parent in (("finetune", "base"), ("scratch", None)):
        spec = Decoder.load(fit(new(base, way), stores)).spec
        assert [session.id for session in spec.sessions] == ["new/c", "new/d"]
        assert (spec.parent and spec.parent.name) == parent


def test_new_sessions_are_normalized_as_the_base(base: Path, stores: FakeDataset) -> None:
    """z-scored with the base's mean and deviation; from scratch, with their own."""
    slow = FakeDataset(stores["new/c"].with_(values=stores["new/c"].values / 5))
    std = {way: start(new(base, way), slow).corpus.targets.std for way in ("identify", "scratch")}
    assert tuple(std["identify"][0].tolist()) == Decoder.load(base).spec.sessions[0].std
    torch.testing.assert_close(std["scratch"], std["identify"] / 5, rtol=0.2, atol=0.0)


def test_readouts_keep_their_units_and_classes(stores: FakeDataset, tmp_path: Path) -> None:
    """Also readouts and classes of which the new session has no sample."""
    data = {"sessions": ["sim/*"], "readouts": READOUTS}
    settings = {**TINY, "name": "base", "runs": tmp_path, "data": data}
    several = FakeDataset(*(with_more(stores[id], 1) for id in ("sim/a", "sim/b")))
    base = Decoder.load(fit(Recipe.model_validate(settings), several))
    session = with_more(stores["new/c"], 2)
    up = pc.equal(session.intervals["trials"]["side"], "up")
    fewer = session.with_(others={}, intervals={"trials": session.intervals["trials"].filter(up)})
    folder = fit(adapt(tmp_path / "base", ["new/*"], overrides=FEW), FakeDataset(fewer))
    decoder = Decoder.load(folder)
    assert decoder.spec.readouts == base.spec.readouts
    assert decoder.spec.readouts[1].classes == ("down", "up")
    assert decoder.spec.sessions[-1].readouts == base.spec.sessions[0].readouts
    stamps, values, _ = session.others["hand_pos"]
    deep = session.with_(others={"hand_pos": (stamps, values[:, [0, 1, 0]], "m")})
    with pytest.raises(RecipeError, match=r"'hand_pos' is 3 axes in m in new/c, but 2 in m in the"):
        start(adapt(tmp_path / "base", ["new/*"], overrides=FEW), FakeDataset(deep))
    other = ["data.readouts.hand_pos.column=side", "data.readouts.hand_pos.during={table: trials}"]
    with pytest.raises(RecipeError, match=r"decodes hand_pos \(2 axes in m\), side .* leave data"):
        start(adapt(tmp_path / "base", ["new/*"], overrides=other), FakeDataset(session))
    # Without them, and where nothing tells what they were.
    none = ["data.readouts={}", *FEW]
    run = start(new(tmp_path / "base", "scratch", *none), FakeDataset(stores["new/c"]))
    assert run.corpus.columns == 2
    base.save(tmp_path / "exported")
    advice = r"set data\.readouts\.hand_pos, data\.readouts\.side as in its training"
    with pytest.raises(RecipeError, match=advice):
        start(new(tmp_path / "exported", "identify", f"runs={tmp_path}"), FakeDataset(session))


def test_the_base_is_never_written_to(base: Path, stores: FakeDataset) -> None:
    before = content(base)

    class Killed(Exception):
        pass

    def dies(step: int) -> Tensor:
        raise Killed

    recipe = new(base, "unfreeze", labels=20)
    run = start(recipe, stores)
    run.train_step = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        run.fit()
    assert content(base) == before
    fit(recipe, stores, resume=True)
    assert content(base) == before


def test_an_adapted_run_names_its_parent(base: Path, identified: Path, stores: FakeDataset) -> None:
    told = json.loads((identified / "run.json").read_text())["parent"]
    assert told == json.loads((identified / "decoder.json").read_text())["parent"]
    digest = hashlib.sha256((base / "weights.safetensors").read_bytes()).hexdigest()
    best = json.loads((base / "metrics.json").read_text())["training"]["best_step"]
    assert told == {
        "name": "base", "path": str(base), "way": "identify", "sha256": digest, "steps": best,
    }  # fmt: skip
    # And it can be the next one's.
    more = FakeDataset(*stores.values(), fake_session("last/e", 9, n_units=4))
    decoder = Decoder.load(fit(adapt(identified, ["last/*"], overrides=FEW), more))
    assert len(decoder.spec.sessions) == 5
    assert decoder.spec.parent
    assert decoder.spec.parent.name == "identified"


def test_a_resume_on_either_side_of_the_unfreezing_gives_the_weights_of_an_unbroken_run(
    base: Path, stores: FakeDataset
) -> None:
    settings = ("adapt.unfreeze_at=0.5", "training.checkpoint_every=1", "training.ema=0.9")
    recipe = new(base, "unfreeze", *settings)
    unbroken = last(fit(recipe, stores))
    taught = [name for name, weight in shared(base).items()
              if not torch.equal(weight, unbroken["model"][name])]  # fmt: skip
    assert len(taught) > 10

    class Killed(Exception):
        pass

    for killed_at in (2, 5):  # of 6 steps; all weights learn in the last three
        run = start(recipe, stores)
        step = run.train_step

        def dies(number: int, step: Any = step, killed_at: int = killed_at) -> Tensor:
            if number == killed_at:
                raise Killed
            return step(number)  # type: ignore[no-any-return]

        run.train_step = dies  # type: ignore[method-assign]
        with pytest.raises(Killed):
            run.fit(force=True)
        resumed = last(fit(recipe, stores, resume=True))
        for kind in ("model", "average"):
            for name, weight in unbroken[kind].items():
                assert torch.equal(weight, resumed[kind][name]), name


def test_a_run_is_not_resumed_from_another_base(
    base: Path, stores: FakeDataset, tmp_path: Path
) -> None:
    moved = shutil.copytree(base, tmp_path / "base")
    recipe = new(moved, "identify", f"runs={tmp_path}", name="x")
    fit(recipe, stores)
    decoder = Decoder.load(moved)
    with torch.no_grad():
        decoder.model.readout.weight.mul_(2)
    decoder.save(moved)
    with pytest.raises(RecipeError, match=r"the decoder in .* that it adapts has changed"):
        fit(recipe, stores, resume=True)


# From the command line


def test_the_command_that_an_unknown_session_names_can_be_pasted(
    base: Path, stores: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownSession) as caught:
        Decoder.load(base).predict(stores, "new/c", 0.0, 1.0)  # type: ignore[arg-type]
    program, *arguments = shlex.split(str(caught.value).partition("To teach it: ")[2])
    assert program == "neurobrick-train"
    monkeypatch.setattr(setup, "Dataset", lambda root, cache_bytes: stores)
    arguments += ["--name", "pasted", "--labels", "30s", "--json"]
    for override in FEW:
        arguments += ["--set", override]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert [session["id"] for session in json.loads(done.stdout)["sessions"]] == ["new/c"]
    folder = base.with_name("pasted")
    Decoder.load(folder).predict(stores, "new/c", 0.0, 1.0)  # type: ignore[arg-type]

    pruned = CliRunner().invoke(
        main, ["prune", str(folder), str(folder.with_name("less")), "--sessions", "sim/*"]
    )
    assert pruned.exit_code == 0, pruned.output
    assert "1 sessions, 7 units" in pruned.output
    assert adapt(folder.with_name("less"), ["new/d"]).data.weights.rules
    for there in (folder, folder.with_name("less")):
        refused = CliRunner().invoke(
            main, ["prune", str(folder), str(there), "--sessions", "sim/*"]
        )
        assert refused.exit_code == 1
        assert "name a new folder" in refused.output
    assert len(Decoder.load(folder).spec.sessions) == 3


def test_wrong_usage_exits_2(base: Path) -> None:
    for arguments, message in [
        ([base, "--way", "some"], "Invalid value for '--way'"),
        ([base, "--labels", "a while"], "labels: must be seconds: 60, 60s, 5min or 1.5h"),
        ([base, "--set", "model.dim=3"], "leave the model's sizes out"),
        ([base / "nothing"], "does not exist"),
    ]:
        result = CliRunner().invoke(main, ["adapt", *map(str, arguments)])
        assert result.exit_code == 2
        assert message in result.output.replace("\n", " ")
