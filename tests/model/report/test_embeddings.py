"""Maps of embeddings against a plane from eigenvectors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neurobrick_model.data.anatomy import Anatomy
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.recipe.settings import DataSettings
from neurobrick_model.report.embedding_maps import maps, plane
from tests.support.model.fakes import FakeDataset, fake_session


def test_the_plane_is_that_of_the_two_largest_eigenvectors() -> None:
    x = np.random.default_rng(0).standard_normal((40, 5)) @ np.diag([1.0, 5.0, 2.0, 0.5, 0.1]) + 3.0
    points, shares = plane(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    for axis in (0, 1):
        vector = vectors[:, -1 - axis]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        np.testing.assert_allclose(points[:, axis], (x - x.mean(0)) @ vector)
        assert shares[axis] == pytest.approx(values[-1 - axis] / values.sum())


def test_a_corpus_knows_subjects_and_areas_of_its_units() -> None:
    known = fake_session("sim/a", 1, n_units=3).with_(subject="J", areas=("M1", None, "PMd"))
    unknown = fake_session("sim/b", 2, n_units=2).with_(subject=None)
    stores: Any = FakeDataset(known, unknown)
    corpus = Corpus.from_dataset(stores, DataSettings())
    assert corpus.anatomies == (
        Anatomy("J", ("M1", "unknown", "PMd")),
        Anatomy("unknown", ("unknown", "unknown")),
    )
    model: Any = SimpleNamespace(
        unit_embedding=torch.nn.Embedding(5, 4), session_embedding=torch.nn.Embedding(2, 4)
    )
    (units,) = maps(model, corpus.anatomies)  # two sessions are no map
    assert units.what == "units"
    assert len(units.points) == 5
    assert units.labels["subject"] == ("J", "J", "J", "unknown", "unknown")
    assert units.labels["area"] == ("M1", "unknown", "PMd", "unknown", "unknown")
