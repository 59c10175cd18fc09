"""neurobrick_model: spike decoders trained on many sessions at once.

    from neurobrick_model import Decoder, Recipe, Trainer
    Trainer(Recipe.from_yaml("recipes/multisession.yaml")).fit()
    Decoder.load("runs/multisession").predict(dataset, session_id, t0, t1)

The public names are listed in `__init__.pyi`; each is imported, and torch with it, when it is first
asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
