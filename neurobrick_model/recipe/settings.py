"""The groups of settings that a recipe is made of, each with its default and what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from neurobrick import IntervalRule, SplitSpec
from neurobrick_model.recipe.durations import Seconds

Share = Annotated[float, Field(ge=0, lt=1)]
# Text, as a path would take a URL apart.
Root = Annotated[str, BeforeValidator(lambda root: str(root) if isinstance(root, Path) else root)]
MOST_LATENTS = 100_000  # of a window
EVALUATION = "evaluation"  # the name of the session's own evaluation intervals


class Settings(BaseModel):
    """A group of settings: unknown keys are errors, and nothing can be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_but_for_a_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic would take true for the number 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation is not bool and bool not in get_args(annotation):
            raise ValueError(
                "must not be true or false; YAML reads yes, no, on and off so too: put text in "
                "quotes"
            )
        return value


class WeightRule(Settings):
    """What a behavior sample counts in the loss while something is going on."""

    during: Literal["evaluation"] | IntervalRule = Field(
        description="'evaluation', the session's evaluation intervals, or rows of an interval table"
    )
    weight: float = Field(ge=0, description="weight of the samples inside, 0 leaves them out")
    sessions: tuple[str, ...] = Field(
        ("*",), min_length=1, description="globs of the session ids that it is for"
    )


class Weights(Settings):
    """Loss weights of behavior samples; where several rules hold, the last one counts."""

    elsewhere: float = Field(1.0, ge=0, description="weight of samples that no rule covers")
    rules: tuple[WeightRule, ...] = Field((), description="rules, the later ones win")


class ReadoutSettings(Settings):
    """Something else to decode at the moments of the target's samples: another behavior, or which
    of its values a column of an interval table has there, such as the direction of a reach."""

    behavior: str | None = Field(None, description="behavior; by default that of the same name")
    column: str | None = Field(
        None, description="a column whose values are told apart, of the table of `during`"
    )
    during: IntervalRule | None = Field(None, description="rows of the table, and where they hold")
    weight: float = Field(1.0, gt=0, description="what its loss counts, beside that of the target")

    @model_validator(mode="after")
    def _one_kind(self) -> ReadoutSettings:
        if (self.column is None) != (self.during is None):
            raise ValueError("column and during go together: a column of the table of that rule")
        if self.column is not None and self.behavior is not None:
            raise ValueError("a readout is a behavior or a column, not both")
        return self


class DataSettings(Settings):
    """Which sessions are read, what is decoded from them, and how they are divided."""

    root: Root = Field(
        "data", description="root of the prepared stores: a folder, or a URL (s3://…)"
    )
    sessions: tuple[str, ...] = Field(("*",), min_length=1, description="globs of session ids")
    target: str | None = Field(
        None, description="behavior to decode; by default the one that each session names"
    )
    readouts: dict[str, ReadoutSettings] = Field(
        {}, description="by name, what else is decoded at the same moments"
    )
    target_rate: float = Field(
        100.0, gt=0, description="Hz; a faster behavior is decimated to at most this"
    )
    velocity: bool = Field(
        False, description="decode the velocity where a session's target is a position in m"
    )
    normalize: Literal["corpus", "session"] = Field(
        "corpus",
        description="z-score with the mean and deviation of all training samples, or by session",
    )
    splits: SplitSpec | None = Field(
        None, description="own division into train, valid and test; the store's by default"
    )
    labels: Seconds | None = Field(
        None,
        description="train on at most so much labelled behavior of each session, as 60s or 5min, "
        "chosen at random from its training split, and validate on at most as much; null: on all",
    )
    weights: Weights = Field(Weights(), description="loss weights of behavior samples")
    place: Literal["auto", "device", "host"] = Field(
        "auto",
        description="where spikes lie while training: on the device, or in the host's memory, from "
        "where each batch is sent; auto: on the device if they take at most half of what is free",
    )


