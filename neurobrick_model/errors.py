"""The exceptions of neurobrick_model, under the root of neurobrick's own tree.

    neurobrick.NeurobrickError
    ├── UnknownSession     a session that the decoder was not trained on
    ├── StreamError        spikes that a stream cannot take, or a time that it cannot decode
    └── Stopped            a signal stopped the training, and a checkpoint was written

A wrong recipe is a `neurobrick.RecipeError`, a damaged run or decoder a `neurobrick.StoreError`.
"""

from __future__ import annotations

from neurobrick import NeurobrickError


class UnknownSession(NeurobrickError):
    """A session that the decoder was not trained on."""


class StreamError(NeurobrickError):
    """Spikes that a stream cannot take, or a time that it cannot decode."""


class Stopped(NeurobrickError):
    """A signal stopped the training, and a checkpoint was written."""
