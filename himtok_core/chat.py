"""Chat and Conversation: the facade through which everyone outside asks a model about a picture.

Knows turns: what was asked, what was answered, what the model has read so far. A `Chat` is a model and is
shared; whatever belongs to one picture or one visitor lives in a `Conversation`. Tokens and caches are
`generation`'s work, pictures are `images`'.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image

from .errors import GenerationError, PromptError
from .generation import Answer, Asked, Context, LocalModel, Sampling, answer_batch, redraw
from .generation.loading import load_checkpoint
from .generation.turns import check_question, first_turn_ids, next_turn_ids
from .images import open_picture
from .lmm import HimtokForConditionalGeneration, HimtokProcessor
from .markup import MAX_RUN
from .mask_tokenizer import MaskTokenizer
from .reply import Prompt, Reply

__all__ = ["Chat", "Conversation", "Sampling", "load"]

Picture = str | Path | Image.Image | np.ndarray | bytes | IO[bytes]


def load(
    model: str | Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: str | None = None,
    device_map: str | dict | None = None,
    max_tiles: int | None = None,
) -> "Chat":
    """Loads a model to chat with.

    Args:
        model: a folder, or a hub id such as "yayafengzi/InternVL2_5-HiMTok-8B"; our format or the released
            one.
        device: "cpu", "cuda", "cuda:1", "mps"; the accelerator if there is one by default.
        dtype: "float32", "bfloat16" or "float16"; by default bfloat16 on a GPU that has it, else float32.
        quantization: "8bit" or "4bit" for the language model's layers (bitsandbytes).
        device_map: "auto" to spread the model over all GPUs and the processor; instead of `device`.
        max_tiles: at most this many tiles a picture, instead of the model's own number.

    Raises:
        CheckpointError: no such model, or its files do not fit. HimtokError: an option that cannot be.
        GenerationError: not enough memory.
    """
    loaded = load_checkpoint(model, device, dtype, quantization, device_map, max_tiles)
    return Chat(loaded.model, loaded.processor, loaded.name, loaded.concepts)


class Chat:
    """A model to start conversations with; safe to share between threads.

    name: folder name or hub id. concepts: the names it was trained on ({"name": ...} each), () if unknown.
    """

    def __init__(
        self,
        model: HimtokForConditionalGeneration,
        processor: HimtokProcessor,
        name: str = "himtok",
        concepts: tuple[dict, ...] = (),
    ):
        self.name = name
        self.concepts = concepts
        self._local = LocalModel(model, processor)

    @property
    def model(self) -> HimtokForConditionalGeneration:
        """The network, a plain transformers model."""
        return self._local.model

    @property
    def processor(self) -> HimtokProcessor:
        """Tokenizer, image processor and chat template."""
        return self._local.processor

    @property
    def mask_tokenizer(self) -> MaskTokenizer:
        """The network's own mask tokenizer."""
        return self.model.mask_tokenizer

    def start(self, picture: Picture) -> "Conversation":
        """Begins a conversation about a picture: path, PIL image, uint8 array (H, W, 3), bytes or file.

        Raises PictureError if it cannot be used.
        """
        return Conversation(self._local, open_picture(picture))

    def ask_batch(
        self,
        pictures: Sequence[Picture],
        prompts: Sequence[str | Prompt],
        mask_tokens: int | None = None,
        max_new_tokens: int = 1024,
    ) -> list[Reply]:
        """Asks one question about each picture, all at once, and waits for every answer; greedy, in order.

        `converse_batch` with conversations of one question; arguments and errors are the same.
        """
        turns = self.converse_batch(pictures, [[prompt] for prompt in prompts], mask_tokens, max_new_tokens)
        return [replies[0] for replies in turns]

    def converse_batch(
        self,
        pictures: Sequence[Picture],
        conversations: Sequence[Sequence[str | Prompt]],
        mask_tokens: int | None = None,
        max_new_tokens: int = 1024,
    ) -> list[list[Reply]]:
        """Holds a conversation about each picture, all at once: their first questions together, then their
        second ones, after the answers to the first, and so on; greedy -> every conversation's replies.

        Faster than as many conversations, up to rounding the same answers; a picture that is in the list
        several times, as the same object, is looked at once. Every turn reads its conversation anew.
        Arguments and errors as for `Conversation.stream`; PromptError also unless there is one conversation a
        picture, GenerationError also if one with its answers does not fit the model.
        """
        if len(pictures) != len(conversations):
            raise PromptError(
                f"A batch has one conversation a picture, not {len(conversations)} for {len(pictures)}."
            )
        check_max_new_tokens(max_new_tokens)
        asked = [
            [as_prompt(self.processor, prompt, mask_tokens, None) for prompt in prompts]
            for prompts in conversations
        ]
        looked_at: dict[int, tuple[torch.Tensor, int, tuple[int, int]]] = {}  # by the object, once for each
        for source in pictures:
            if id(source) not in looked_at:
                picture = open_picture(source)
                seen = self.processor.image_processor(picture)
                features = self._local.look(seen["pixel_values"])
                looked_at[id(source)] = features, seen["num_tiles"][0], picture.size
        said: list[list[int]] = [[] for _ in asked]  # the ids of each conversation so far
        replies: list[list[Reply]] = [[] for _ in asked]
        for turn in range(max(map(len, asked), default=0)):
            going_on = [row for row, prompts in enumerate(asked) if turn < len(prompts)]
            questions = []
            for row in going_on:
                prompt, (features, tiles, size) = asked[row][turn], looked_at[id(pictures[row])]
                if turn:
                    said[row] += next_turn_ids(self.processor, prompt.text)
                else:
                    said[row] += first_turn_ids(self.processor, prompt.text, tiles)
                questions.append(Asked(prompt, said[row], features, size))
            answers = answer_batch(self._local, questions, max_new_tokens)
            for row, (reply, ids) in zip(going_on, answers, strict=True):
                replies[row].append(reply)
                said[row] += ids
        return replies

    def redecode(self, reply: Reply, mask_tokens: int) -> Reply:
        """The same reply with every mask drawn from its first `mask_tokens` tokens; asks no language model.

        Raises PromptError unless 1 <= mask_tokens <= 32.
        """
        if not isinstance(mask_tokens, Integral) or not 1 <= mask_tokens <= MAX_RUN:
            raise PromptError(f"A mask is drawn from 1 to {MAX_RUN} tokens, not {mask_tokens!r}.")
        return redraw(reply, mask_tokens, self._local.draw)


