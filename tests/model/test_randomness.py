"""Random numbers that depend on their purpose alone: uniform, independent, always the same."""

from __future__ import annotations

import numpy as np
import torch

from neurobrick_model.randomness import GOLDEN, Purpose, dropout, kept, keys, mix, step_key, uniform
from neurobrick_model.training.batches import shares


def test_uniform_numbers_are_uniform_and_independent() -> None:
    windows = torch.arange(2000)
    drawn = uniform(keys(step_key(0, 7), Purpose.WINDOW_PLACE, windows), 50).numpy()
    assert 0 <= drawn.min() < 1e-3
    assert 1 - 1e-3 < drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=50, range=(0, 1))
    chi2 = ((counts - 2000) ** 2 / 2000).sum()
    assert chi2 < 100  # 49 degrees of freedom: one in 50,000 is larger
    between = np.corrcoef(drawn.T) - np.eye(50)
    assert np.abs(between).max() < 5 / np.sqrt(2000)
    along = np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]
    assert abs(along) < 5 / np.sqrt(drawn.size)


def test_seed_step_purpose_and_window_all_matter_and_nothing_else() -> None:
    windows = torch.arange(100)
    drawn = {
        (seed, step, purpose): uniform(keys(step_key(seed, step), purpose, windows))[:, 0]
        for seed in (0, 1)
        for step in (0, 1, 2)
        for purpose in Purpose
    }
    every = torch.cat(list(drawn.values()))
    assert every.unique().numel() == every.numel()
    pair = torch.tensor([3, 98])
    again = uniform(keys(step_key(1, 2), Purpose.UNIT_CHOICE, pair))[:, 0]
    assert torch.equal(again, drawn[1, 2, Purpose.UNIT_CHOICE][pair])


def test_mixing_is_that_of_splitmix64() -> None:
    """The first outputs of SplitMix64 for the seed 1234567, as published on Rosetta Code."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    mixed = mix(1234567 + torch.arange(1, 6) * GOLDEN)
    assert [value % 2**64 for value in mixed.tolist()] == published


def test_numbers_are_these_on_every_machine() -> None:
    numbers = uniform(keys(step_key(3, 5), Purpose.QUERY_JITTER, torch.arange(2)), 2)
    expected = [
        [0.2032790975065466, 0.9611289580939167],
        [0.896410727042228, 0.0732730109823917],
    ]
    np.testing.assert_array_equal(numbers, expected)


def test_dropout_drops_its_share_evenly_and_keeps_the_mean() -> None:
    key = keys(step_key(0, 0), Purpose.DROPOUT, torch.arange(64)).to(torch.int32)
    factors = kept(torch.Size((64, 128, 64)), 0.2, key)
    assert set(factors.unique().tolist()) == {0.0, 1.25}
    dropped = (factors == 0).double()
    n = 64 * 128 * 64
    assert abs(float(dropped.mean()) - 0.2) < 5 * 0.4 / np.sqrt(n)
    for axis, count in ((0, 64), (1, 128), (2, 64)):
        other_axes = tuple({0, 1, 2} - {axis})
        spread = float(dropped.mean(other_axes).std()) / (0.4 / np.sqrt(n / count))
        assert 0.6 < spread < 1.4  # as that of independent draws
    flat = dropped.flatten(1)
    between = torch.corrcoef(flat) - torch.eye(64)
    assert float(between.abs().max()) < 5.5 / np.sqrt(flat.shape[1])
    x = torch.randn(64, 3, 5)
    assert dropout(x, 0.2, None) is x
    alone = dropout(x[5:6], 0.4, key[5:6])
    assert torch.equal(alone[0], dropout(x, 0.4, key)[5])


def test_every_window_has_one_rank_and_microbatch() -> None:
    for batch, microbatch, ranks in ((32, None, 1), (32, 5, 2), (12, 4, 3), (8, 100, 8)):
        parts = [part for r in range(ranks) for part in shares(batch, microbatch, r, ranks)]
        assert sorted(torch.cat(parts).tolist()) == list(range(batch))
        assert all(len(part) <= (microbatch or batch) for part in parts)
    assert [len(part) for part in shares(10, None, 0, 1, least=4)] == [3, 3, 2, 2]
    assert len(shares(3, None, 0, 1, least=8)) == 3