# Azabou et al. 2023, section 3 and appendix: the sizes of POYO-1 and of its smaller sibling.
_PUBLISHED = {
    "window": 1.0,
    "latent_step": 0.125,
    "head_dim": 64,
    "self_heads": 8,
    "feedforward": 4,
    "rotary_periods": (1e-4, 2.0627),
    "feedforward_dropout": 0.2,
    "residual_dropout": 0.4,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "poyo-1.3m": {
        **_PUBLISHED, "dim": 64, "depth": 6, "cross_heads": 2, "latents_per_step": 16,
    },
    "poyo-11.8m": {
        **_PUBLISHED, "dim": 128, "depth": 24, "cross_heads": 4, "latents_per_step": 32,
    },
}  # fmt: skip


class ModelSettings(Settings):
    """Size of the Perceiver, and the window it reads. The upper bounds are far beyond what has been
    trained: they are for files that lie."""

    preset: Literal["poyo-1.3m", "poyo-11.8m"] | None = Field(
        None, description="published sizes; what is set beside it takes precedence"
    )
    window: float = Field(1.0, gt=0, le=100, description="seconds of spikes that one window holds")
    dim: int = Field(64, ge=1, le=2**16, description="width of tokens and latents")
    depth: int = Field(2, ge=0, le=2**10, description="self-attention layers over the latents")
    head_dim: int = Field(
        32, ge=4, le=2**12, multiple_of=4, description="width of an attention head"
    )
    cross_heads: int = Field(2, ge=1, le=2**10, description="heads of the two cross-attentions")
    self_heads: int = Field(4, ge=1, le=2**10, description="heads of each self-attention")
    latent_step: float = Field(0.125, gt=0, description="seconds between latent time points")
    latents_per_step: int = Field(
        8, ge=1, le=MOST_LATENTS, description="latents at each time point"
    )
    feedforward: int = Field(
        4, ge=1, le=2**10, description="hidden width of feed-forwards, in dims"
    )
    rotary_periods: tuple[float, ...] = Field(
        (1e-4, 2.0627),
        min_length=2,
        description="periods of the rotary embedding, s: the shortest and the longest, between "
        "which the others lie evenly in their logarithm; or all head_dim / 4 of them",
    )
    feedforward_dropout: Share = Field(0.2, description="dropout inside feed-forwards")
    residual_dropout: Share = Field(0.4, description="dropout on the processor's branches")

    @property
    def steps(self) -> int:
        """Latent time points in a window."""
        return round(self.window / self.latent_step)

    @property
    def latents(self) -> int:
        """Latents of a window."""
        return self.steps * self.latents_per_step

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**PRESETS.get(str(values.get("preset")), {}), **values}

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if self.window / self.latent_step * self.latents_per_step > MOST_LATENTS:
            raise ValueError(f"latent_step leaves a window more than {MOST_LATENTS:,} latents")
        if not math.isclose(self.steps * self.latent_step, self.window) or not self.steps:
            raise ValueError("window must be a multiple of latent_step")
        if len(self.rotary_periods) not in (2, self.head_dim // 4):
            raise ValueError("rotary_periods must be two, or head_dim / 4")
        if not all(a < b for a, b in pairwise((0, *self.rotary_periods))):
            raise ValueError("rotary_periods must be rising positive numbers")
        return self


class UnitDropout(Settings):
    """Number of units that a training window keeps: triangular from `least` to `most`, with its
    peak at `mode`. A session that has fewer units keeps them all."""

    least: int = Field(30, ge=1, description="fewest units kept")
    mode: int = Field(100, ge=1, description="most likely number of units kept")
    most: int = Field(300, ge=1, description="most units kept")

    @model_validator(mode="after")
    def _rising(self) -> UnitDropout:
        if not self.least <= self.mode <= self.most:
            raise ValueError("least, mode and most must rise")
        return self


class TrainingSettings(Settings):
    """The optimization."""

    steps: int = Field(2000, ge=1, description="optimizer steps")
    batch: int = Field(64, ge=1, description="windows a step, over all ranks")
    microbatch: int | None = Field(
        None,
        ge=1,
        description="windows that go through the model at once, to save memory; their gradients "
        "add up to those of the batch, so that results do not depend on it",
    )
    queries: int = Field(64, ge=1, description="at most this many samples a window, drawn anew")
    optimizer: Literal["adamw", "lamb", "muon"] = Field(
        "adamw", description="muon is for the matrices, with adamw for the rest"
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the rate falls to zero"
    )
    warmup: Share = Field(0.05, description="share of the steps over which the rate rises")
    hold: Share = Field(0.0, description="share of the steps, after warm-up, at the peak")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the weight matrices")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: any")
    ema: Share = Field(0.0, description="decay of the averaged weights that are kept; 0 is none")
    unit_dropout: UnitDropout | None = Field(None, description="none by default")
    validate_every: int = Field(500, ge=1, description="steps between validations")
    patience: int | None = Field(
        None, ge=1, description="validations without a better one after which training ends"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="steps between checkpoints; those between validations by default"
    )
    checkpoints: int = Field(2, ge=1, description="how many of the last checkpoints are kept")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products; auto: bfloat16 on cards that have it, else float32"
    )
    compile: bool | None = Field(
        None, description="by torch.compile; only on GPUs by default, as it takes a minute"
    )
    seed: int = Field(0, ge=0, description="everything random is drawn from it")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA if there is one")

    @model_validator(mode="after")
    def _shares(self) -> TrainingSettings:
        if self.warmup + self.hold > 1:
            raise ValueError("warmup and hold are shares of the same steps: at most 1 together")
        return self


