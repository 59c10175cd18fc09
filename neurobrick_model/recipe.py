"""Recipe: everything that one training run depends on, as one YAML file.

Unknown keys are errors, every value has a default but the name, and every message is one line that
names the key. Rules over interval tables and the division into train, valid and test are written
as in the dataset registry.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurobrick import IntervalRule, RecipeError, SplitSpec

Share = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightRule(_Settings):
    """What a behavior sample counts in the loss while something is going on."""

    during: Literal["evaluation"] | IntervalRule = Field(
        description="'evaluation', the session's evaluation intervals, or rows of an interval table"
    )
    weight: float = Field(ge=0, description="weight of the samples inside, 0 leaves them out")


class Weights(_Settings):
    """Loss weights of behavior samples; where several rules hold, the last one counts."""

    elsewhere: float = Field(1.0, ge=0, description="weight of samples that no rule covers")
    rules: tuple[WeightRule, ...] = Field((), description="rules, the later ones win")


class DataSettings(_Settings):
    """Which sessions are read, what is decoded from them, and how they are divided."""

    root: Path = Field(Path("data"), description="root folder of the prepared stores")
    sessions: tuple[str, ...] = Field(("*",), min_length=1, description="globs of session ids")
    target: str | None = Field(
        None, description="behavior to decode; the one that every session names by default"
    )
    target_rate: float = Field(
        100.0, gt=0, description="Hz; a faster behavior is decimated to at most this"
    )
    normalize: Literal["corpus", "session"] = Field(
        "corpus",
        description="z-score with the mean and deviation of all training samples, or by session",
    )
    splits: SplitSpec | None = Field(
        None, description="own division into train, valid and test; the store's by default"
    )
    weights: Weights = Field(Weights(), description="loss weights of behavior samples")


class ModelSettings(_Settings):
    """Size of the Perceiver, and the window it reads."""

    window: float = Field(1.0, gt=0, description="seconds of spikes that one window holds")
    dim: int = Field(64, ge=1, description="width of tokens and latents")
    depth: int = Field(2, ge=0, description="self-attention layers over the latents")
    head_dim: int = Field(32, ge=4, multiple_of=4, description="width of an attention head")
    cross_heads: int = Field(2, ge=1, description="heads of the two cross-attentions")
    self_heads: int = Field(4, ge=1, description="heads of each self-attention")
    latent_step: float = Field(0.125, gt=0, description="seconds between latent time points")
    latents_per_step: int = Field(8, ge=1, description="latents at each time point")
    feedforward: int = Field(4, ge=1, description="hidden width of feed-forwards, in dims")
    rotary_periods: tuple[float, float] = Field(
        (1e-4, 2.0627), description="shortest and longest period of the rotary embedding, s"
    )
    feedforward_dropout: Share = Field(0.2, description="dropout inside feed-forwards")
    residual_dropout: Share = Field(0.4, description="dropout on the processor's branches")
    attention_dropout: Share = Field(0.0, description="dropout of attention weights")

    @property
    def steps(self) -> int:
        """Latent time points in a window."""
        return round(self.window / self.latent_step)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if not math.isclose(self.steps * self.latent_step, self.window) or not self.steps:
            raise ValueError("window must be a multiple of latent_step")
        shortest, longest = self.rotary_periods
        if not 0 < shortest < longest:
            raise ValueError("rotary_periods must be two rising positive numbers")
        return self


class UnitDropout(_Settings):
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


class TrainingSettings(_Settings):
    """The optimization."""

    steps: int = Field(2000, ge=1, description="optimizer steps")
    batch: int = Field(64, ge=1, description="windows a step")
    queries: int = Field(64, ge=1, description="at most this many samples a window, drawn anew")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    warmup: Share = Field(0.05, description="share of the steps over which the rate rises")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the weight matrices")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: Share = Field(0.0, description="decay of the averaged weights that are kept; 0 is none")
    unit_dropout: UnitDropout | None = Field(None, description="none by default")
    validate_every: int = Field(500, ge=1, description="steps between validations")
    seed: int = Field(0, ge=0, description="everything random is drawn from it")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA if there is one")


class EvaluationSettings(_Settings):
    """How windows are stitched when decoding is scored, and after."""

    step: float | None = Field(
        None, gt=0, description="seconds between window starts; half a window by default"
    )


class BaselineSettings(_Settings):
    """The ridge decoder that every report compares with. The bin and the penalty that validate
    best are used, for each session."""

    bins: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.02, 0.05, 0.1), min_length=1, description="seconds of a spike count, each tried"
    )
    lags: int = Field(9, ge=1, description="bins around each sample, an odd number")
    alphas: tuple[float, ...] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        min_length=1,
        description="penalties, each tried, in mean variances of the features",
    )

    @model_validator(mode="after")
    def _symmetric(self) -> BaselineSettings:
        if self.lags % 2 == 0:
            raise ValueError("lags must be odd, so that they lie evenly around a sample")
        return self


class Recipe(_Settings):
    """One training run."""

    name: str = Field(pattern=r"^[\w.-]+$", description="the run's folder under `runs`")
    runs: Path = Field(Path("runs"), description="where run folders are made")
    data: DataSettings = Field(DataSettings(), description="sessions, target, splits, weights")
    model: ModelSettings = Field(ModelSettings(), description="the decoder")
    training: TrainingSettings = Field(TrainingSettings(), description="the optimization")
    evaluation: EvaluationSettings = Field(EvaluationSettings(), description="stitching")
    baseline: BaselineSettings = Field(BaselineSettings(), description="the ridge decoder")

    @property
    def folder(self) -> Path:
        """Where the run leaves its files."""
        return self.runs / self.name

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe; each of `overrides` is `key=value` with a dotted key and a YAML value.

        Raises RecipeError with one line that names the key, and those that come close.
        """
        try:
            settings = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise RecipeError(f"{path} is no recipe: it must hold keys and values, such as name: x")
        for override in overrides:
            _override(settings, override)
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise RecipeError(f"{path}: {_explain(error)}") from error

    def to_yaml(self) -> str:
        """Every setting, defaults included, as YAML that `from_yaml` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _override(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"cannot set {override!r}: write key=value, as in training.steps=100")
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = settings.setdefault(parent, {})
        if inner is None:
            inner = settings[parent] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {key}: {parent} is a value, not a group of settings")
        settings = inner
    try:
        settings[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"cannot set {key}: {text!r} is not a YAML value") from error


def _explain(error: ValidationError) -> str:
    """The first fault as one line: key, what is wrong, close matches for an unknown key."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "recipe"
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message[0].lower()}{message[1:]} (got {first['input']!r:.60})"
    known = _fields(Recipe, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(known)}"
    return f"unknown key {key}; {hint}"


def _fields(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """Names of the settings in the group at `path`; parts that name no field are stepped over."""
    for part in path:
        if part in model.model_fields:
            model = next(_models(model.model_fields[part].annotation), model)
        elif part == IntervalRule.__name__:
            model = IntervalRule
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
