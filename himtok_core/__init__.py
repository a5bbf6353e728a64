"""himtok_core: a picture and a question go in, a `Reply` comes out.

The names below are the public ones; everything outside this package uses them and nothing deeper. What needs
torch is loaded when it is first asked for, so that importing the package is quick.
"""

from importlib import import_module

from . import geometry, markup, prompts
from .errors import (
    CheckpointError,
    DataError,
    GenerationError,
    HimtokError,
    MaskError,
    PictureError,
    PromptError,
)
from .reply import Prompt, Reply, ReplyObject, Timing

_LAZY = {
    "load": "chat",
    "Chat": "chat",
    "Conversation": "chat",
    "Sampling": "chat",
    "MaskTokenizer": "mask_tokenizer",
    "MaskTokenizerConfig": "mask_tokenizer",
    "HimtokForConditionalGeneration": "lmm",
    "HimtokConfig": "lmm",
    "HimtokProcessor": "lmm",
    "PictureEmbedding": "refine",
    "RefinedMask": "refine",
    "SamRefiner": "refine",
    "refine_reply": "refine",
}

__all__ = [
    "Chat",
    "CheckpointError",
    "Conversation",
    "DataError",
    "GenerationError",
    "HimtokConfig",
    "HimtokError",
    "HimtokForConditionalGeneration",
    "HimtokProcessor",
    "MaskError",
    "MaskTokenizer",
    "MaskTokenizerConfig",
    "PictureEmbedding",
    "PictureError",
    "Prompt",
    "PromptError",
    "RefinedMask",
    "Reply",
    "ReplyObject",
    "SamRefiner",
    "Sampling",
    "Timing",
    "geometry",
    "load",
    "markup",
    "prompts",
    "refine_reply",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
