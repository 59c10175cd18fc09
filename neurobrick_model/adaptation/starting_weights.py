"""The weights that a run starts from, which of them learn, and what its folder keeps.

A run that adapts trains a model of its new sessions only, with the shared weights of its base. The
base's own units and sessions are not in that model: they cost nothing, and cannot change. When the
decoder is written, they are put before the new ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from neurobrick import RecipeError, StoreError
from neurobrick.errors import listed
from neurobrick_model.data.readouts import NOTHING_INHERITED, Inherited, Readout
from neurobrick_model.decoding.decoder import Decoder
from neurobrick_model.decoding.spec import WEIGHTS, DecoderSpec, Parent
from neurobrick_model.decoding.vocabulary import TABLES, extend, keep
from neurobrick_model.files import load_weights, read_json, sha256
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import RECIPE, ResolvedRecipe
from neurobrick_model.recipe.settings import AdaptSettings

METRICS = "metrics.json"  # of the base's run


class FreshWeights:
    """New weights. All of them learn."""

    inherited = NOTHING_INHERITED  # normalization and classes come from the new sessions
    parent: Parent | None = None  # the decoder that the run adapts

    def check(self, spec: DecoderSpec) -> None:
        """Raises RecipeError when a run of `spec`, its sessions and target, cannot start here."""

    def start(self, model: Perceiver) -> None:
        """Give `model` the weights that it starts with."""

    def set_learning(self, model: Perceiver, step: int) -> bool:
        """Choose which weights learn at `step`. Returns whether the choice has changed."""
        return False

    def save(self, folder: Path, spec: DecoderSpec, weights: Mapping[str, Tensor]) -> None:
        """Write the decoder that a run of `spec` leaves."""
        spec.save(folder, weights)

    def load(self, folder: Path, spec: DecoderSpec) -> dict[str, Tensor]:
        """The weights of a run of `spec`, from the files that `save` wrote."""
        return load_weights(folder / WEIGHTS)


class BaseWeights(FreshWeights):
    """The weights of a trained decoder, for sessions that are new to it."""

    def __init__(self, recipe: ResolvedRecipe, settings: AdaptSettings) -> None:
        self.base = Decoder.load(settings.base)
        self.parent = _parent(settings)
        self._has_recipe = (settings.base / RECIPE).exists()
        self.keeps_base = settings.way == "identify"
        self.inherited = _inherited(
            self.base.spec, settings.base, recipe.data.normalize == "corpus"
        )
        share = {"identify": math.inf, "unfreeze": settings.unfreeze_at, "finetune": 0.0}
        self._unfreezes = share[settings.way] * recipe.training.steps

    def check(self, spec: DecoderSpec) -> None:
        """Raises RecipeError when the base knows a session of `spec`, or decodes another target."""
        base, path = self.base.spec, self.base.folder
        if (spec.unit, len(spec.axes)) != (base.unit, len(base.axes)):
            raise RecipeError(
                f"{path} decodes {len(base.axes)} axes in {base.unit}, the new sessions' "
                f"{spec.target!r} has {len(spec.axes)} in {spec.unit}; set data.target or "
                "data.velocity so that they agree"
            )
        if _readouts(spec) != _readouts(base):
            advice = "leave data.readouts out, they are inherited from the base"
            if base.readouts and not self._has_recipe:
                names = listed(f"data.readouts.{readout.name}" for readout in base.readouts)
                advice = f"set {names} as in its training, as its folder holds no recipe"
            raise RecipeError(
                f"{path} decodes {_readouts(base)} beside its target, the new sessions "
                f"{_readouts(spec)}; {advice}"
            )
        known = {session.id: session.units for session in base.sessions}
        for session in spec.sessions:
            if session.id in known:
                raise RecipeError(
                    f"{path} knows {session.id} already, with {known[session.id]} units (here it "
                    f"has {session.units}): choose new sessions with data.sessions, or drop it "
                    "from the base first, with neurobrick-train prune"
                )

    def start(self, model: Perceiver) -> None:
        """Copy all of the base's weights but the embeddings of units and sessions, which are
        new."""
        shared = self.base.model.state_dict()
        rows = {name: weight for name, weight in model.state_dict().items() if name in TABLES}
        model.load_state_dict({**shared, **rows})

    def set_learning(self, model: Perceiver, step: int) -> bool:
        """Before the unfreezing only the embeddings of units and sessions learn, then all do."""
        changed = False
        for name, parameter in model.named_parameters():
            learns = name in TABLES or step >= self._unfreezes
            changed |= parameter.requires_grad != learns
            parameter.requires_grad_(learns)
        return changed

    def save(self, folder: Path, spec: DecoderSpec, weights: Mapping[str, Tensor]) -> None:
        """Write the decoder, which names its parent. Where the shared weights are the base's, it
        holds the base's sessions as well, before the new ones."""
        adapted = spec.model_copy(update={"parent": self.parent})
        if self.keeps_base:
            sessions = (*self.base.spec.sessions, *spec.sessions)
            update = {"parent": self.parent, "sessions": sessions}
            adapted = self.base.spec.model_copy(update=update)
            weights = extend(self.base.model.state_dict(), weights)
        adapted.save(folder, weights)

    def load(self, folder: Path, spec: DecoderSpec) -> dict[str, Tensor]:
        """The weights of the new sessions' decoder."""
        weights = load_weights(folder / WEIGHTS)
        if not self.keeps_base:
            return weights
        vocabulary = DecoderSpec.read(folder).vocabulary
        return keep(weights, vocabulary, [vocabulary.sessions.index(s.id) for s in spec.sessions])