@dataclass(frozen=True)
class Turn:
    """A question and its answer. start: how many tokens the conversation had before."""

    prompt: Prompt
    reply: Reply
    start: int


class Conversation:
    """Questions and answers about one picture.

    The picture's features are computed once. What the model has read stays in a key-value cache, so a later
    turn reads only what is new. One reply is written at a time; `stop` may be called from any thread.

    picture: PIL image, RGB.
    """

    def __init__(self, local: LocalModel, picture: Image.Image):
        self.picture = picture
        self._local = local
        self._context = Context()
        self._features: torch.Tensor | None = None
        self._num_tiles = 0
        self._ids: list[int] = []  # everything said so far, without the end of the last answer
        self._turns: list[Turn] = []
        self._busy = threading.Lock()
        self._stop = threading.Event()

    @property
    def turns(self) -> tuple[tuple[Prompt, Reply], ...]:
        """Every question with its answer, the oldest first."""
        return tuple((turn.prompt, turn.reply) for turn in self._turns)

    def ask(
        self,
        prompt: str | Prompt,
        mask_tokens: int | None = None,
        sampling: Sampling | None = None,
        max_new_tokens: int = 1024,
        expects_mask: bool | None = None,
    ) -> Reply:
        """Asks and waits for the whole answer; arguments and errors as for `stream`."""
        return deque(self.stream(prompt, mask_tokens, sampling, max_new_tokens, expects_mask), maxlen=1).pop()

    def stream(
        self,
        prompt: str | Prompt,
        mask_tokens: int | None = None,
        sampling: Sampling | None = None,
        max_new_tokens: int = 1024,
        expects_mask: bool | None = None,
    ) -> Iterator[Reply]:
        """Asks and yields the answer as it grows; the last reply has finished=True.

        Args:
            prompt: the question, exactly as it goes to the model.
            mask_tokens: tokens of every mask, 1..32; None leaves it to the prompt, and without one to the
                model.
            sampling: None is greedy.
            max_new_tokens: where the answer is cut off at the latest.
            expects_mask: whether to report an answer without a mask; None leaves it to the prompt, and for a
                plain text means: if mask_tokens is given.

        An answer that is stopped, or whose iterator is closed, stays in the conversation as far as it came.

        Raises:
            PromptError: an empty question, one with control tokens in it, or a number out of range.
            GenerationError: another answer is still being written, the model cannot read more, or memory ran
            out.
        """
        prompt = as_prompt(self._local.processor, prompt, mask_tokens, expects_mask)
        check_max_new_tokens(max_new_tokens)
        stop = threading.Event()
        if not self._busy.locked():
            self._stop = stop  # from here on, so that a stop before the first token counts
        return self._write(prompt, sampling, max_new_tokens, stop)

    def stop(self) -> None:
        """Ends the answer that is being written at its next token; without one it does nothing."""
        self._stop.set()

    def undo(self) -> Prompt:
        """Forgets the last turn and returns its question, to ask it again.

        Raises GenerationError if there is none, or if an answer is being written.
        """
        with self._alone():
            if not self._turns:
                raise GenerationError("There is no turn to undo yet.")
            turn = self._turns.pop()
            del self._ids[turn.start :]
            # The first turn leaves the picture itself in the cache.
            self._context.crop(max(turn.start, self._picture_end()))
            return turn.prompt

    def _write(
        self, prompt: Prompt, sampling: Sampling | None, max_new_tokens: int, stop: threading.Event
    ) -> Iterator[Reply]:
        with self._alone():
            self._stop = stop
            began = time.perf_counter()
            ids = self._prompt_ids(prompt.text)
            answer = Answer(
                self._local,
                self._context,
                prompt,
                ids,
                self._features,
                self.picture.size,
                sampling,
                max_new_tokens,
                stop,
                began,
            )
            try:
                yield from answer
            except GeneratorExit:
                self._keep(prompt, ids, answer)  # the reader left: an answer that was stopped
                raise
            yield self._keep(prompt, ids, answer)

    def _keep(self, prompt: Prompt, ids: list[int], answer: Answer) -> Reply:
        """Finishes an answer and makes it a turn of the conversation."""
        reply = answer.finish()
        self._turns.append(Turn(prompt, reply, start=len(self._ids)))
        self._ids = ids + answer.ids
        return reply

    def _prompt_ids(self, text: str) -> list[int]:
        """The whole conversation with the new question, up to where the answer begins."""
        processor = self._local.processor
        if self._features is None:
            seen = processor.image_processor(self.picture)
            self._features, self._num_tiles = self._local.look(seen["pixel_values"]), seen["num_tiles"][0]
        if not self._turns:
            return first_turn_ids(processor, text, self._num_tiles)
        return self._ids + next_turn_ids(processor, text)

    def _picture_end(self) -> int:
        """How many tokens of what the model has read reach to the end of the picture."""
        place = self._local.model.config.image_token_id
        return max((index + 1 for index, token in enumerate(self._context.ids) if token == place), default=0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise GenerationError("The last question is still being answered: wait for it or stop it.")
        try:
            yield
        finally:
            self._busy.release()


def as_prompt(
    processor: HimtokProcessor, prompt: str | Prompt, mask_tokens: int | None, expects_mask: bool | None
) -> Prompt:
    """A question as `Conversation.stream` takes it -> what is asked. Raises PromptError."""
    if not isinstance(prompt, Prompt):
        prompt = Prompt(prompt, expects_mask=mask_tokens is not None)
    if mask_tokens is not None:
        prompt = replace(prompt, mask_tokens=mask_tokens)
    if expects_mask is not None:
        prompt = replace(prompt, expects_mask=expects_mask)
    check_question(processor, prompt.text)
    return prompt


def check_max_new_tokens(count: int) -> None:
    """Raises PromptError unless it is a whole number of at least 1."""
    if not isinstance(count, Integral) or count < 1:
        raise PromptError(f"An answer needs at least 1 new token, max_new_tokens is {count!r}.")
