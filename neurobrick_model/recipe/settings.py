"""The groups of settings in a recipe. Each setting has a default and a description."""

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
# Text and not a path: a path would make "s3:/x" of "s3://x".
Root = Annotated[str, BeforeValidator(lambda root: str(root) if isinstance(root, Path) else root)]
MOST_LATENTS = 100_000  # in a window
EVALUATION = "evaluation"  # name of the session's own evaluation intervals


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
    """The loss weight of behavior samples during some intervals."""

    during: Literal["evaluation"] | IntervalRule = Field(
        description="when: 'evaluation' for the session's evaluation intervals, or a rule that "
        "selects rows of an interval table"
    )
    weight: float = Field(
        ge=0, description="weight of the samples in these intervals; 0 excludes them"
    )
    sessions: tuple[str, ...] = Field(
        ("*",), min_length=1, description="globs of the session ids that the rule applies to"
    )


class Weights(Settings):
    """Loss weights of behavior samples. Where several rules apply, the last one counts."""

    elsewhere: float = Field(1.0, ge=0, description="weight of samples that no rule covers")
    rules: tuple[WeightRule, ...] = Field((), description="rules; later ones win over earlier ones")


class ReadoutSettings(Settings):
    """Something that is decoded beside the target, at the times of the target's samples: another
    behavior, or a column of an interval table, such as the direction of a reach."""

    behavior: str | None = Field(
        None, description="name of the behavior; by default the name of the readout"
    )
    column: str | None = Field(
        None, description="a column of the table in `during`; its values are the classes"
    )
    during: IntervalRule | None = Field(
        None, description="the rows of the table that have the class, and from when to when"
    )
    weight: float = Field(1.0, gt=0, description="weight of its loss; the target's is 1")

    @model_validator(mode="after")
    def _one_kind(self) -> ReadoutSettings:
        if (self.column is None) != (self.during is None):
            raise ValueError(
                "set both column and during, or neither: a column is of during's table"
            )
        if self.column is not None and self.behavior is not None:
            raise ValueError("set behavior or column, not both: a readout is one of them")
        return self


class DataSettings(Settings):
    """Which sessions are read, what is decoded, and how sessions are split."""

    root: Root = Field(
        "data", description="root of the prepared stores: a folder or a URL (s3://…)"
    )
    sessions: tuple[str, ...] = Field(("*",), min_length=1, description="globs of session ids")
    target: str | None = Field(
        None, description="behavior to decode; by default the target that each session names"
    )
    readouts: dict[str, ReadoutSettings] = Field(
        {}, description="what else is decoded at the same times, by name"
    )
    target_rate: float = Field(
        100.0, gt=0, description="Hz; behavior that is sampled faster is decimated to at most this"
    )
    velocity: bool = Field(
        False, description="decode the velocity of targets that are positions in m"
    )
    normalize: Literal["corpus", "session"] = Field(
        "corpus",
        description="z-score the target with the mean and standard deviation of the training "
        "samples of all sessions (corpus), or of each session by itself (session)",
    )
    splits: SplitSpec | None = Field(
        None, description="split into train, valid and test; by default the split in the stores"
    )
    labels: Seconds | None = Field(
        None,
        description="train on at most this much labelled behavior of each session, such as 60s or "
        "5min, chosen at random from its training split, and validate on at most as much; null: "
        "use all of it",
    )
    weights: Weights = Field(Weights(), description="loss weights of behavior samples")
    place: Literal["auto", "device", "host"] = Field(
        "auto",
        description="where spikes are kept while training: in the memory of the device, or in the "
        "host's memory, which sends each batch to the device; auto: on the device if they take at "
        "most half of its free memory",
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
    """Size of the Perceiver, and the window that it reads. The upper bounds are far beyond any
    trained model; they protect against forged files.

    `model/perceiver.py` lists the files that have to follow when the model, and so these settings,
    change.
    """

    preset: Literal["poyo-1.3m", "poyo-11.8m"] | None = Field(
        None, description="published sizes; settings beside it override them"
    )
    window: float = Field(1.0, gt=0, le=100, description="length of a window, seconds")
    dim: int = Field(64, ge=1, le=2**16, description="width of tokens and latents")
    depth: int = Field(
        2, ge=0, le=2**10, description="number of self-attention layers over the latents"
    )
    head_dim: int = Field(
        32, ge=4, le=2**12, multiple_of=4, description="width of an attention head"
    )
    cross_heads: int = Field(
        2, ge=1, le=2**10, description="attention heads of each of the two cross-attentions"
    )
    self_heads: int = Field(4, ge=1, le=2**10, description="attention heads of each self-attention")
    latent_step: float = Field(0.125, gt=0, description="seconds between latent time points")
    latents_per_step: int = Field(
        8, ge=1, le=MOST_LATENTS, description="latents at each time point"
    )
    feedforward: int = Field(
        4,
        ge=1,
        le=2**10,
        description="hidden width of the feed-forward networks, as a multiple of dim",
    )
    rotary_periods: tuple[float, ...] = Field(
        (1e-4, 2.0627),
        min_length=2,
        description="periods of the rotary embedding, seconds: the shortest and the longest, with "
        "the others spaced evenly on a log scale between them; or all head_dim / 4 of them",
    )
    feedforward_dropout: Share = Field(
        0.2, description="dropout rate inside the feed-forward networks"
    )
    residual_dropout: Share = Field(
        0.4,
        description="dropout rate on the output of each attention and feed-forward of the layers",
    )

    @property
    def steps(self) -> int:
        """Number of latent time points in a window."""
        return round(self.window / self.latent_step)

    @property
    def latents(self) -> int:
        """Number of latents in a window."""
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
    """Number of units that a training window keeps, drawn from a triangular distribution from
    `least` to `most` with its peak at `mode`. A session with fewer units keeps all of them."""

    least: int = Field(30, ge=1, description="fewest units kept")
    mode: int = Field(100, ge=1, description="most likely number of units kept")
    most: int = Field(300, ge=1, description="most units kept")

    @model_validator(mode="after")
    def _rising(self) -> UnitDropout:
        if not self.least <= self.mode <= self.most:
            raise ValueError("least, mode and most must rise: least ≤ mode ≤ most")
        return self


class TrainingSettings(Settings):
    """The optimization."""

    steps: int = Field(2000, ge=1, description="number of optimizer steps")
    batch: int = Field(64, ge=1, description="windows per step, over all ranks together")
    microbatch: int | None = Field(
        None,
        ge=1,
        description="windows that go through the model at once, to save memory; gradients of the "
        "microbatches add up to the batch's, so results do not depend on it; null: the whole batch",
    )
    queries: int = Field(
        64,
        ge=1,
        description="decoded samples per training window, at most; drawn anew for each window",
    )
    optimizer: Literal["adamw", "lamb", "muon"] = Field(
        "adamw", description="muon updates the matrices; the rest is then updated by adamw"
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the learning rate falls to zero; constant: it does not"
    )
    warmup: Share = Field(0.05, description="share of the steps over which the learning rate rises")
    hold: Share = Field(
        0.0, description="share of the steps, after warm-up, at the peak learning rate"
    )
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of the weight matrices")
    clip: float | None = Field(
        1.0, gt=0, description="gradients are clipped to this norm; null: no clipping"
    )
    ema: Share = Field(
        0.0, description="decay of the moving average of the weights that is kept; 0: no average"
    )
    unit_dropout: UnitDropout | None = Field(
        None, description="how many units a training window keeps; null: all of them"
    )
    validate_every: int = Field(500, ge=1, description="number of steps between validations")
    patience: int | None = Field(
        None, ge=1, description="end training after this many validations without a better one"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="number of steps between checkpoints; validate_every by default"
    )
    checkpoints: int = Field(2, ge=1, description="number of checkpoints that are kept")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products; auto: bfloat16 on GPUs that have it, else float32"
    )
    compile: bool | None = Field(
        None,
        description="use torch.compile, which takes a minute at first; by default on GPUs only",
    )
    seed: int = Field(0, ge=0, description="seed of everything random")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda if there is a GPU"
    )

    @model_validator(mode="after")
    def _shares(self) -> TrainingSettings:
        if self.warmup + self.hold > 1:
            raise ValueError("warmup and hold are shares of all steps: together at most 1")
        return self


