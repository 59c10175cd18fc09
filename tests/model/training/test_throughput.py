"""Throughput: no figure that cannot be."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neurobrick_model.recipe.settings import ModelSettings
from neurobrick_model.training.throughput import Meter, Reading

SLOW, FAST = 1e-3, 1e18  # operations per second: less, and more, than any device does


def reading(*peaks: float) -> Reading:
    """A reading of some windows, on a device whose peak is measured as these, one after the
    other."""
    measured = itertools.chain(peaks, itertools.repeat(peaks[-1]))
    meter = Meter(
        ModelSettings(),
        64,
        2,
        torch.device("cpu"),
        torch.float32,
        1,
        measure=lambda device, precision: next(measured),
    )
    keys = SimpleNamespace(count=500)
    batch: Any = SimpleNamespace(keys=keys, queries=SimpleNamespace(session=torch.zeros(8)))
    meter.count([batch])
    return meter.read()


def test_a_peak_that_was_measured_in_peace_is_kept() -> None:
    utilization = reading(FAST, SLOW).utilization
    assert utilization is not None
    assert 0 < utilization < 1


def test_a_peak_that_training_exceeds_is_measured_again() -> None:
    utilization = reading(SLOW, FAST).utilization
    assert utilization is not None
    assert 0 < utilization < 1


def test_no_share_above_the_peak_is_shown() -> None:
    exceeded = reading(SLOW, SLOW)
    assert exceeded.utilization is None
    assert "of peak" not in str(exceeded)
    assert "windows/s" in str(exceeded)


@pytest.mark.parametrize(("share", "text"), [(0.56, "56% of peak"), (1.0, "100% of peak")])
def test_a_reading_in_words(share: float, text: str) -> None:
    assert str(Reading(1234.5, 9.0, share, 10)).endswith(text)
