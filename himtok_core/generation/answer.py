"""One answer of the model on this machine: tokens -> text -> growing `Reply`, with its timing.

Brings `local`, `text` and `replies` together. Which turn of which conversation it is, is `chat`'s matter.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from ..reply import Prompt, Reply, Timing
from .local import Context, Generation, LocalModel
from .replies import ReplyBuilder
from .sampling import Sampling
from .text import TextStream


class Answer:
    """Iterate over it, once, for the reply as it grows; `finish` gives the whole one, however far it came.

    prompt: the question. ids: the whole conversation up to where the answer begins. features: of the picture.
    size: (width, height) of the picture. began: time.perf_counter() when the question came.
    The other arguments are those of `Conversation.stream`; `stop`, once set, ends it at the next token.
    """

    def __init__(
        self,
        local: LocalModel,
        context: Context,
        prompt: Prompt,
        ids: Sequence[int],
        features: torch.Tensor,
        size: tuple[int, int],
        sampling: Sampling | None,
        max_new_tokens: int,
        stop: threading.Event,
        began: float,
    ):
        self._generation = Generation(
            local, context, ids, features, prompt.mask_tokens, sampling, max_new_tokens, stop
        )
        self._builder = ReplyBuilder(local.draw, prompt, size)
        self._text = TextStream(local.processor.tokenizer)
        self._prompt_tokens, self._max_new_tokens = len(ids), max_new_tokens
        self._began, self._asked = began, time.perf_counter()

    @property
    def ids(self) -> list[int]:
        """The tokens of the answer so far, without the one that ends it."""
        return self._generation.ids

    def __iter__(self) -> Iterator[Reply]:
        for token in self._generation:
            self._builder.add(self._text.feed(token))
            yield self._builder.partial(self._generation.runs)

    def finish(self) -> Reply:
        """The finished reply; if the model did not come to an end by itself, one that was stopped."""
        self._builder.add(self._text.close())
        ended = self._generation.ended or "stopped"
        reply = self._builder.final(self._generation.runs, ended, self._max_new_tokens)
        looked, total = self._asked - self._began, time.perf_counter() - self._began
        first_token = looked + self._generation.first_token
        timing = Timing(
            prefill=looked + self._generation.prefill,
            first_token=first_token,
            decode=max(0.0, total - first_token - self._builder.draw_seconds),
            detokenize=self._builder.draw_seconds,
            total=total,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._generation.cached,
            new_tokens=len(self.ids),
        )
        return replace(reply, timing=timing)
