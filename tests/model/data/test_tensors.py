"""Tensors have the values of the slice, and writing to them does not change the recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurobrick import Dataset
from neurobrick_model.data.tensors import tensors

SESSION = "local/sub-A_ses-with-gaps"
IRREGULAR = "local/sub-A_ses-irregular"


def test_a_slice_is_a_batch_of_one_window(corpus: Dataset) -> None:
    window = corpus.slice(SESSION, 4.0, 9.0)
    found = tensors(window, ["hand_vel"])
    assert len(window.spikes) > 0
    np.testing.assert_array_equal(found.spike_times.numpy(), window.spikes.times)
    np.testing.assert_array_equal(found.spike_units.numpy(), window.spikes.units)
    assert found.spike_offsets.tolist() == [0, len(window.spikes)]
    velocity, samples = found.behavior["hand_vel"], window.behavior["hand_vel"]
    np.testing.assert_array_equal(velocity.timestamps.numpy(), samples.timestamps)
    np.testing.assert_array_equal(velocity.values.numpy(), samples.values)
    assert velocity.offsets.tolist() == [0, len(samples)]


def test_a_batch_holds_its_windows_in_order(corpus: Dataset) -> None:
    starts = np.array([4.0, 900.0, 1.5, 12.0])
    found = tensors(corpus.slices([SESSION] * 4, starts, 0.8), ["hand_vel"])
    for k, start in enumerate(starts):
        single = tensors(corpus.slice(SESSION, start, start + 0.8), ["hand_vel"])
        first, last = found.spike_offsets[k : k + 2]
        assert torch.equal(found.spike_times[first:last], single.spike_times)
        assert torch.equal(found.spike_units[first:last], single.spike_units)
        velocity, alone = found.behavior["hand_vel"], single.behavior["hand_vel"]
        first, last = velocity.offsets[k : k + 2]
        assert torch.equal(velocity.timestamps[first:last], alone.timestamps)
        assert torch.equal(velocity.values[first:last], alone.values)
    assert len(found.spike_offsets) == len(found.behavior["hand_vel"].offsets) == 5
    assert found.spike_offsets[-1] == len(found.spike_times)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("start", [4.0, -50.0, 900.0])
def test_types_are_the_same_with_and_without_spikes(
    corpus: Dataset, start: float, many: bool
) -> None:
    window = corpus.slice(IRREGULAR, start, start + 1)
    found = tensors(corpus.slices([IRREGULAR], [start], 1.0) if many else window, ["heading"])
    assert found.spike_times.dtype == torch.float64
    assert found.spike_units.dtype == torch.int32
    assert found.spike_offsets.dtype == found.behavior["heading"].offsets.dtype == torch.int64
    assert found.behavior["heading"].timestamps.dtype == torch.float64
    assert found.behavior["heading"].values.dtype == torch.float32
    assert found.behavior["heading"].values.shape == (len(window.behavior["heading"]), 1)
    # What the rows are for: an embedding takes them as they are.
    assert torch.nn.Embedding(3, 2)(found.spike_units).shape == (len(window.spikes), 2)


def test_writing_to_a_tensor_does_not_change_the_recording(corpus: Dataset) -> None:
    window = corpus.slice(SESSION, 4.0, 9.0)
    times, units = window.spikes.times.copy(), window.spikes.units.copy()
    stamps, values = (
        window.behavior["hand_vel"].timestamps.copy(),
        window.behavior["hand_vel"].values.copy(),
    )
    for windows in (window, corpus.slices([SESSION], [4.0], 5.0)):
        found = tensors(windows, ["hand_vel"])
        velocity = found.behavior["hand_vel"]
        for tensor in (found.spike_times, found.spike_units, velocity.timestamps, velocity.values):
            assert len(tensor)
            tensor.zero_()
        again = corpus.slice(SESSION, 4.0, 9.0)
        np.testing.assert_array_equal(again.spikes.times, times)
        np.testing.assert_array_equal(again.spikes.units, units)
        np.testing.assert_array_equal(again.behavior["hand_vel"].timestamps, stamps)
        np.testing.assert_array_equal(again.behavior["hand_vel"].values, values)


def test_a_batch_is_not_copied(corpus: Dataset) -> None:
    batch = corpus.slices([SESSION, SESSION], [4.0, 6.0], 1.0)
    found = tensors(batch)
    assert found.spike_times.data_ptr() == batch.spike_times.ctypes.data
    assert found.spike_units.data_ptr() == batch.spike_units.ctypes.data
    assert found.spike_offsets.data_ptr() == batch.spike_offsets.ctypes.data


def test_tensors_are_on_the_given_device(corpus: Dataset) -> None:
    # The meta device is one that every machine has.
    found = tensors(corpus.slice(SESSION, 4.0, 9.0), ["hand_vel"], device="meta")
    velocity = found.behavior["hand_vel"]
    for tensor in (
        found.spike_times,
        found.spike_units,
        found.spike_offsets,
        velocity.timestamps,
        velocity.values,
        velocity.offsets,
    ):
        assert tensor.device == torch.device("meta")


def test_only_the_named_behaviors_are_read(corpus: Dataset) -> None:
    window, batch = corpus.slice(SESSION, 4.0, 9.0), corpus.slices([SESSION], [4.0], 5.0)
    for windows in (window, batch):
        assert tensors(windows).behavior == {}
        with pytest.raises(KeyError, match="there is: hand_vel"):
            tensors(windows, ["gaze"])


def test_no_windows_are_empty_tensors(corpus: Dataset) -> None:
    found = tensors(corpus.slices([], [], 1.0))
    assert len(found.spike_times) == len(found.spike_units) == 0
    assert found.spike_offsets.tolist() == [0]