Way = Literal["identify", "unfreeze", "finetune", "scratch"]


class AdaptSettings(Settings):
    """How a trained decoder is adapted to new sessions. Settings that the recipe does not contain
    are those of the run that it starts from."""

    base: Path = Field(description="folder of the run or decoder to start from")
    way: Way = Field(
        "identify",
        description="identify: train only the embeddings of the new units and sessions; unfreeze: "
        "train these first, then all weights; finetune: train all weights from the start; scratch: "
        "train fresh weights of the same sizes, to compare with",
    )
    unfreeze_at: Share = Field(
        0.7, description="with unfreeze: share of the steps after which all weights are trained"
    )


class EvaluationSettings(Settings):
    """What is scored, and how overlapping windows are combined, then and in later decoding."""

    step: float | None = Field(
        None, gt=0, description="time between window starts, seconds; half a window by default"
    )
    splits: tuple[Literal["train", "valid", "test"], ...] = Field(
        ("test",), description="splits that are scored; must contain test, the headline score"
    )
    during: dict[str, IntervalRule] = Field(
        {},
        description="rules, by name; each selects rows of an interval table, and their samples are "
        "scored separately, in each split, inside and outside of the evaluation intervals",
    )
    trials: IntervalRule | None = Field(
        None,
        description="the trials that confidence intervals resample; by default the rows of the "
        "table trials, or blocks of time if there is none",
    )

    @model_validator(mode="after")
    def _headline(self) -> EvaluationSettings:
        if "test" not in self.splits:
            raise ValueError("splits must hold test: its score is the headline of the report")
        if EVALUATION in self.during:
            raise ValueError(f"during may not have the name {EVALUATION!r}, which is scored anyhow")
        return self


class BaselineSettings(Settings):
    """The simpler decoders that the report compares with. Each reads binned spikes and is fitted to
    one session. Of all combinations of the settings below, the one that validates best is used."""

    which: tuple[Literal["ridge", "kalman", "mlp", "gru"], ...] = Field(
        ("ridge",), min_length=1, description="which to compare with; mlp and gru take minutes"
    )
    bins: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.02, 0.05, 0.1), min_length=1, description="bin widths to try, seconds"
    )
    lags: int = Field(
        9, ge=1, description="number of bins around each sample, odd; kalman does not use it"
    )
    alphas: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        min_length=1,
        description="ridge penalties to try, in units of the mean variance of the features",
    )
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (128, 32), min_length=1, description="widths of mlp and gru to try"
    )
    dropout: tuple[Share, ...] = Field(
        (0.2, 0.5), min_length=1, description="dropout rates of mlp and gru to try"
    )

    @model_validator(mode="after")
    def _symmetric(self) -> BaselineSettings:
        if self.lags % 2 == 0:
            raise ValueError(
                "lags must be odd, so that as many bins lie before a sample as after it"
            )
        return self