def starting_weights(recipe: ResolvedRecipe) -> FreshWeights:
    """The weights that a run of `recipe` starts from.

    Raises StoreError when its base cannot be read, and RecipeError when the base has no
    normalization that new sessions could share.
    """
    settings = recipe.adapt
    if settings is None or settings.way == "scratch":
        return FreshWeights()
    return BaseWeights(recipe, settings)


def _readouts(spec: DecoderSpec) -> str:
    """The readouts beside the target, for a message: `side (3 classes)`, or `nothing`."""

    def described(readout: Readout) -> str:
        if readout.classes:
            return f"{readout.name} ({len(readout.classes)} classes)"
        return f"{readout.name} ({len(readout.axes)} axes in {readout.unit})"

    return ", ".join(map(described, spec.readouts)) or "nothing"


def _inherited(spec: DecoderSpec, path: Path, by_corpus: bool) -> Inherited:
    """The classes that an adapted run inherits from the base `spec`; with `by_corpus`
    normalization, the mean and deviation of its target and readouts too."""
    readouts = {readout.name: readout for readout in spec.readouts}
    if not by_corpus:
        return Inherited(readouts=readouts)
    first = spec.sessions[0]
    if any((s.mean, s.std, s.readouts) != (first.mean, first.std, first.readouts)
           for s in spec.sessions):  # fmt: skip
        raise RecipeError(
            f"{path} was normalized session by session: set data.normalize to session"
        )
    behaviors = {
        name: (np.array(scale.mean), np.array(scale.std)) for name, scale in first.readouts.items()
    }
    return Inherited((np.array(first.mean), np.array(first.std)), behaviors, readouts)


def _parent(settings: AdaptSettings) -> Parent:
    """The base, as `decoder.json` names it. Raises StoreError when its files are damaged."""
    base = settings.base
    return Parent(
        name=base.resolve().name,
        path=str(base),
        way=settings.way,
        sha256=sha256(base / WEIGHTS),
        steps=_steps(base / METRICS),
    )


def _steps(path: Path) -> int | None:
    """The steps after which a run had the weights that it kept, out of its metrics.json; None
    where there is no such file."""
    metrics = read_json(path)
    if metrics is None:
        return None
    training = metrics.get("training")
    steps = training.get("best_step") if isinstance(training, dict) else None
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise StoreError(
            f"{path} is damaged: it has no training.best_step; delete it to adapt without"
        )
    return steps
