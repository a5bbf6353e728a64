"""The 1-D mask tokenizer: masks <-> up to 32 mask tokens, coarse to fine."""

from .configuration import MaskTokenizerConfig
from .modeling import MaskTokenizer

__all__ = ["MaskTokenizer", "MaskTokenizerConfig"]
