"""A dataset made of plain arrays, with the part of neurobrick's interface that training reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neurobrick import Intervals, matching


@dataclass(frozen=True)
class FakeSession:
    id: str
    spike_times: NDArray[np.float64]
    spike_units: NDArray[np.int32]
    n_units: int
    timestamps: NDArray[np.float64]
    values: NDArray[np.float64]
    domain: Intervals
    splits: dict[str, Intervals]
    evaluation: Intervals
    intervals: dict[str, pa.Table] = field(default_factory=dict)
    target: str | None = "hand_vel"
    unit: str = "m/s"
    others: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], str]] = field(
        default_factory=dict
    )  # further behavior: timestamps, values, unit
    subject: str | None = "M"
    areas: tuple[str | None, ...] | None = None  # of each unit; none is told by default

    @property
    def span(self) -> tuple[float, float]:
        return self.domain.span

    @property
    def n_spikes(self) -> int:
        return len(self.spike_times)

    @property
    def has_all_units(self) -> bool:
        return True

    @property
    def spike_counts(self) -> NDArray[np.int64]:
        return np.bincount(self.spike_units, minlength=self.n_units)

    @property
    def metadata(self) -> Any:
        return SimpleNamespace(subject=SimpleNamespace(id=self.subject))

    @property
    def units(self) -> pa.Table:
        table = pa.table({"quality": ["good"] * self.n_units})
        return table.append_column("area", [list(self.areas)]) if self.areas else table

    @property
    def behavior(self) -> dict[str, Any]:
        info = SimpleNamespace(shape=self.values.shape, unit=self.unit, columns=(), rate=None)
        others = {
            name: SimpleNamespace(shape=values.shape, unit=unit, columns=(), rate=None)
            for name, (_, values, unit) in self.others.items()
        }
        return {"hand_vel": info, **others}

    def slice(self, t0: float, t1: float) -> Any:
        spikes = (self.spike_times >= t0) & (self.spike_times < t1)
        samples = (self.timestamps >= t0) & (self.timestamps < t1)
        series = SimpleNamespace(timestamps=self.timestamps[samples], values=self.values[samples])
        return SimpleNamespace(
            spikes=SimpleNamespace(times=self.spike_times[spikes], units=self.spike_units[spikes]),
            behavior={
                "hand_vel": series,
                **{
                    name: SimpleNamespace(timestamps=times, values=values)
                    for name, (times, values, _) in self.others.items()
                },
            },
        )

    def with_(self, **changes: Any) -> FakeSession:
        return replace(self, **changes)


class FakeDataset(dict[str, FakeSession]):
    """Sessions by id."""

    root = "stores"

    def __init__(self, *sessions: FakeSession) -> None:
        super().__init__({session.id: session for session in sessions})

    @property
    def sessions(self) -> list[str]:
        return list(self)

    def matching(self, globs: Iterable[str]) -> list[str]:
        return matching(self.sessions, globs)


def fake_session(
    id: str, seed: int, *, n_units: int = 12, start: float = 0.0, seconds: float = 60.0
) -> FakeSession:
    """Cosine-tuned Poisson units that follow a smooth 2-D velocity at 100 Hz; eight tenths of
    the time train, one valid, one test, in two blocks; every second of two is evaluated."""
    rng = np.random.default_rng(seed)
    times = start + np.arange(round(seconds * 100)) / 100
    noise = rng.standard_normal((len(times) + 100, 2))
    kernel = np.hanning(101)
    velocity = np.stack([np.convolve(axis, kernel, "valid") for axis in noise.T], 1)
    velocity = 0.1 * velocity / velocity.std()
    preferred = rng.standard_normal((n_units, 2))
    rate = np.exp(np.log(12) + velocity / 0.1 @ preferred.T)
    counts = rng.poisson(rate / 100)
    sample, unit = np.nonzero(counts)
    spike_times = times[sample] + rng.uniform(0, 0.01, len(sample))
    order = np.argsort(spike_times, kind="stable")
    edges = start + seconds * np.array([0, 0.4, 0.45, 0.5, 0.9, 0.95, 1.0])
    seconds_starts = start + np.arange(0, seconds, 2.0)
    return FakeSession(
        id=id,
        spike_times=spike_times[order],
        spike_units=unit[order].astype(np.int32),
        n_units=n_units,
        timestamps=times,
        values=velocity,
        domain=Intervals([start], [start + seconds]),
        splits={
            "train": Intervals(edges[[0, 3]], edges[[1, 4]]),
            "valid": Intervals(edges[[1, 4]], edges[[2, 5]]),
            "test": Intervals(edges[[2, 5]], edges[[3, 6]]),
        },
        evaluation=Intervals(seconds_starts, seconds_starts + 1.0),
    )
