"""Decoders of other projects: a POYO of `torch_brain` (0.2) becomes a Decoder.

The two are the same network; docs/exchange.md lists the differences. So weights are renamed, fused
projections are split, embeddings are put in our order, and nothing else. The sizes follow from the
shapes of the weights. A `Supplement` gives what the checkpoint does not hold.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from neurobrick import RecipeError, StoreError
from neurobrick.errors import first_fault, listed
from neurobrick_model.decoding.decoder import Decoder
from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.exchange.torch_brain_units import Placed, SessionSource, place
from neurobrick_model.exchange.torch_checkpoint import load_foreign
from neurobrick_model.model.tokens import KINDS
from neurobrick_model.recipe.settings import ModelSettings, Settings
from neurobrick_model.training.output.run_folder import versions

OMEGA = "rotary_emb.omega"
MARK = "unit_emb.weight"  # a weight that every POYO has: it shows the prefix of the others' names
VOCABULARY = ".vocab"
PADDING = "NA"  # their word for no unit
FEEDFORWARD_DROPOUT, RESIDUAL_DROPOUT = 0.2, 0.4  # their defaults
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
BLOCKS = {  # their names of the network's parts, and ours
    r"enc_atn": "read",
    r"enc_ffn": "read_feedforward",
    r"proc_layers\.(\d+)\.0": "layers.{}.attention",
    r"proc_layers\.(\d+)\.1": "layers.{}.feedforward",
    r"dec_atn": "ask",
    r"dec_ffn": "ask_feedforward",
    r"unit_emb": "unit_embedding",
    r"session_emb": "session_embedding",
    r"token_type_emb": "kind_embedding",
    r"latent_emb": "latent_embedding",
    r"readout": "readout",
}
PARTS = {  # their names of the layers in a part, and ours; they fuse projections
    "": ("",),
    "norm.": ("norm.",),
    "norm_context.": ("norm_context.",),
    "to_q.": ("to_query.",),
    "to_kv.": ("to_key.", "to_value."),
    "to_qkv.": ("to_query.", "to_key.", "to_value."),
    "to_out.": ("to_output.",),
    "0.": ("norm.",),
    "1.net.0.": ("up.",),
    "1.net.3.": ("down.",),
}


class Supplement(Settings):
    """Facts about a decoder that its checkpoint does not hold."""

    target: str = Field(description="name of the decoded behavior in the prepared sessions")
    unit: str = Field(description="its SI unit")
    rate: float = Field(gt=0, description="Hz at which it is decoded")
    std: tuple[float, ...] = Field(
        min_length=1, description="divisor of the behavior in training, SI: one, or one an axis"
    )
    mean: tuple[float, ...] = Field(
        (0.0,), min_length=1, description="subtracted from it before, SI: one, or one an axis"
    )
    axes: tuple[str, ...] = Field((), description="names of its axes; x, y, z by default")
    window: float | None = Field(None, gt=0, description="seconds of a window, its sequence_length")
    latent_step: float | None = Field(None, gt=0, description="seconds between latent time points")
    sessions: Mapping[str, SessionSource] = Field(
        {}, description="by our session id, the session in the checkpoint; all by default"
    )

    @classmethod
    def of(cls, **values: Any) -> Supplement:
        """A Supplement of these values. Raises RecipeError that names the first wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise RecipeError(_in_words(error)) from error


def load(path: Path, supplement: Supplement) -> tuple[Decoder, dict[str, Any]]:
    """The decoder in a file that torch.save wrote, and notes for its run.json: the file's name and
    SHA-256, and versions.

    Raises StoreError when the file cannot be read as tensors, and as `convert` does.
    """
    spec, weights = convert(load_foreign(path), supplement)
    model = spec.build()
    model.load_state_dict(weights)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    source = {"project": "torch_brain", "file": path.name, "sha256": digest}
    return Decoder(spec, model), {"imported": source, "versions": versions()}


