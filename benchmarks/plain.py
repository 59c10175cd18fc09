"""The decoder written plainly, to compare our trainer with.

The architecture of Azabou et al. 2023 (POYO, section 2) in straightforward torch. Windows are cut
and tokenized one at a time in the workers of a DataLoader and padded to the longest of their batch.
The modules follow the paper. Nothing is projected once and gathered, packed, fused by hand or
compiled. Nothing is slower than necessary either: attention is torch's own, the optimizer is fused,
batches are prefetched and pinned, and no step waits for the device. Takes nothing from
`neurobrick_model`, and does the same work at each step: the same windows and tokens, mean squared
error, clipped gradients, AdamW.

`measure` trains for some steps and returns the speed.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from neurobrick import Dataset, Slice

WINDOW = 1.0  # seconds
QUERIES = 64  # at most, a window
KEPT_UNITS = 30, 100, 300  # least, mode and most of a triangular number
LATENT_STEPS = 8  # time points in a window
PERIODS = 1e-4, 2.0627  # shortest and longest of the rotary embedding, s
FEEDFORWARD = 4  # hidden width, in dims
FEEDFORWARD_DROPOUT, RESIDUAL_DROPOUT = 0.2, 0.4
SPIKE, START, END = range(3)
WARMUP = 2  # steps

Place = tuple[int, float]  # row of a session, and a window's start
Rotation = tuple[Tensor, Tensor]  # cosines and sines (b, 1, n, head_dim // 2)


class Window(NamedTuple):
    """One window's tokens: `unit`, `kind` (n,) int64 and `time` (n,) float32; the row of its
    session, () int64; and its queries: `asked` (q,) float32, z-scored `value` (q, d) float32.
    Times are seconds from the window's start."""

    unit: Tensor
    kind: Tensor
    time: Tensor
    session: Tensor
    asked: Tensor
    value: Tensor


class Batch(NamedTuple):
    """Windows padded to the longest: of each field of `Window`, (b, n, …), with `mask` (b, n) and
    `asked_mask` (b, q), False where there is only padding."""

    unit: Tensor
    kind: Tensor
    time: Tensor
    mask: Tensor
    session: Tensor
    asked: Tensor
    value: Tensor
    asked_mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on `device`, without waiting for it where memory is pinned."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class PlainDataset(torch.utils.data.Dataset[Window]):
    """Windows of the corpus at `root`, tokenized; indexed by session row and start. Each process
    opens the corpus for itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        dataset = Dataset(root)
        sessions = [dataset[session_id] for session_id in dataset]
        self.target = sessions[0].target  # the behavior that is decoded
        self.units = [session.n_units for session in sessions]
        self.first_unit = np.cumsum([0, *self.units])[:-1].tolist()
        spans, values = [], []
        for row, session in enumerate(sessions):
            for start, stop in session.splits["train"]:
                spans.append((row, start, stop))
                values.append(session.slice(start, stop).behavior[self.target].values)
        self.spans = np.array(spans)  # (n, 3): session row, start, stop
        every = np.concatenate(values)
        self.mean, self.std = np.nanmean(every, axis=0), np.nanstd(every, axis=0)

    @cached_property
    def dataset(self) -> Dataset:
        """The corpus, opened by this process."""
        return Dataset(self.root)

    @cached_property
    def rng(self) -> np.random.Generator:
        """This process's own: a DataLoader seeds torch differently in each of its workers."""
        return np.random.default_rng(torch.initial_seed())

    def touch(self) -> None:
        """Read every session, so that no window waits for the first read of its session."""
        for row in range(len(self.units)):
            self[row, 0.0]

    def __getitem__(self, place: Place) -> Window:
        row, start = place
        window = self.dataset.slice(self.dataset.sessions[row], start, start + WINDOW)
        spikes, kept = window.spikes, self._kept(row)
        seen = kept[spikes.units]
        spike_unit, edge_unit = spikes.units[seen], np.flatnonzero(kept)
        unit = np.concatenate([spike_unit, edge_unit, edge_unit])
        lengths = [len(spike_unit), len(edge_unit), len(edge_unit)]
        kind = np.repeat([SPIKE, START, END], lengths)
        edges = np.repeat([0.0, WINDOW], lengths[1:])
        asked, value = self._queries(window)
        return Window(
            unit=torch.from_numpy(unit + np.int64(self.first_unit[row])),
            kind=torch.from_numpy(kind),
            time=_float32(np.concatenate([spikes.times[seen] - start, edges])),
            session=torch.tensor(row),
            asked=_float32(asked - start),
            value=_float32((value - self.mean) / self.std),
        )

    def _kept(self, row: int) -> NDArray[np.bool_]:
        """The units that are kept: a random subset of a triangular number of them."""
        n_units = self.units[row]
        n_kept = min(n_units, round(self.rng.triangular(*KEPT_UNITS)))
        kept = np.zeros(n_units, bool)
        kept[self.rng.permutation(n_units)[:n_kept]] = True
        return kept

    def _queries(self, window: Slice) -> tuple[NDArray[Any], NDArray[Any]]:
        """Times and values of at most `QUERIES` of the samples."""
        samples = window.behavior[self.target]
        rows = np.flatnonzero(np.isfinite(samples.values).all(axis=1))
        if len(rows) > QUERIES:
            rows = np.sort(self.rng.choice(rows, QUERIES, replace=False))
        return samples.timestamps[rows], samples.values[rows]


