"""The network computes the formulas of the paper, by every path, for any other windows in the
batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.model import attention
from neurobrick_model.model.attention import attend_each, attend_padded, attend_varlen
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.settings import DataSettings, ModelSettings, TrainingSettings
from neurobrick_model.training.batches import Batch, BatchMaker, shares
from neurobrick_model.training.compile import compile_parts
from neurobrick_model.training.optimization.loss import LOSS, WEIGHT, Objective
from tests.support.model.fakes import FakeDataset, fake_session
from tests.support.model.reference import Reference

SIZES = ModelSettings(
    window=1.0,
    dim=16,
    depth=2,
    head_dim=8,
    cross_heads=2,
    self_heads=3,
    latent_step=0.25,
    latents_per_step=3,
    rotary_periods=(1e-4, 2.0627),
)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
Call = Any


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Two sessions, one of which has a training interval shorter than a window."""
    from neurobrick import Intervals

    short = fake_session("sim/b", 2, n_units=9, start=1000.5)
    train = Intervals([1000.5, 1010.0], [1000.9, 1050.0])
    short = short.with_(splits={**short.splits, "train": train})
    dataset = FakeDataset(fake_session("sim/a", 1, n_units=12), short)
    return Corpus.from_dataset(dataset, DataSettings())  # type: ignore[arg-type]


def fresh(corpus: Corpus, scale: float = 0.3) -> Perceiver:
    torch.manual_seed(0)
    model = Perceiver(SIZES, corpus.vocabulary.n_units, 2, 2)
    with torch.no_grad():  # fresh embeddings are so small that errors would not show
        for parameter in model.parameters():
            parameter.normal_(0, scale)
    return model


def cutter(corpus: Corpus, *, padded: bool = False, **settings: Any) -> BatchMaker:
    training = TrainingSettings.model_validate(
        {"batch": 12, "queries": 9, "unit_dropout": {"least": 3, "mode": 6, "most": 12}, **settings}
    )
    sites = Perceiver(SIZES, 1, 1, 1).sites
    return BatchMaker(corpus, training, SIZES.window, sites, padded=padded)


@pytest.fixture(scope="module")
def batch(corpus: Corpus) -> Batch:
    """Twelve windows, one of them from the short interval; without dropout in the model."""
    return cutter(corpus).cut(3, torch.arange(12))


def gradients(model: Perceiver, batch: Batch, precision: torch.dtype) -> tuple[float, dict]:  # type: ignore[type-arg]
    """Loss, and its gradient by parameter, without dropout."""
    batch = replace(batch, dropout_keys=None)  # type: ignore[arg-type]
    model.zero_grad()
    sums = Objective(model, precision)(batch)[0]
    loss = sums[LOSS] / sums[WEIGHT]
    loss.backward()
    return loss.item(), {n: p.grad.double().cpu() for n, p in model.named_parameters()}  # type: ignore[union-attr]


def hold(found: tuple[float, dict], expected: tuple[float, dict], tolerance: float) -> None:  # type: ignore[type-arg]
    """Losses agree within `tolerance`, and so do the norms of gradients.

    A gradient's error is relative to the largest gradient of its kind, because small ones are
    differences of large numbers.
    """
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    largest = max(float(g.norm()) for g in expected[1].values())
    for name, gradient in expected[1].items():
        error = float((found[1][name] - gradient).norm())
        assert error <= tolerance * max(float(gradient.norm()), 0.01 * largest), name


@pytest.fixture(scope="module")
def expected(corpus: Corpus, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    reference = Reference(fresh(corpus), SIZES)
    loss = reference.loss(batch)
    loss.backward()
    grads = {name: value.grad for name, value in reference.p.items()}
    return loss.item(), grads  # type: ignore[return-value]


def test_the_batch_has_windows_of_all_kinds(corpus: Corpus, batch: Batch) -> None:
    assert batch.keys.offsets.diff().unique().numel() > 6
    assert set(batch.queries.session.tolist()) == {0, 1}
    assert not batch.queries.mask.all() or int(batch.queries.mask.sum()) == 12 * 9


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(torch.float32, 2e-4), (torch.bfloat16, 6e-2)],
    ids=["float32", "bfloat16"],
)
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("read", ["each", "padded"])
def test_loss_and_gradients_match_the_reference(
    corpus: Corpus,
    batch: Batch,
    expected: Any,
    precision: torch.dtype,
    tolerance: float,
    compact: bool,
    read: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if read == "padded":
        monkeypatch.setattr(attention, "attend_packed", attend_padded)
    if compact:
        batch = replace(batch, keys=batch.keys.compact())
    hold(gradients(fresh(corpus), batch, precision), expected, tolerance)


def test_in_float64_the_loss_matches_the_reference_to_the_precision_of_angles(
    corpus: Corpus, batch: Batch, expected: Any
) -> None:
    """Cosines and sines are float32 by every path; everything else is float64 here."""
    (target,), (weight,) = batch.target, batch.weight
    model = fresh(corpus).double()
    model.zero_grad()
    guess = model(batch.keys, batch.queries)
    error = ((guess - target).square().mean(-1) * weight).sum() / weight.double().sum()
    error.backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    hold((error.item(), found), expected, 1e-5)  # type: ignore[arg-type]


def test_padded_lengths_change_nothing(corpus: Corpus, batch: Batch, expected: Any) -> None:
    tokens = batch.keys
    wide = tokens.padded(len(tokens.row) + 57, tokens.longest + 20)
    assert len(wide.row) > len(tokens.row)
    wide = replace(wide, time=torch.where(torch.arange(len(wide.time)) < tokens.count,
                                          wide.time, 12345))  # fmt: skip
    hold(gradients(fresh(corpus), replace(batch, keys=wide), torch.float32), expected, 2e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own, of torch's own
def test_compiled_loss_and_gradients_match_the_reference(
    corpus: Corpus, batch: Batch, expected: Any
) -> None:
    torch._dynamo.reset()
    model = fresh(corpus)
    compile_parts(model)
    try:
        hold(gradients(model, batch, torch.float32), expected, 2e-4)
        plain, compiled = fresh(corpus), model
        sums = [Objective(m, torch.float32)(batch) for m in (plain, compiled)]  # with dropout
        torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-5)
    finally:
        torch._dynamo.reset()


@CUDA
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 6e-2)]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_loss_and_gradients_match_the_reference(
    corpus: Corpus,
    batch: Batch,
    expected: Any,
    precision: torch.dtype,
    tolerance: float,
    compiled: bool,
) -> None:
    model = fresh(corpus).cuda()
    if compiled:
        compile_parts(model)
    device = torch.device("cuda")
    moved = Batch(
        batch.keys.padded(len(batch.keys.row) + 64, batch.keys.longest + 9).to(device),
        batch.queries.to(device),
        batch.dropout_keys.to(device),
        tuple(target.to(device) for target in batch.target),
        tuple(weight.to(device) for weight in batch.weight),
    )
    hold(gradients(model, moved, precision), expected, tolerance)


