"""Running the model: one token at a time, with mask runs that are always well formed."""

from .answer import Answer
from .batch import Asked, answer_batch
from .local import Context, LocalModel
from .replies import redraw
from .sampling import Sampling

__all__ = ["Answer", "Asked", "Context", "LocalModel", "Sampling", "answer_batch", "redraw"]