class RandomWindows(Sampler[Place]):
    """Random windows without end, each wholly inside one of `spans` (n, 3); a span is chosen in
    proportion to its length. Spans shorter than a window are left out."""

    def __init__(self, spans: NDArray[np.float64], seed: int = 0) -> None:
        self.spans = spans[spans[:, 2] - spans[:, 1] >= WINDOW]
        self.seed = seed

    def __iter__(self) -> Iterator[Place]:
        rng = np.random.default_rng(self.seed)
        row, start, stop = self.spans.T
        chance = (stop - start) / (stop - start).sum()
        while True:
            chosen = rng.choice(len(row), 4096, p=chance)
            starts = rng.uniform(start[chosen], stop[chosen] - WINDOW)
            yield from zip(row[chosen].astype(int).tolist(), starts.tolist(), strict=True)


def collate(windows: list[Window]) -> Batch:
    """Pad windows to the longest one."""
    unit, kind, time, session, asked, value = zip(*windows, strict=True)
    return Batch(
        unit=pad_sequence(unit, batch_first=True),
        kind=pad_sequence(kind, batch_first=True),
        time=pad_sequence(time, batch_first=True),
        mask=_mask(time),
        session=torch.stack(session),
        asked=pad_sequence(asked, batch_first=True),
        value=pad_sequence(value, batch_first=True),
        asked_mask=_mask(asked),
    )


@dataclass(frozen=True)
class Size:
    """Sizes of a decoder; the published ones are in `PRESETS`."""

    dim: int
    depth: int
    head_dim: int
    cross_heads: int
    self_heads: int
    latents_per_step: int


PRESETS = {
    "poyo-1.3m": Size(64, 6, 64, 2, 8, 16),
    "poyo-11.8m": Size(128, 24, 64, 4, 8, 32),
}


class PlainPoyo(nn.Module):
    """Spikes in, behavior out. Latents on a time grid read the tokens and attend to each other;
    queries read the latents."""

    def __init__(self, size: Size, n_units: int, n_sessions: int, n_outputs: int) -> None:
        super().__init__()
        s = size
        self.unit_embedding = _embedding(n_units, s.dim)
        self.kind_embedding = _embedding(3, s.dim)
        self.latent_embedding = _embedding(s.latents_per_step, s.dim)
        self.session_embedding = _embedding(n_sessions, s.dim)
        self.rotary = Rotary(s.head_dim)
        grid = (torch.arange(LATENT_STEPS) + 0.5) * WINDOW / LATENT_STEPS
        self.register_buffer("latent_time", grid.repeat_interleave(s.latents_per_step)[None])
        cross = (s.dim, s.cross_heads, s.head_dim)
        self.read = CrossAttention(*cross, rotate_values=True)
        self.read_feedforward = feedforward(s.dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([SelfAttention(s.dim, s.self_heads, s.head_dim), feedforward(s.dim)])
            for _ in range(s.depth)
        )
        self.dropout = nn.Dropout(RESIDUAL_DROPOUT)
        self.ask = CrossAttention(*cross, rotate_values=False)
        self.ask_feedforward = feedforward(s.dim)
        self.readout = nn.Linear(s.dim, n_outputs)

    def forward(self, batch: Batch) -> Tensor:
        """z-scored behavior (b, q, outputs) at the batch's queries."""
        tokens = self.unit_embedding(batch.unit) + self.kind_embedding(batch.kind)
        latents = self.latent_embedding.weight.repeat(LATENT_STEPS, 1)
        latents = latents.expand(len(tokens), -1, -1)
        grid = self.rotary(self.latent_time)
        mask = batch.mask[:, None, None]
        latents = latents + self.read(latents, tokens, grid, self.rotary(batch.time), mask)
        latents = latents + self.read_feedforward(latents)
        for attention, hidden in self.layers:
            latents = latents + self.dropout(attention(latents, grid))
            latents = latents + self.dropout(hidden(latents))
        queries = self.session_embedding(batch.session)[:, None]
        queries = queries.expand(-1, batch.asked.shape[1], -1)
        queries = queries + self.ask(queries, latents, self.rotary(batch.asked), grid)
        return self.readout(queries + self.ask_feedforward(queries))


