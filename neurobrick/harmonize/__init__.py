"""Raw arrays → the schema: names, SI units, sorted spikes, gaps, a domain."""

from neurobrick.harmonize.choice import usual_target
from neurobrick.harmonize.session import harmonize, spikes_of

__all__ = ["harmonize", "spikes_of", "usual_target"]
