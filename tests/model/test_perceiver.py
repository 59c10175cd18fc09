"""The decoder computes what the paper says, whatever else is in the batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick_model.corpus import Corpus
from neurobrick_model.perceiver import Perceiver
from neurobrick_model.recipe import DataSettings, ModelSettings, UnitDropout
from neurobrick_model.timeline import Spans
from neurobrick_model.tokens import (
    END,
    SPIKE,
    START,
    Keys,
    Queries,
    all_units,
    drop_units,
    key_tokens,
    query_tokens,
    triangular,
)
from tests.model.fakes import FakeDataset

SIZES = ModelSettings(
    window=1.0,
    dim=16,
    depth=2,
    head_dim=8,
    cross_heads=2,
    self_heads=3,
    latent_step=0.25,
    latents_per_step=3,
    rotary_periods=(1e-3, 2.0627),
)


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return Corpus.from_dataset(dataset, DataSettings())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(corpus: Corpus) -> Perceiver:
    torch.manual_seed(0)
    model = Perceiver(SIZES, corpus.vocabulary.n_units, 2, 2)
    with torch.no_grad():  # fresh embeddings are so small that errors would not show
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def batch(corpus: Corpus) -> tuple[Spans, Keys, Queries]:
    windows = corpus.train.draw(1.0, 6, torch.Generator().manual_seed(5))
    windows = Spans(windows.start, windows.stop - torch.linspace(0, 0.6, 6), windows.session)
    keys = key_tokens(corpus.spikes, windows, all_units(corpus.vocabulary, windows.session))
    return windows, keys, query_tokens(corpus.targets.time, windows, None)


Array = NDArray[np.float64]


class Reference:
    """One window at a time, one head at a time, in float64, straight from the paper."""

    def __init__(self, model: Perceiver) -> None:
        self.p = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def turn(self, x: Array, time: Array) -> Array:
        """Rotate pairs of neighbours in the first half of each row by its time."""
        shortest, longest = SIZES.rotary_periods
        n = SIZES.head_dim // 4
        out = x.copy()
        for pair in range(n):
            period = shortest * (longest / shortest) ** (pair / (n - 1))
            c, s = np.cos(2 * np.pi * time / period), np.sin(2 * np.pi * time / period)
            a, b = x[:, 2 * pair], x[:, 2 * pair + 1]
            out[:, 2 * pair], out[:, 2 * pair + 1] = a * c - b * s, a * s + b * c
        return out

    def attend(
        self, name: str, x: Array, tx: Array, y: Array, ty: Array, heads: int, values: bool
    ) -> Array:
        w = SIZES.head_dim
        q = x @ self.p[f"{name}.to_query.weight"].T
        k, v = np.split(y @ self.p[f"{name}.to_key_value.weight"].T, 2, axis=1)
        read = []
        for h in range(heads):
            part = slice(h * w, (h + 1) * w)
            qh, kh, vh = self.turn(q[:, part], tx), self.turn(k[:, part], ty), v[:, part]
            if values:
                vh = self.turn(vh, ty)
            score = np.exp(qh @ kh.T / math.sqrt(w))
            out = score / score.sum(1, keepdims=True) @ vh
            read.append(self.turn(out, -tx) if values else out)
        out = np.concatenate(read, 1)
        return out @ self.p[f"{name}.to_output.weight"].T + self.p[f"{name}.to_output.bias"]

    def feedforward(self, name: str, x: Array) -> Array:
        hidden = self.norm(x, f"{name}.0") @ self.p[f"{name}.1.weight"].T + self.p[f"{name}.1.bias"]
        value, gate = np.split(hidden, 2, axis=1)
        gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
        return value * gelu @ self.p[f"{name}.4.weight"].T + self.p[f"{name}.4.bias"]

    def __call__(self, unit: Array, kind: Array, t: Array, session: int, asked: Array) -> Array:
        p = self.p
        tokens = p["unit_embedding.weight"][unit] + p["kind_embedding.weight"][kind]
        steps = SIZES.steps
        x = np.concatenate([p["latent_embedding.weight"]] * steps)
        tx = np.repeat((np.arange(steps) + 0.5) * SIZES.latent_step, SIZES.latents_per_step)
        x = x + self.attend(
            "read",
            self.norm(x, "read.norm"),
            tx,
            self.norm(tokens, "read.norm_context"),
            t,
            SIZES.cross_heads,
            True,
        )
        x = x + self.feedforward("read_feedforward", x)
        for k in range(SIZES.depth):
            inner = self.norm(x, f"layers.{k}.attention.norm")
            x = x + self.attend(
                f"layers.{k}.attention", inner, tx, inner, tx, SIZES.self_heads, True
            )
            x = x + self.feedforward(f"layers.{k}.feedforward", x)
        y = np.stack([p["session_embedding.weight"][session]] * len(asked))
        y = y + self.attend(
            "ask",
            self.norm(y, "ask.norm"),
            asked,
            self.norm(x, "ask.norm_context"),
            tx,
            SIZES.cross_heads,
            False,
        )
        y = y + self.feedforward("ask_feedforward", y)
        return y @ p["readout.weight"].T + p["readout.bias"]


def test_forward_is_the_papers(model: Perceiver, batch: tuple[Spans, Keys, Queries]) -> None:
    windows, keys, queries = batch
    found = model.double()(_double(keys), _double(queries)).detach().numpy()
    model.float()
    single = model(keys, queries).detach().numpy()
    reference = Reference(model)
    for w in range(len(windows)):
        real, asked = keys.mask[w], queries.mask[w]
        expected = reference(
            keys.unit[w][real].numpy(),
            keys.kind[w][real].numpy(),
            keys.time[w][real].double().numpy(),
            int(windows.session[w]),
            queries.time[w][asked].double().numpy(),
        )
        scale = np.abs(expected).max()
        # The frequencies are float32 in both: the shortest period turns 1000 times in a window.
        np.testing.assert_allclose(found[w][asked], expected, atol=2e-3 * scale)
        np.testing.assert_allclose(single[w][asked], expected, atol=2e-3 * scale)


def _double(tokens: Keys | Queries) -> Keys | Queries:
    return replace(tokens, time=tokens.time.double())


def test_a_window_is_decoded_alike_in_any_company(
    corpus: Corpus, model: Perceiver, batch: tuple[Spans, Keys, Queries]
) -> None:
    windows, keys, queries = batch
    together = model(keys, queries)
    assert keys.mask.sum(1).unique().numel() > 1  # so there is padding
    for w in range(len(windows)):
        one = windows[w : w + 1]
        alone = model(
            key_tokens(corpus.spikes, one, all_units(corpus.vocabulary, one.session)),
            query_tokens(corpus.targets.time, one, None),
        )
        torch.testing.assert_close(alone[0], together[w][queries.mask[w]], rtol=1e-4, atol=1e-5)
    junk = torch.where(keys.mask, 0, torch.randint(0, 20, keys.unit.shape))
    padded = replace(keys, unit=keys.unit + junk, time=torch.where(keys.mask, keys.time, 7.7))
    torch.testing.assert_close(model(padded, queries), together, rtol=0, atol=0)


def test_only_time_differences_matter(model: Perceiver, batch: tuple[Spans, Keys, Queries]) -> None:
    _, keys, queries = batch
    before = model.double()(_double(keys), _double(queries))
    latent_time, shift = model.latent_time.clone(), 0.125
    model.latent_time += shift
    keys = replace(keys, time=keys.time.double() + shift)
    queries = replace(queries, time=queries.time.double() + shift)
    torch.testing.assert_close(model(keys, queries), before, rtol=1e-8, atol=1e-8)
    model.float()
    model.latent_time.copy_(latent_time.float())


def test_gradients_reach_the_units_that_are_there_and_no_others(
    corpus: Corpus, model: Perceiver
) -> None:
    windows = corpus.train.draw(1.0, 4, torch.Generator().manual_seed(0))
    kept, first = all_units(corpus.vocabulary, windows.session)
    kept = kept & (torch.arange(kept.shape[1]) < 5)
    keys = key_tokens(corpus.spikes, windows, (kept, first))
    model.zero_grad()
    model(keys, query_tokens(corpus.targets.time, windows, 8)).square().sum().backward()
    gradient = model.unit_embedding.weight.grad
    assert isinstance(gradient, Tensor)
    touched = set(torch.nonzero(gradient.abs().sum(1))[:, 0].tolist())
    assert touched == {*range(5), *range(12, 17)}


def test_keys_are_spikes_and_two_edges_a_unit(
    corpus: Corpus, batch: tuple[Spans, Keys, Queries]
) -> None:
    windows, keys, _ = batch
    for w in range(len(windows)):
        session = int(windows.session[w])
        first, n = corpus.vocabulary.first_unit[session], corpus.vocabulary.units[session]
        real = keys.mask[w]
        kind, unit, time = keys.kind[w][real], keys.unit[w][real], keys.time[w][real]
        length = float(windows.stop[w] - windows.start[w])
        for edge, at in ((START, 0.0), (END, length)):
            assert unit[kind == edge].tolist() == list(range(first, first + n))
            torch.testing.assert_close(time[kind == edge], torch.full((n,), at))
        owner, rows = corpus.spikes.cut(windows)
        rows = rows[owner == w]
        assert unit[kind == SPIKE].tolist() == corpus.spikes.unit[rows].tolist()
        torch.testing.assert_close(
            time[kind == SPIKE].double(),
            corpus.spikes.time[rows] - windows.start[w],
            rtol=0,
            atol=1e-6,
        )


def test_unit_dropout_keeps_a_triangular_number_of_whole_units(corpus: Corpus) -> None:
    settings = UnitDropout(least=2, mode=5, most=9)
    windows = corpus.train.draw(1.0, 20_000, torch.Generator().manual_seed(0))
    units = all_units(corpus.vocabulary, windows.session)
    kept, first = drop_units(units, settings, torch.Generator().manual_seed(1))
    again, _ = drop_units(units, settings, torch.Generator().manual_seed(1))
    assert torch.equal(kept, again)
    assert not (kept & ~units[0]).any()
    number = kept.sum(1).double()
    assert (number.min(), number.max()) == (2, 9)
    assert abs(float(number.mean()) - (2 + 5 + 9) / 3) < 0.05
    in_a = kept[windows.session == 0].double().mean(0)
    assert float(in_a.max() - in_a.min()) < 0.03  # no unit is favoured

    keys = key_tokens(corpus.spikes, windows[:50], (kept[:50], first[:50]))
    for w in range(50):
        allowed = set((torch.nonzero(kept[w])[:, 0] + first[w]).tolist())
        assert set(keys.unit[w][keys.mask[w]].tolist()) == allowed


def test_a_small_session_keeps_all_its_units(corpus: Corpus) -> None:
    session = torch.tensor([1] * 100)
    units = all_units(corpus.vocabulary, session)
    kept, _ = drop_units(units, UnitDropout(least=9, mode=30, most=60), torch.Generator())
    assert torch.equal(kept, units[0])


def test_triangular_numbers_have_the_triangular_distribution() -> None:
    chance = (torch.arange(100_000) + 0.5) / 100_000
    drawn = triangular(chance, UnitDropout(least=10, mode=20, most=50)).double()
    for at in (15.0, 20.0, 30.0, 45.0):
        below = (at - 10) ** 2 / (40 * 10) if at <= 20 else 1 - (50 - at) ** 2 / (40 * 30)
        assert abs(float((drawn < at).double().mean()) - below) < 1e-3
    even = triangular(chance, UnitDropout(least=7, mode=7, most=7))
    assert (even == 7).all()