@CUDA
def test_on_a_gpu_attention_to_ragged_keys_equals_that_to_padded_keys() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([5, 130, 0, 64])
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int().cuda()
    query = torch.randn(4, 8, 2, 64, device="cuda", dtype=torch.bfloat16)
    key, value = torch.randn(2, 210, 2, 64, device="cuda", dtype=torch.bfloat16)
    found = attend_varlen(query, key, value, offsets, 256)
    expected = attend_padded(query.float(), key.float(), value.float(), offsets, 130)
    kept = counts > 0
    torch.testing.assert_close(found[kept].float(), expected[kept], rtol=2e-2, atol=2e-2)


def test_packed_and_padded_attention_agree() -> None:
    torch.manual_seed(0)
    offsets = torch.tensor([0, 5, 135, 199], dtype=torch.int32)
    query = torch.randn(3, 8, 2, 16)
    key, value = torch.randn(2, 204, 2, 16)  # five rows of padding
    found = attend_each(query, key, value, offsets)
    torch.testing.assert_close(found, attend_padded(query, key, value, offsets, 150))


def test_a_window_is_decoded_alike_in_any_batch(corpus: Corpus) -> None:
    """A window's tokens, queries, dropout and loss do not depend on its batch, microbatch, rank or
    neighbors."""
    cut, model = cutter(corpus), fresh(corpus)
    objective = Objective(model, torch.float32)
    together = cut.cut(5, torch.arange(12))
    guesses = model(together.keys, together.queries, together.dropout_keys)
    for w in range(12):
        alone = cut.cut(5, torch.tensor([w]))
        assert torch.equal(alone.target[0][0], together.target[0][w])
        guess = model(alone.keys, alone.queries, alone.dropout_keys)
        torch.testing.assert_close(guess[0], guesses[w], rtol=1e-4, atol=1e-4)
    whole = objective(together)
    for ranks in (2, 3):
        parts = [
            objective(cut.cut(5, windows))
            for rank in range(ranks)
            for windows in shares(12, 3, rank, ranks)
        ]
        torch.testing.assert_close(torch.stack(parts).sum(0), whole, rtol=1e-5, atol=1e-4)


def test_only_time_differences_matter(corpus: Corpus, batch: Batch) -> None:
    model = fresh(corpus).double()
    before = model(batch.keys, batch.queries)
    shift = 2**21
    model.latent_time += shift
    keys = replace(batch.keys, time=batch.keys.time + shift)
    queries = replace(batch.queries, time=batch.queries.time + shift)
    torch.testing.assert_close(model(keys, queries), before, rtol=1e-5, atol=1e-5)


def test_only_units_of_the_batch_get_a_gradient(corpus: Corpus) -> None:
    cut, model = cutter(corpus, batch=4), fresh(corpus)
    for step in range(3):
        small = cut.cut(step, torch.arange(4))
        model.zero_grad()
        Objective(model, torch.float32)(small)[0, LOSS].backward()
        gradient = model.unit_embedding.weight.grad
        assert isinstance(gradient, Tensor)
        touched = set(torch.nonzero(gradient.abs().sum(1))[:, 0].tolist())
        assert touched == set((small.keys.token // 3).tolist())
        assert len(touched) < corpus.vocabulary.n_units


def test_a_model_in_half_precision_keeps_exact_times(corpus: Corpus) -> None:
    model = fresh(corpus)
    turns = model.rotary.turns.clone()
    model.to(torch.bfloat16)
    assert model.unit_embedding.weight.dtype == torch.bfloat16
    assert torch.equal(model.rotary.turns, turns)
    # A time an hour into the smallest period's turns still tells a microsecond.
    at = torch.tensor([2**30, 2**30 + 17], dtype=torch.int32)
    angle = model.rotary(at)[:, 0]
    expected = 2 * torch.pi * ((at.double() / 2**24 / 1e-4) % 1)
    torch.testing.assert_close(angle[:, 0].double(), expected.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(angle[:, 1].double(), expected.sin(), rtol=0, atol=1e-5)
