"""neurobrick_model: spike decoders trained on many sessions at once.

from neurobrick_model import Decoder, Recipe, Trainer
Trainer(Recipe.from_yaml("recipes/multisession.yaml")).fit()
Decoder.load("runs/multisession").predict(dataset, session_id, t0, t1)
"""

from __future__ import annotations

from neurobrick_model.decoder import Decoder
from neurobrick_model.recipe import Recipe
from neurobrick_model.trainer import Trainer

__all__ = ["Decoder", "Recipe", "Trainer"]
