"""One visitor's state: a picture, its conversation, and the limits that keep one visitor from taking all.

Knows what may be asked when, and which answer is shown with how many mask tokens. Nothing in here is shared
between visitors except the chat, which is never changed. How it looks is left to `views`, when it happens to
`chat_tab`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from himtok_core import (
    Chat,
    Conversation,
    HimtokError,
    PictureEmbedding,
    Prompt,
    Reply,
    Sampling,
    SamRefiner,
    refine_reply,
)

MASK_TOKENS = 32
MAX_TURNS = 40
MAX_QUESTION = 2000
RETRY = Sampling(temperature=0.7, top_p=0.9)


@dataclass(eq=False)
class Turn:
    """One question and what came of it.

    reply: as the model gave it (partial while it streams), None before its first token. shown: the same with
    its masks decoded from fewer tokens, None if they are shown as they were given. refined: what is shown
    with its masks sharpened, None if they are not; refine_seconds: how long that took. error: why there is
    no reply. previews: what its masks look like at several lengths, data URLs, () before it is finished.
    again: whether it is a retry. stopping: whether the visitor wants no more of it.
    kept: whether the model's own conversation has it, answered or in part.
    first_colour: number of the first object's colour; a conversation never uses one number twice.
    """

    prompt: Prompt
    first_colour: int
    reply: Reply | None = None
    shown: Reply | None = None
    refined: Reply | None = None
    refine_seconds: float = 0.0
    error: str = ""
    previews: tuple[str, ...] = ()
    again: bool = False
    stopping: bool = False
    kept: bool = False

    @property
    def unrefined(self) -> Reply | None:
        """The reply as it is drawn now, before its masks are sharpened."""
        return self.shown or self.reply

    @property
    def visible(self) -> Reply | None:
        """The reply as it is drawn now."""
        return self.refined or self.unrefined

    @property
    def finished(self) -> bool:
        return bool(self.error) or (self.reply is not None and self.reply.finished)


class Visitor:
    """State of one open page. Every method that a visitor can get wrong raises HimtokError.

    refiner: what sharpens masks when `refining` is on, None if none is loaded.
    """

    def __init__(self, chat: Chat, refiner: SamRefiner | None = None) -> None:
        self.chat = chat
        self.refiner = refiner
        self.refining = False
        self.conversation: Conversation | None = None
        self.names: tuple[str, ...] = ()
        self.turns: list[Turn] = []
        self.mask_tokens = MASK_TOKENS
        self._waiting: Turn | None = None  # accepted, and not yet taken up by the model
        # What the refiner sees in a picture, with the conversation about it: another may begin meanwhile.
        self._embedded: tuple[Conversation, PictureEmbedding] | None = None
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether the last question still waits for its answer."""
        return bool(self.turns) and not self.turns[-1].finished

    def open(self, picture: str | Path, names: Sequence[str] = ()) -> Conversation:
        """Begin with another picture; a running answer about the old one is stopped.

        names: what is known to be in it, for suggestions.
        """
        conversation = self.chat.start(picture)
        self.stop()
        self._begin(conversation)
        self.names = tuple(names)
        return conversation

    def clear(self) -> None:
        """Forget the conversation and keep the picture."""
        self.stop()
        if self.conversation is not None:
            before, embedded = self.conversation, self._embedded
            again = self.chat.start(before.picture)
            self._begin(again)
            if embedded is not None and embedded[0] is before:  # of the same picture
                self._embedded = again, embedded[1]

    def close(self) -> None:
        """Stop what runs and let go of everything."""
        self.stop()
        self._begin(None)

    def _begin(self, conversation: Conversation | None) -> None:
        with self._lock:
            self.conversation, self.turns, self._waiting = conversation, [], None
            self._embedded = None
            self.mask_tokens = MASK_TOKENS

    def accept(self, prompt: Prompt, again: bool = False) -> None:
        """Put a question at the end of the conversation; `answers` takes it from there.

        again: whether it was answered before. The answer is then sampled: a greedy one would be the same.
        """
        with self._lock:
            if self.conversation is None:
                raise HimtokError("There is no picture yet. Drop one here, paste one, or pick an example.")
            self._check_idle()
            if len(prompt.text) > MAX_QUESTION:
                raise HimtokError(f"The question has {len(prompt.text)} characters; "
                                  f"at most {MAX_QUESTION} are allowed.")
            if len(self.turns) >= MAX_TURNS:
                raise HimtokError(f"A conversation holds {MAX_TURNS} questions, and this one is full. "
                                  "Clear it to go on with the same picture.")
            used = sum(len(turn.reply.objects) for turn in self.turns if turn.reply is not None)
            self._waiting = Turn(prompt, first_colour=used, again=again)
            self.turns.append(self._waiting)
            self.mask_tokens = MASK_TOKENS

    def _check_idle(self) -> None:
        if self.busy:
            raise HimtokError("The last question is still being answered. Wait for it or stop it first.")

    def answers(self) -> Iterator[Turn]:
        """Answer the accepted question; yields its turn whenever there is more of the reply.

        Yields nothing if the question was taken back while it waited. Raises what the model raises; the turn
        then says why it has no answer.
        """
        with self._lock:
            turn, self._waiting = self._waiting, None
            conversation = self.conversation
        if turn is None or conversation is None:
            return
        before = len(conversation.turns)
        try:
            # A visitor who leaves closes this generator in the middle, and with it the model's.
            with closing(conversation.stream(turn.prompt, sampling=RETRY if turn.again else None)) as replies:
                for reply in replies:
                    turn.reply = reply
                    if turn.stopping:
                        conversation.stop()
                    yield turn
        except HimtokError as error:
            turn.error = str(error)
            raise
        finally:
            turn.kept = len(conversation.turns) > before
            if not turn.finished:
                turn.error = "The answer was interrupted."

    def stop(self) -> None:
        """End a running answer at its next token, or take back a question that still waits for the model."""
        with self._lock:
            turn, self._waiting = self._waiting, None
            if turn is not None:
                turn.error = "Stopped before the model began."
            elif self.busy and self.conversation is not None:
                self.turns[-1].stopping = True
                self.conversation.stop()

    def retry(self) -> None:
        """Take the last turn back and ask the same again."""
        with self._lock:
            if not self.turns or self.conversation is None:
                raise HimtokError("There is nothing to retry yet.")
            self._check_idle()
            turn = self.turns.pop()
            if turn.kept:
                self.conversation.undo()
        self.accept(turn.prompt, again=turn.reply is not None and not turn.reply.stopped)

    def shorten(self, mask_tokens: int) -> None:
        """Draw the last answer's masks from their first tokens only; the model is not asked."""
        turn = self.last_answer()
        if turn is not None and turn.reply is not None and not self.busy:
            turn.shown = None if mask_tokens == MASK_TOKENS else self.chat.redecode(turn.reply, mask_tokens)
            self.mask_tokens = mask_tokens
            self.refine(self.refining)

    def refine(self, on: bool) -> None:
        """Sharpen the masks of the last answer and of those to come, or show them as the tokens drew them."""
        if on and self.refiner is None:
            raise HimtokError("No SAM is loaded that could refine masks: start the app with --refiner.")
        self.refining = on
        turn, conversation = self.last_answer(), self.conversation
        if turn is None or conversation is None or self.busy:
            return
        if not on:
            turn.refined = None
        elif any(item.mask is not None for item in turn.unrefined.objects):
            began = time.perf_counter()
            embedded = self._embedded
            if embedded is None or embedded[0] is not conversation:
                embedded = self._embedded = conversation, self.refiner.embed(conversation.picture)
            turn.refined = refine_reply(self.refiner, embedded[1], turn.unrefined)
            turn.refine_seconds = time.perf_counter() - began

    def last_mask(self) -> tuple[int, ...]:
        """Tokens of the first mask of the last answer that has one; () if none has."""
        replies = [turn.reply for turn in reversed(self.turns) if turn.reply is not None and turn.finished]
        return next((item.tokens for reply in replies for item in reply.objects if item.mask is not None), ())

    def last_answer(self) -> Turn | None:
        """The last turn whose reply is complete."""
        return next((turn for turn in reversed(self.turns) if turn.reply is not None and turn.finished), None)
