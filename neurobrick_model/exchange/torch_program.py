"""A decoder as a program: one graph of tensor operations that torch runs without neurobrick.

`torch.export` makes it. It decodes one window, with any number of spikes and queries.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from neurobrick_model.data.timeline import TICKS
from neurobrick_model.decoding.decoder import Decoder
from neurobrick_model.decoding.spec import SPEC, DecoderSpec, Scale, SessionEntry
from neurobrick_model.files import replacing
from neurobrick_model.model.tokens import END, KINDS, SPIKE, START, Keys, Queries


class Window(nn.Module):
    """A decoder that reads one window: seconds in, SI out."""

    first_unit: Tensor  # (sessions,) int64
    n_units: Tensor  # (sessions,) int64
    mean: Tensor  # (sessions, columns) float64, SI
    std: Tensor  # (sessions, columns) float64, SI

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        spec = decoder.spec
        self.model = copy.deepcopy(decoder.model).requires_grad_(False)
        self.length = round(spec.model.window * TICKS)
        self.widths = {spec.target: len(spec.axes), **{r.name: r.width for r in spec.readouts}}
        self.discrete = {readout.name for readout in spec.readouts if readout.classes}
        by_session = [list(_scales(spec, session)) for session in spec.sessions]
        self.register_buffer("first_unit", torch.tensor(spec.vocabulary.first_unit))
        self.register_buffer("n_units", torch.tensor(spec.vocabulary.units))
        for name in ("mean", "std"):
            rows = [[x for s in scales for x in getattr(s, name)] for scales in by_session]
            self.register_buffer(name, torch.tensor(rows, dtype=torch.float64))

    def forward(
        self, times: Tensor, units: Tensor, queries: Tensor, session: Tensor
    ) -> dict[str, Tensor]:
        """The values of each readout, by its name, at `queries`: behavior (q, d) float64 in SI, or
        the probabilities (q, classes) float64 of a discrete readout.

        Args:
            times: (n,) float64, of the spikes, s from the window's start, in any order.
            units: (n,) int64, of the spikes, rows of the session's units table.
            queries: (q,) float64, s from the window's start.
            session: () int64, row of the vocabulary.
        """
        n_units = self.n_units.take(session)
        # Shapes, not len(): a shape stays a variable in the program, a length becomes a number.
        edges = torch.arange(n_units.item()) * KINDS
        row = torch.cat([units * KINDS + SPIKE, edges + START, edges + END])
        time = [ticks(times), torch.zeros_like(edges), torch.full_like(edges, self.length)]
        kinds = (edges[:, None] + torch.arange(KINDS)).flatten()
        keys = Keys(
            time=torch.cat(time),
            row=row,
            offsets=functional.pad((2 * n_units + times.shape[0])[None], (1, 0)),
            table=kinds + self.first_unit.take(session) * KINDS,
            longest=row.shape[0],
            count=row.shape[0],
        )
        moment = ticks(queries)[None]
        mask = torch.ones_like(moment).bool()
        output = self.model(keys, Queries(moment, session[None], moment, mask))[0]
        std, mean = (functional.embedding(session, x) for x in (self.std, self.mean))
        readouts = (output * std + mean).split(list(self.widths.values()), -1)
        return {
            name: readout.softmax(-1) if name in self.discrete else readout
            for name, readout in zip(self.widths, readouts, strict=True)
        }


def _scales(spec: DecoderSpec, session: SessionEntry) -> Iterator[Scale]:
    """The normalization of each readout in a session, the target's first. Classes have mean 0 and
    deviation 1."""
    yield Scale(mean=session.mean, std=session.std)
    for readout in spec.readouts:
        unscaled = Scale(mean=(0.0,) * readout.width, std=(1.0,) * readout.width)
        yield session.readouts.get(readout.name, unscaled)


def ticks(seconds: Tensor) -> Tensor:
    """Seconds (n,) as the nearest whole ticks, (n,) int64."""
    return (seconds * TICKS).round().long()


def export_program(decoder: Decoder) -> ExportedProgram:
    """The program of a decoder that is on the CPU; its inputs are those of `Window.forward`."""
    n, q = Dim("spikes", min=0), Dim("queries", min=0)
    shapes = {"times": {0: n}, "units": {0: n}, "queries": {0: q}, "session": {}}
    times = torch.zeros(3, dtype=torch.float64)
    example = (times, torch.zeros(3, dtype=torch.int64), times[:2], torch.tensor(0))
    return torch.export.export(Window(decoder), example, dynamic_shapes=shapes)


def save_program(decoder: Decoder, path: Path) -> None:
    """Write the program to a `.pt2` file. Its extra files hold `decoder.json`, with the sessions,
    their rows in the vocabulary, and the axes.

    Raises StoreError when it cannot be written.
    """
    extra_files, content = {SPEC: decoder.spec.model_dump_json(indent=2)}, io.BytesIO()
    # Not straight to the path: on a full disk torch's own writer ends the process.
    torch.export.save(export_program(decoder), content, extra_files=extra_files)
    with replacing(path) as aside:
        aside.write_bytes(content.getbuffer())
