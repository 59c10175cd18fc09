"""How long does it take to decode one second of a long session?

`Decoder.predict` reads the spikes of the windows around that second. Beside it, the former way: the
whole session is read from the dataset's cache, its units are counted, and all of its spikes are
packed. Both decode the same windows, and their values are compared. The two take turns, so that
both meet the same noise; medians. Also, once, the first call on a dataset that was just opened,
which decodes the session's arrays from disk.

    python benchmarks/predict_latency.py [--spikes 10000000]
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import click
import numpy as np
import torch
from corpora import RATE, UNITS, write_corpus
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from neurobrick import Dataset
from neurobrick_model import Decoder
from neurobrick_model.data.timeline import PackedSpikes, ticks
from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.decoding.stitching import stitch
from neurobrick_model.decoding.trailing_windows import decode_causally
from neurobrick_model.decoding.vocabulary import units_checksum
from neurobrick_model.recipe.settings import ModelSettings

ROUNDS = 15
HZ = 100.0  # of decoded samples
SECOND = 1.0  # s that are decoded at once
LAGS = (None, 0.0)

Way = Callable[[float, float | None], NDArray[np.float64]]


def make_decoder(ds: Dataset) -> Decoder:
    """An untrained decoder of the default sizes, for the first session of `ds`."""
    session = ds[ds.sessions[0]]
    entry = SessionEntry(
        id=session.id,
        units=session.n_units,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        checksum=units_checksum(session.spike_counts),
    )
    spec = DecoderSpec(
        target="cursor_vel", unit="m/s", axes=("x", "y"), rate=HZ, step=0.5,
        model=ModelSettings(), sessions=(entry,),
    )  # fmt: skip
    torch.manual_seed(0)
    return Decoder(spec, spec.build())


def formerly(decoder: Decoder, ds: Dataset, t0: float, lag: float | None) -> NDArray[np.float64]:
    """The values (n, 2) of the second from t0, from the whole session, as `predict` made them until
    2026-11."""
    session, spec = ds[ds.sessions[0]], decoder.spec
    spikes = session.slice(*session.span).spikes
    counts = np.bincount(spikes.units, minlength=session.n_units)
    assert units_checksum(counts) == spec.sessions[0].checksum
    times = t0 + np.arange(round(SECOND * HZ)) / HZ
    packed = PackedSpikes.gather(
        [(0, spikes.times, spikes.units, session.domain)], 1, torch.device("cpu")
    )
    at = torch.from_numpy(ticks(times)) + packed.base[0]
    if lag is None:
        output = stitch(decoder.model, spec.vocabulary, packed, at, spec.model.window, spec.step)
    else:
        output = decode_causally(decoder.model, spec.vocabulary, packed, at, spec.model.window, lag)
    return output[:, :2].double().numpy()


def clocked(ways: dict[str, Way], starts: list[float], lag: float | None) -> dict[str, float]:
    """The median milliseconds of a call of each way. Raises when their values differ."""
    passed: dict[str, list[float]] = {name: [] for name in ways}
    for t0 in starts:
        values = []
        for name, way in ways.items():
            began = time.perf_counter()
            values.append(way(t0, lag))
            passed[name].append(1e3 * (time.perf_counter() - began))
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-6)
    return {name: statistics.median(each[1:]) for name, each in passed.items()}


@click.command()
@click.option("--spikes", default=10_000_000, show_default=True, help="Spikes of the session.")
def main(spikes: int) -> None:
    """Time both ways, with and without a lag."""
    torch.set_num_threads(1)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, of which one"
    seconds = float(round(spikes / (UNITS * RATE)))
    with tempfile.TemporaryDirectory() as root:
        write_corpus(Path(root), 1, seconds)
        ds = Dataset(root)
        id = ds.sessions[0]
        decoder = make_decoder(ds)
        n_spikes = ds[id].n_spikes
        cold = Dataset(root)
        began = time.perf_counter()
        decoder.predict(cold, id, 10.0, 10.0 + SECOND)
        first = 1e3 * (time.perf_counter() - began)
        ways: dict[str, Way] = {
            "predict": lambda t0, lag: decoder.predict(ds, id, t0, t0 + SECOND, lag=lag)[1],
            "the former way": lambda t0, lag: formerly(decoder, ds, t0, lag),
        }
        starts = np.random.default_rng(0).uniform(1, seconds - 2, ROUNDS + 1).round(2).tolist()
        medians = {lag: clocked(ways, starts, lag) for lag in LAGS}
    title = f"ms to decode 1 s of {n_spikes:,} spikes, {machine}, {date.today()}"
    table = Table("", *ways, "ratio", title=title)
    for lag, each in medians.items():
        new, old = each.values()
        name = "all windows that hold a sample" if lag is None else f"a lag of {lag:g} s"
        table.add_row(name, f"{new:.1f}", f"{old:.1f}", f"{old / new:.0f}")
    console = Console(width=110)
    console.print(table)
    console.print(f"the first call on a dataset that was just opened: {first:.0f} ms")
    result = {
        "date": str(date.today()),
        "machine": machine,
        "torch": torch.__version__,
        "spikes": n_spikes,
        "first_ms": first,
        "ms": {str(lag): each for lag, each in medians.items()},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
