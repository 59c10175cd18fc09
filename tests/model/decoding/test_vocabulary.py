"""Embeddings of units: kept and dropped with their sessions, and never used for other units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from neurobrick import RecipeError, StoreError
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.data.timeline import Vocabulary
from neurobrick_model.decoding.vocabulary import extend, keep
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset, fake_session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stores() -> FakeDataset:
    units = {"sim/a": 12, "sim/b": 9, "other/c": 5}
    return FakeDataset(*(fake_session(id, k, n_units=n) for k, (id, n) in enumerate(units.items())))


@pytest.fixture(scope="module")
def run(stores: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    recipe = Recipe.model_validate({"name": "done", "runs": runs, **TINY})
    Trainer(recipe, stores).fit()  # type: ignore[arg-type]
    return recipe.folder


def test_embeddings_are_kept_and_added_with_their_sessions() -> None:
    vocabulary = Vocabulary(("a", "b", "c"), (2, 3, 1))
    weights = {
        "unit_embedding.weight": torch.arange(6.0)[:, None],
        "session_embedding.weight": torch.arange(3.0)[:, None],
        "readout.bias": torch.ones(2),
    }
    kept = keep(weights, vocabulary, [2, 1])
    assert kept["unit_embedding.weight"][:, 0].tolist() == [5, 2, 3, 4]
    assert kept["session_embedding.weight"][:, 0].tolist() == [2, 1]
    more = extend(kept, {name: -weight for name, weight in weights.items()})
    assert more["unit_embedding.weight"][:, 0].tolist() == [5, 2, 3, 4, 0, -1, -2, -3, -4, -5]
    assert more["session_embedding.weight"][:, 0].tolist() == [2, 1, 0, -1, -2]
    assert more["readout.bias"].tolist() == [1, 1]


def test_a_pruned_decoder_decodes_the_other_sessions_bit_for_bit(
    run: Path, stores: FakeDataset, tmp_path: Path
) -> None:
    whole = Decoder.load(run)
    whole.prune(["sim/a"]).save(tmp_path / "less")
    less = Decoder.load(tmp_path / "less")
    assert [session.id for session in less.spec.sessions] == ["sim/b", "other/c"]
    assert less.model.unit_embedding.weight.shape == (14, 16)
    for id in ("sim/b", "other/c"):
        before, after = (d.predict(stores, id, 3.0, 40.0)[1] for d in (whole, less))  # type: ignore[arg-type]
        assert before.std() > 0
        np.testing.assert_array_equal(before, after)
    assert len(Decoder.load(run).spec.sessions) == 3


def test_dropping_no_session_or_all_sessions_is_an_error(run: Path) -> None:
    decoder = Decoder.load(run)
    with pytest.raises(RecipeError, match=r"no session matches 'x/\*'; there is: sim/a, sim/"):
        decoder.prune(["sim/a", "x/*"])
    with pytest.raises(RecipeError, match="nothing would be left"):
        decoder.prune(["*"])
    assert len(decoder.prune(["sim/*"]).spec.sessions) == 1


def test_the_same_number_of_other_units_is_an_error(run: Path, stores: FakeDataset) -> None:
    decoder, session = Decoder.load(run), stores["sim/b"]
    swapped = session.with_(spike_units=(session.spike_units + 1) % 9)
    with pytest.raises(StoreError, match=r"sim/b has 9 units, but not those that .* prepared anew"):
        decoder.predict(FakeDataset(swapped), "sim/b", 0.0, 5.0)  # type: ignore[arg-type]


def test_a_decoder_without_checksums_of_units_is_used(
    run: Path, stores: FakeDataset, tmp_path: Path
) -> None:
    """As decoders of older versions and of other projects are."""
    shutil.copytree(run, tmp_path / "old")
    spec = json.loads((run / "decoder.json").read_text())
    del spec["parent"]
    for session in spec["sessions"]:
        del session["checksum"]
    (tmp_path / "old/decoder.json").write_text(json.dumps(spec))
    old, new = (Decoder.load(folder) for folder in (tmp_path / "old", run))
    np.testing.assert_array_equal(
        *(d.predict(stores, "sim/a", 0.0, 9.0)[1] for d in (old, new))  # type: ignore[arg-type]
    )
