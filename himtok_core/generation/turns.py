"""Questions -> the token ids that go to the model, turn by turn.

Knows how the chat template puts turns one behind the other. A later turn is written as what follows the
answer before it, so that the answer's own ids stay as the model chose them and nothing before them is
spelled again.
"""

from ..errors import CheckpointError, PromptError
from ..lmm import HimtokProcessor
from ..lmm.processing import IMAGE_END, IMAGE_START, TURN_END

TURN_START = "<|im_start|>"


def check_question(processor: HimtokProcessor, text: str) -> None:
    """Raises PromptError if the text holds a token that would end its turn or stand for a picture."""
    tokenizer = processor.tokenizer
    reserved = [processor.image_token, TURN_START, TURN_END, IMAGE_START, IMAGE_END]
    reserved += [token for token in (tokenizer.bos_token, tokenizer.eos_token) if token]
    for token in reserved:
        if token in text:
            raise PromptError(f"The question holds {token}, which is reserved for the conversation itself.")


def first_turn_ids(processor: HimtokProcessor, text: str, num_tiles: int) -> list[int]:
    """The ids of a conversation's beginning: system message, picture of `num_tiles` tiles, first question."""
    written = _write(processor, [_user([{"type": "image"}, {"type": "text", "text": text}])], answer=True)
    written = written.replace(processor.image_token, processor.picture_text(num_tiles), 1)
    return processor.tokenizer(written)["input_ids"]


def next_turn_ids(processor: HimtokProcessor, text: str) -> list[int]:
    """The ids from the end of the last answer to the beginning of the next one."""
    said = [_user("a"), {"role": "assistant", "content": "b"}]
    before, after = _write(processor, said[:1], answer=True) + "b", _write(processor, said)
    asked = _write(processor, [*said, _user(text)], answer=True)
    if not (after.startswith(before) and asked.startswith(after)):
        raise CheckpointError(
            "The model's chat template changes earlier turns, so a conversation cannot go on."
        )
    return processor.tokenizer(asked[len(before) :], add_special_tokens=False)["input_ids"]


def _user(content: str | list[dict]) -> dict:
    return {"role": "user", "content": content}


def _write(processor: HimtokProcessor, messages: list[dict], answer: bool = False) -> str:
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
