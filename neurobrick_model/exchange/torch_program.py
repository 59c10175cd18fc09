"""A decoder as a program: one graph of tensor operations that torch runs without neurobrick, made
by `torch.export`. It reads one window, of any number of spikes and queries.
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
    """A decoder's forward on one window: seconds in, SI out."""

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
        scales = [list(_scales(spec, session)) for session in spec.sessions]
        self.register_buffer("first_unit", torch.tensor(spec.vocabulary.first_unit))
        self.register_buffer("n_units", torch.tensor(spec.vocabulary.units))
        for name in ("mean", "std"):
            rows = [[x for scale in each for x in getattr(scale, name)] for each in scales]
            self.register_buffer(name, torch.tensor(rows, dtype=torch.float64))

    def forward(
        self, times: Tensor, units: Tensor, queries: Tensor, session: Tensor
    ) -> dict[str, Tensor]:
        """What each readout says, by its name, at `queries` (q,) float64: behavior (q, d) float64
        in SI, or the probabilities (q, classes) float64 of a discrete one.

        Spikes are `times` (n,) float64, in any order, and `units` (n,) int64, rows of the units
        table of the session; `session` () int64 is its row in the vocabulary. Times and queries are
        seconds from the window's start.
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
        at = ticks(queries)[None]
        guess = self.model(keys, Queries(at, session[None], at, torch.ones_like(at).bool()))[0]
        std, mean = (functional.embedding(session, x) for x in (self.std, self.mean))
        parts = (guess * std + mean).split(list(self.widths.values()), -1)
        return {
            name: part.softmax(-1) if name in self.discrete else part
            for name, part in zip(self.widths, parts, strict=True)
        }


def _scales(spec: DecoderSpec, session: SessionEntry) -> Iterator[Scale]:
    """Of each readout, the target's first; classes are not scaled."""
    yield Scale(mean=session.mean, std=session.std)
    for readout in spec.readouts:
        as_it_is = Scale(mean=(0.0,) * readout.width, std=(1.0,) * readout.width)
        yield session.readouts.get(readout.name, as_it_is)


def ticks(seconds: Tensor) -> Tensor:
    """Seconds (n,) as whole ticks, the nearest: int64."""
    return (seconds * TICKS).round().long()


def export_program(decoder: Decoder) -> ExportedProgram:
    """The program of a decoder that is on the CPU; its inputs are those of `Window.forward`."""
    spikes, asked = Dim("spikes", min=0), Dim("queries", min=0)
    shapes = {"times": {0: spikes}, "units": {0: spikes}, "queries": {0: asked}, "session": {}}
    times = torch.zeros(3, dtype=torch.float64)
    example = (times, torch.zeros(3, dtype=torch.int64), times[:2], torch.tensor(0))
    return torch.export.export(Window(decoder), example, dynamic_shapes=shapes)


def save_program(decoder: Decoder, path: Path) -> None:
    """Write the program to a `.pt2` file, with `decoder.json` among its extra files: what its
    sessions, their rows and its axes are.

    Raises StoreError when it cannot be written.
    """
    told, whole = {SPEC: decoder.spec.model_dump_json(indent=2)}, io.BytesIO()
    # Not to the path: on a full disk torch's own writer ends the process.
    torch.export.save(export_program(decoder), whole, extra_files=told)
    with replacing(path) as aside:
        aside.write_bytes(whole.getbuffer())