class CrossAttention(nn.Module):
    """`query` (b, q, dim) reads from `context` (b, n, dim) where `mask` (b, 1, 1, n) is True."""

    def __init__(self, dim: int, heads: int, head_dim: int, *, rotate_values: bool) -> None:
        super().__init__()
        self.heads, self.rotate_values = heads, rotate_values
        self.norm, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_key_value = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_output = nn.Linear(heads * head_dim, dim)

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        query_rotation: Rotation,
        context_rotation: Rotation,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What is read (b, q, dim)."""
        key, value = self.to_key_value(self.norm_context(context)).chunk(2, dim=-1)
        query = rotate(_by_head(self.to_query(self.norm(query)), self.heads), query_rotation)
        key, value = _by_head(key, self.heads), _by_head(value, self.heads)
        key = rotate(key, context_rotation)
        if self.rotate_values:
            value = rotate(value, context_rotation)
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        if self.rotate_values:
            read = rotate(read, back(query_rotation))
        return self.to_output(read.transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    """Latents (b, n, dim) read each other."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_query_key_value = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.to_output = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """What is read (b, n, dim)."""
        query, key, value = (
            rotate(_by_head(part, self.heads), rotation)
            for part in self.to_query_key_value(self.norm(x)).chunk(3, dim=-1)
        )
        read = functional.scaled_dot_product_attention(query, key, value)
        return self.to_output(rotate(read, back(rotation)).transpose(1, 2).flatten(2))


class Rotary(nn.Module):
    """Times (b, n) as rotations of number pairs; half of the pairs stay as they are."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        turning = head_dim // 4
        periods = torch.logspace(*(math.log10(period) for period in PERIODS), turning)
        frequency = torch.cat([2 * math.pi / periods, torch.zeros(turning)])
        self.register_buffer("frequency", frequency)

    def forward(self, time: Tensor) -> Rotation:
        """float32, under autocast too: a spike's phase at the shortest period needs its bits."""
        angle = time[:, None, :, None] * self.frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of `x` (b, heads, n, head_dim)."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def back(rotation: Rotation) -> Rotation:
    """The opposite rotation."""
    cos, sin = rotation
    return cos, -sin


class GEGLU(nn.Module):
    """Half of the input, gated by the GELU of the other half (Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * functional.gelu(gate)


def feedforward(dim: int) -> nn.Sequential:
    """Pre-norm GEGLU feed-forward."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, 2 * FEEDFORWARD * dim),
        GEGLU(),
        nn.Dropout(FEEDFORWARD_DROPOUT),
        nn.Linear(FEEDFORWARD * dim, dim),
    )


@dataclass(frozen=True)
class Rate:
    """How fast training went: windows and input tokens (padding not counted) a second, the median
    step in seconds, the share of the input that is padding, and the most memory in bytes that
    tensors took on a CUDA device, or, on a CPU, that this process has ever taken (without its
    workers)."""

    windows_per_second: float
    tokens_per_second: float
    seconds_per_step: float
    padding: float
    peak_bytes: int


def measure(
    root: Path,
    preset: str,
    *,
    batch: int,
    steps: int,
    device: str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 2,
) -> Rate:
    """Train on the corpus at `root` for `steps` steps of `batch` windows, end to end, after a few
    uncounted steps. `bfloat16` is torch's autocast; `torch.set_float32_matmul_precision` sets the
    precision of `float32` products."""
    place = torch.device(device)
    torch.manual_seed(0)
    dataset = PlainDataset(root)
    n_outputs = len(dataset.mean)
    model = PlainPoyo(PRESETS[preset], sum(dataset.units), len(dataset.units), n_outputs).to(place)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    batches = iter(loader(dataset, batch, workers, pin_memory=place.type == "cuda"))
    there = real = 0
    ticks = []
    for step in range(WARMUP + steps):
        if step >= WARMUP:
            ticks.append(_tick(place))
        made = next(batches)
        if step >= WARMUP:
            there += made.mask.numel()
            real += int(made.mask.sum())
        with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(model, made.to(place))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    ticks.append(_tick(place))
    assert math.isfinite(loss.item()), "training diverged"  # waits for the device, too
    seconds = _seconds(ticks[0], ticks[-1])
    each = [_seconds(a, b) for a, b in pairwise(ticks)]
    return Rate(
        windows_per_second=batch * steps / seconds,
        tokens_per_second=real / seconds,
        seconds_per_step=float(np.median(each)),
        padding=1 - real / there,
        peak_bytes=_peak_bytes(place),
    )


def loader(
    dataset: PlainDataset, batch: int, workers: int, *, pin_memory: bool
) -> DataLoader[Window]:
    """Random batches of `batch` windows without end; the workers have read every session."""
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=RandomWindows(dataset.spans),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_touch,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def loss_of(model: PlainPoyo, batch: Batch) -> Tensor:
    """Mean squared error over the queries that are not padding."""
    error = (model(batch) - batch.value).square().mean(2)
    return (error * batch.asked_mask).sum() / batch.asked_mask.sum()


def _touch(worker: int) -> None:
    """Run in each worker as it starts."""
    info = torch.utils.data.get_worker_info()
    assert info is not None
    info.dataset.touch()


def _tick(device: torch.device) -> Any:
    """The time now; on a CUDA device, the time when the device gets here."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(start: Any, stop: Any) -> float:
    return stop - start if isinstance(start, float) else start.elapsed_time(stop) / 1e3


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # in KiB on Linux


def _float32(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _mask(sequences: tuple[Tensor, ...]) -> Tensor:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _embedding(n: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(n, dim)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding
