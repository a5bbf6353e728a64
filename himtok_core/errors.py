"""The errors a user may read.

Every message says what was wrong and what would be right, in words that can be shown on a page or a
terminal as they are. Mistakes of the program itself are assertions and stay outside this family.
"""


class HimtokError(Exception):
    """Anything a user, a file or a machine did that stops the work; the parent of the kinds below."""


class PictureError(HimtokError):
    """A picture cannot be used: not a picture, damaged, too large, or an array of the wrong shape."""


class PromptError(HimtokError):
    """A question cannot be asked: an unknown template, a missing or extra slot, or nothing to ask."""


class MaskError(HimtokError):
    """A mask, a box or mask tokens do not have the shape, type or range that they should have."""


class CheckpointError(HimtokError):
    """A model folder cannot be loaded: files missing, the wrong format, or weights that do not fit."""


class GenerationError(HimtokError):
    """The model could not go on: out of memory, context full, or a server that did not answer."""


class DataError(HimtokError):
    """A data set or a file of drawings cannot be read, or does not hold what it should."""
