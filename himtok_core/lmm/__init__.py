"""The language model that sees a picture and answers in words, boxes and mask tokens."""

from .configuration import HimtokConfig
from .modeling import HimtokForConditionalGeneration
from .processing import HimtokImageProcessor, HimtokProcessor

__all__ = [
    "HimtokConfig",
    "HimtokForConditionalGeneration",
    "HimtokImageProcessor",
    "HimtokProcessor",
]