def convert(checkpoint: Any, supplement: Supplement) -> tuple[DecoderSpec, dict[str, Tensor]]:
    """The spec and the weights of the decoder in `checkpoint`: a POYO's state dict, or a Lightning
    checkpoint around one.

    Raises StoreError when there is no POYO in it, or a damaged one, and RecipeError when the
    supplement lacks something or does not fit.
    """
    state, hyperparameters = unwrap(checkpoint)
    placed = place(_vocabulary(state, "unit"), _vocabulary(state, "session"), supplement.sessions)
    weights = translate(state)
    settings = _settings(weights, _tensor(state, OMEGA), hyperparameters, supplement)
    spec = _spec(supplement, settings, placed, len(_tensor(weights, "readout.weight")))
    for name, rows in (
        ("unit_embedding.weight", [row for session in placed for row in session.units]),
        ("session_embedding.weight", [session.row for session in placed]),
        ("kind_embedding.weight", slice(KINDS)),  # no token is of their fourth kind
    ):
        weights[name] = _tensor(weights, name)[rows]
    if fault := spec.misfit({name: tuple(weight.shape) for name, weight in weights.items()}):
        raise StoreError(f"the checkpoint's sizes do not agree: {fault} (our names)")
    return spec, weights


def unwrap(checkpoint: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The state dict of the POYO in `checkpoint`, without prefixes, and its hyperparameters, if
    Lightning saved them.

    Raises StoreError when there is not exactly one POYO.
    """
    outer = checkpoint if isinstance(checkpoint, Mapping) else {}
    state = outer.get("state_dict", outer)
    names = [name for name in state if isinstance(name, str)] if isinstance(state, Mapping) else []
    marks = [name for name in names if f".{name}".endswith(f".{MARK}")]
    if len(marks) != 1:
        raise StoreError(
            f"the checkpoint holds {len(marks)} tensors {MARK}, a POYO of torch_brain one; "
            f"its names are: {listed(names, most=5)}. Save the state dict of the "
            "one model alone: torch.save(model.state_dict(), path), or "
            "torch.save(checkpoint['model'], path)"
        )
    prefix = marks[0].removesuffix(MARK)
    weights = {n.removeprefix(prefix): state[n] for n in names if n.startswith(prefix)}
    inner: Any = outer
    for key in ("hyper_parameters", "model"):
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return weights, inner if isinstance(inner, Mapping) else {}


def translate(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A POYO's weights, by our names, in float32. Heads and gates have the same order.

    Raises StoreError for a weight that no POYO has.
    """
    weights = {}
    for name in state:
        if name == OMEGA or name.endswith(VOCABULARY):
            continue
        block, parts, kind = _parse(name)
        value = _tensor(state, name)
        if len(value) % len(parts):
            raise StoreError(f"the checkpoint's {name} cannot be divided by {len(parts)}")
        for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
            weights[f"{block}.{part}{kind}"] = piece.float().contiguous()
    return weights


def _parse(name: str) -> tuple[str, tuple[str, ...], str]:
    """For a weight of theirs: our block, our layers in it, and `weight` or `bias`."""
    for theirs, ours in BLOCKS.items():
        match = re.fullmatch(rf"{theirs}\.(?P<part>.*)(?P<kind>weight|bias)", name)
        if match and match["part"] in PARTS:
            return ours.format(match[1]), PARTS[match["part"]], match["kind"]
    raise StoreError(f"the checkpoint holds {name}, which no POYO of torch_brain 0.2 has")


def _settings(
    weights: Mapping[str, Tensor],
    omega: Tensor,
    hyperparameters: Mapping[str, Any],
    supplement: Supplement,
) -> ModelSettings:
    """The sizes. They follow from the weights, except the window, the latent step and the
    dropout."""
    periods, head_dim = _periods(omega), 2 * len(omega)
    depth = len({name.split(".")[1] for name in weights if name.startswith("layers.")})

    def rows(name: str) -> int:
        return len(_tensor(weights, name))

    seconds = {
        "window": supplement.window or hyperparameters.get("sequence_length"),
        "latent_step": supplement.latent_step or hyperparameters.get("latent_step"),
    }
    for name, value in seconds.items():
        if value is None:
            raise RecipeError(
                f"the checkpoint does not hold {name}: give it, in seconds; published models have "
                "a window of 1 and a latent_step of 0.125"
            )
    dim = _tensor(weights, "readout.weight").shape[-1]
    try:
        return ModelSettings(
            **seconds,
            dim=dim,
            depth=depth,
            head_dim=head_dim,
            cross_heads=rows("read.to_query.weight") // head_dim,
            self_heads=rows("layers.0.attention.to_query.weight") // head_dim if depth else 1,
            latents_per_step=rows("latent_embedding.weight"),
            feedforward=rows("read_feedforward.up.weight") // (2 * dim),
            rotary_periods=periods,
            feedforward_dropout=hyperparameters.get("ffn_dropout", FEEDFORWARD_DROPOUT),
            residual_dropout=hyperparameters.get("lin_dropout", RESIDUAL_DROPOUT),
        )
    except ValidationError as error:
        raise RecipeError(f"the checkpoint's sizes make no decoder: {_in_words(error)}") from error


def _periods(omega: Tensor) -> tuple[float, ...]:
    """The periods, s, of the pairs that turn, from `omega` (head_dim // 2,) rad/s.

    All of them are kept, because they were computed in float32: computed anew, they would change
    the output visibly.
    """
    turning, still = omega.double().flatten().tensor_split(2)
    if len(turning) != len(still) or still.any() or not (turning > 0).all():
        raise StoreError(
            f"the checkpoint's {OMEGA} is no POYO's: in a POYO the first half of a head's pairs "
            "turn, and the other half stay"
        )
    return tuple((2 * math.pi / turning).tolist())


def _spec(
    supplement: Supplement, settings: ModelSettings, placed: Sequence[Placed], n_outputs: int
) -> DecoderSpec:
    axes = supplement.axes or tuple("xyz"[:n_outputs])
    mean, std = (
        values * n_outputs if len(values) == 1 else values
        for values in (supplement.mean, supplement.std)
    )
    for name, values in (("axes", axes), ("mean", mean), ("std", std)):
        if len(values) != n_outputs:
            raise RecipeError(f"{name} has {len(values)} values, the decoder {n_outputs} outputs")
    return DecoderSpec(
        target=supplement.target,
        unit=supplement.unit,
        axes=axes,
        rate=supplement.rate,
        step=settings.window / 2,
        model=settings,
        sessions=tuple(
            SessionEntry(id=session.id, units=len(session.units), mean=mean, std=std)
            for session in placed
        ),
    )


def _vocabulary(state: Mapping[str, Any], kind: str) -> dict[str, int]:
    """By id, the rows of units or of sessions (`kind`) in their embedding."""
    words, n_rows = state.get(f"{kind}_emb{VOCABULARY}"), len(_tensor(state, f"{kind}_emb.weight"))
    rows = dict(words) if isinstance(words, Mapping) else {}
    whole = len(rows) == n_rows and all(isinstance(row, int) for row in rows.values())
    if not whole or sorted(rows.values()) != list(range(n_rows)):
        raise StoreError(
            f"the checkpoint's {kind}_emb{VOCABULARY} does not name each of its {n_rows} rows once"
        )
    return {str(word): row for word, row in rows.items() if word != PADDING}


def _tensor(tensors: Mapping[str, Any], name: str) -> Tensor:
    """The tensor of that name, with at least one row. Raises StoreError when there is none.

    By its strides, a tensor of a few numbers can claim any size: refuse one that claims more
    numbers than the file holds.
    """
    value = tensors.get(name)
    if not isinstance(value, Tensor) or value.dtype not in FLOATS or not value.numel():
        raise StoreError(f"the checkpoint's {name} is missing, or no array of numbers")
    plain = value.layout == torch.strided and not (value.is_meta or value.is_nested)
    if not plain or value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise StoreError(
            f"the checkpoint's {name} is no plain tensor: it claims more numbers than it has"
        )
    return value if value.dim() else value[None]


def _in_words(error: ValidationError) -> str:
    """The first fault, as one line."""
    key, fault = first_fault(error)
    return f"{key}: {fault}" if key else fault
