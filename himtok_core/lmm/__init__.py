"""The language model that sees a picture and answers in words, boxes and mask tokens."""

from .configuration import HimtokConfig
from .modeling import HimtokForConditionalGeneration
from .processing import HimtokImageProcessor, HimtokProcessor
from .released_format import convert, is_released_format, load_released

__all__ = [
    "HimtokConfig",
    "HimtokForConditionalGeneration",
    "HimtokImageProcessor",
    "HimtokProcessor",
    "convert",
    "is_released_format",
    "load_released",
]