Way = Literal["identify", "unfreeze", "finetune", "scratch"]


class AdaptSettings(Settings):
    """How a trained decoder is taken to new sessions. What the recipe leaves open is then as in the
    run that it starts from."""

    base: Path = Field(description="folder of the run, or of the decoder, that it starts from")
    way: Way = Field(
        "identify",
        description="identify: only the embeddings of new units and sessions learn; unfreeze: "
        "first these, then all; finetune: all from the start; scratch: fresh weights of the same "
        "sizes, to compare with",
    )
    unfreeze_at: Share = Field(
        0.7, description="share of the steps after which all learn; of the way `unfreeze`"
    )


class EvaluationSettings(Settings):
    """How windows are stitched when decoding is scored, and after; and what is scored."""

    step: float | None = Field(
        None, gt=0, description="seconds between window starts; half a window by default"
    )
    splits: tuple[Literal["train", "valid", "test"], ...] = Field(
        ("test",), description="splits that are scored; test, the headline, is one of them"
    )
    during: dict[str, IntervalRule] = Field(
        {},
        description="by name, rows of an interval table that are scored by themselves too, within "
        "each split and whether or not they lie in the session's evaluation intervals",
    )
    trials: IntervalRule | None = Field(
        None,
        description="rows that confidence intervals draw whole; by default those of the table "
        "trials, and blocks of time where there is none",
    )

    @model_validator(mode="after")
    def _headline(self) -> EvaluationSettings:
        if "test" not in self.splits:
            raise ValueError("splits must hold test, which is what a report says first")
        if EVALUATION in self.during:
            raise ValueError(f"during may not name {EVALUATION!r}, which is scored anyhow")
        return self


class BaselineSettings(Settings):
    """The decoders of binned spikes that the report compares with, each fitted to one session: what
    validates best of that which is to be tried."""

    which: tuple[Literal["ridge", "kalman", "mlp", "gru"], ...] = Field(
        ("ridge",), min_length=1, description="those to compare with; networks take minutes"
    )
    bins: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.02, 0.05, 0.1), min_length=1, description="seconds of a spike count, each tried"
    )
    lags: int = Field(
        9, ge=1, description="bins around each sample, an odd number; the Kalman filter needs none"
    )
    alphas: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        min_length=1,
        description="penalties of the ridge decoder, each tried, in mean variances of the features",
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (128, 32), min_length=1, description="widths of mlp and gru, each tried"
    )
    dropout: tuple[Share, ...] = Field(
        (0.2, 0.5), min_length=1, description="dropout of mlp and gru, each tried"
    )

    @model_validator(mode="after")
    def _symmetric(self) -> BaselineSettings:
        if self.lags % 2 == 0:
            raise ValueError("lags must be odd, so that they lie evenly around a sample")
        return self
