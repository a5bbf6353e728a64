"""What goes in and what comes out: `Prompt`, `Reply` and the objects inside it.

Knows the shapes and ranges of a reply and refuses anything else at construction. How a reply is generated
(chat, generation) or shown (the demo) is left to others.
"""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from .errors import HimtokError, MaskError, PromptError
from .markup import CODEBOOK_SIZE, MAX_RUN


@dataclass(frozen=True, eq=False)
class ReplyObject:
    """One thing the reply points at.

    label: the phrase attached to it, "" if there is none.
    box: (x0, y0, x1, y1) in pixels of the picture, x0 <= x1 and y0 <= y1, or None.
    mask: bool [H, W] at the picture's size, or None.
    probability: float32 [S, S], 0..1, at the de-tokenizer's own resolution (the paper, section 3), or None.
    tokens: mask token ids in [0, 1024), at most 32, in the order they were generated.
    token_probabilities: float32 [n, codebook_size], one distribution over the codebook (softmax of twice the
        logits) for each generated token, what decoding with fewer tokens starts from; None if the tokens
        were not generated but given.
    complete: False while the run is still being generated.

    Raises MaskError if any of these does not hold.
    """

    label: str
    box: tuple[float, float, float, float] | None
    mask: np.ndarray | None
    probability: np.ndarray | None
    tokens: tuple[int, ...] = ()
    token_probabilities: np.ndarray | None = None
    complete: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.label, str):
            raise MaskError(f"The label of an object must be text, but it is {self.label!r}.")
        if self.box is not None:
            _check_box(self.box)
        if self.mask is not None:
            _check_array("mask", self.mask, np.bool_)
        if self.probability is not None:
            _check_array("probability", self.probability, np.float32)
            if self.probability.shape[0] != self.probability.shape[1]:
                raise MaskError(f"An object's probability must be square [S, S], "
                                f"but its shape is {self.probability.shape}.")
            _check_range("probability", self.probability)
        if len(self.tokens) > MAX_RUN:
            raise MaskError(f"A mask has 1 to {MAX_RUN} tokens, but this object has {len(self.tokens)}.")
        for token in self.tokens:
            if not isinstance(token, Integral) or not 0 <= token < CODEBOOK_SIZE:
                raise MaskError(f"A mask token is an integer from 0 to {CODEBOOK_SIZE - 1}, not {token!r}.")
        if self.token_probabilities is not None:
            _check_array("token_probabilities", self.token_probabilities, np.float32)
            if len(self.token_probabilities) != len(self.tokens):
                raise MaskError(f"An object's token_probabilities need one row for each of its "
                                f"{len(self.tokens)} tokens, but there are {len(self.token_probabilities)}.")
            _check_range("token_probabilities", self.token_probabilities)


@dataclass(frozen=True)
class Timing:
    """Where the time of one reply went.

    prefill, first_token, decode, detokenize, total: seconds; first_token counts from the question to the
    first new token. prompt_tokens: length of the whole prompt; cached_tokens: how many of them were in the
    key-value cache already; new_tokens: how many the model generated. Raises HimtokError if one is negative.
    """

    prefill: float
    first_token: float
    decode: float
    detokenize: float
    total: float
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise HimtokError(f"Timing.{name} must be 0 or more, but it is {value!r}.")


@dataclass(frozen=True)
class Prompt:
    """One question of a user.

    text: exactly what goes into the model's user turn. expects_mask: whether an answer without a mask should
    be reported. mask_tokens: how many tokens a mask gets, 1..32; None lets the model end its own run.
    Raises PromptError for an empty text or a number of tokens out of range.
    """

    text: str
    expects_mask: bool = False
    mask_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise PromptError("The question is empty. Write what the model should look for.")
        if self.mask_tokens is not None and (
            not isinstance(self.mask_tokens, Integral) or not 1 <= self.mask_tokens <= MAX_RUN
        ):
            raise PromptError(f"The number of mask tokens must be an integer from 1 to {MAX_RUN}, "
                              f"not {self.mask_tokens!r}.")


@dataclass(frozen=True, eq=False)
class Reply:
    """One answer: text plus objects.

    text: exactly what the model said, mask runs and tags included. objects: in the order of the text.
    size: (width, height) of the picture in pixels; every mask is [height, width] and every box lies inside.
    problems: one readable line for each thing that went wrong in the answer. finished: False for a partial
    reply of a stream. stopped: True if somebody stopped it before its end. timing: None if not measured.
    Raises MaskError if an object does not fit the picture, HimtokError for a size that is none.
    """

    text: str
    objects: tuple[ReplyObject, ...]
    size: tuple[int, int]
    problems: tuple[str, ...] = ()
    finished: bool = True
    stopped: bool = False
    timing: Timing | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise HimtokError(f"The text of a reply must be text, but it is {self.text!r}.")
        if len(self.size) != 2 or not all(isinstance(side, Integral) and side > 0 for side in self.size):
            raise HimtokError(f"The size of a reply is (width, height) in whole pixels, not {self.size!r}.")
        width, height = self.size
        for item in self.objects:
            if item.mask is not None and item.mask.shape != (height, width):
                raise MaskError(f"A mask must have the picture's shape {(height, width)} (height, width), "
                                f"but its shape is {item.mask.shape}.")
            if item.box is not None and not (
                0 <= item.box[0] and 0 <= item.box[1] and item.box[2] <= width and item.box[3] <= height
            ):
                raise MaskError(f"A box must lie inside the picture of {width} x {height} pixels, "
                                f"but it is {item.box}.")


def _check_box(box: tuple[float, float, float, float]) -> None:
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise MaskError(f"A box is four numbers (x0, y0, x1, y1), not {box!r}.")
    if box[0] > box[2] or box[1] > box[3]:
        raise MaskError(f"A box (x0, y0, x1, y1) needs x0 <= x1 and y0 <= y1, but it is {box!r}.")


def _check_array(name: str, array: np.ndarray, dtype: type[np.generic]) -> None:
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise MaskError(f"An object's {name} must be two-dimensional and {dtype.__name__}, not {found}.")


def _check_range(name: str, array: np.ndarray) -> None:
    # Written so that NaN fails too.
    if array.size and not (array.min() >= 0 and array.max() <= 1 + 1e-4):
        raise MaskError(f"An object's {name} must lie in 0..1, but it reaches from "
                        f"{array.min():.4g} to {array.max():.4g}.")
