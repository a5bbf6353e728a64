"""Running the model: one token at a time, with mask runs that are always well formed."""

from .answer import Answer
from .local import Context, LocalModel
from .replies import redraw
from .sampling import Sampling

__all__ = ["Answer", "Context", "LocalModel", "Sampling", "redraw"]
