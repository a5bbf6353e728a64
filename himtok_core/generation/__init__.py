"""Running the model: one token at a time, with mask runs that are always well formed."""

from .local import Context, Generation, LocalModel
from .replies import ReplyBuilder, redraw
from .sampling import Sampling
from .text import TextStream

__all__ = ["Context", "Generation", "LocalModel", "ReplyBuilder", "Sampling", "TextStream", "redraw"]
