"""Training on prepared stores, not on fake sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurobrick import Dataset
from neurobrick.transfer import push
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.recipe.settings import DataSettings
from tests.model.conftest import TINY
from tests.support.buckets import Bucket
from tests.support.model.tools import bounds, draw

OWN = Path(__file__).parents[2] / "recipes" / "own.yaml"


@pytest.mark.slow
def test_a_prepared_session_trains_and_is_decoded_in_si(corpus: Dataset, tmp_path: Path) -> None:
    id = next(id for id in corpus.sessions if id.endswith("ses-regular"))
    settings = {"name": "x", "runs": tmp_path, "data": {"sessions": [id]}, **TINY}
    metrics = Trainer(Recipe.model_validate(settings), corpus).fit()
    assert (metrics["target"], metrics["unit"]) == ("cursor_pos", "m")
    assert metrics["sessions"][0]["samples"] > 0
    decoder = Decoder.load(tmp_path / "x")
    times, values = decoder.predict(corpus, id, 2.0, 4.0)
    assert values.shape == (len(times), 2) == (200, 2)
    span = np.ptp(corpus[id].slice(0, 30).behavior["cursor_pos"].values, axis=0)
    assert (np.abs(values) < span).all()  # meters, not centimeters


@pytest.mark.slow
def test_a_recipe_trains_from_where_its_root_says(
    corpus: Dataset, s3: Bucket, tmp_path: Path
) -> None:
    """The recipe `own`, with the target that the session names, from a bucket."""
    id = next(id for id in corpus.sessions if id.endswith("ses-regular"))
    push(Path(corpus.root), s3.url, [id])
    short = ["training.steps=2", "training.device=cpu", f"runs={tmp_path}"]
    here = [f"data.root={s3.url}", f"data.sessions=[{id}]"]
    metrics = Trainer(Recipe.from_yaml(OWN, [*short, *here])).fit()
    assert [session["id"] for session in metrics["sessions"]] == [id]
    assert metrics["target"] == corpus[id].target


def test_windows_of_a_prepared_session_hold_its_slices_spikes(corpus: Dataset) -> None:
    ids = [id for id in corpus.sessions if corpus[id].target == "cursor_pos"]
    tensors = Corpus.from_dataset(corpus, DataSettings(sessions=tuple(ids)))
    windows = draw(tensors, 1.0, 40)
    cut = tensors.spikes.cut(windows)
    for w in range(len(windows)):
        id, t0, t1 = bounds(tensors, windows, w)
        spikes = corpus.slice(id, t0, t1).spikes
        rows = cut.window == w
        np.testing.assert_allclose(cut.time[rows] / TICKS, spikes.times - t0, atol=1 / TICKS)
        np.testing.assert_array_equal(cut.row[rows], spikes.units)
