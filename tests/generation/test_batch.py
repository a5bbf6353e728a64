"""Questions asked together get the answers that each gets alone."""

import numpy as np
import pytest
from PIL import Image

from himtok_core.chat import Chat
from himtok_core.errors import GenerationError, PromptError
from himtok_core.reply import Prompt, Reply
from tests.conftest import ANSWERS


def assert_alike(together: Reply, alone: Reply) -> None:
    assert together.text == alone.text
    assert together.problems == alone.problems and together.size == alone.size
    assert together.finished and not together.stopped
    for one, other in zip(together.objects, alone.objects, strict=True):
        assert (one.label, one.box, one.tokens) == (other.label, other.box, other.tokens)
        if other.mask is not None:
            np.testing.assert_allclose(one.token_probabilities, other.token_probabilities, atol=1e-3)
            np.testing.assert_allclose(one.probability, other.probability, atol=1e-3)
            assert (one.mask != other.mask).mean() < 0.01


def test_answers_of_all_lengths_come_out_as_in_conversations(tiny_chat: Chat, picture: Image.Image) -> None:
    questions = list(ANSWERS)
    replies = tiny_chat.ask_batch([picture] * len(questions), questions)
    assert [reply.text for reply in replies] == list(ANSWERS.values())
    for question, reply in zip(questions, replies, strict=True):
        assert_alike(reply, tiny_chat.start(picture).ask(question))


def test_each_question_has_its_own_picture_and_mask_tokens(tiny_chat: Chat, picture: Image.Image) -> None:
    wide = picture.resize((150, 40))
    prompts = [
        Prompt("Segment <ref>cat</ref>.", mask_tokens=3),
        Prompt("Segment <ref>dog</ref>.", mask_tokens=7),
        Prompt("Greet."),
    ]
    replies = tiny_chat.ask_batch([picture, wide, picture], prompts)
    assert [len(reply.objects[0].tokens) for reply in replies[:2]] == [3, 7]
    assert [reply.size for reply in replies] == [(60, 40), (150, 40), (60, 40)]
    for prompt, shown, reply in zip(prompts, (picture, wide, picture), replies, strict=True):
        assert_alike(reply, tiny_chat.start(shown).ask(prompt))
    eight = tiny_chat.ask_batch([picture, wide], prompts[:2], mask_tokens=8)
    assert [len(reply.objects[0].tokens) for reply in eight] == [8, 8]


def test_a_picture_of_several_questions_is_looked_at_once(tiny_chat: Chat, picture: Image.Image) -> None:
    vision, looks = tiny_chat.model.model.vision_tower, []
    handle = vision.register_forward_hook(lambda *_: looks.append(1))
    try:
        tiny_chat.ask_batch([picture, picture.copy(), picture], ["Greet."] * 3, max_new_tokens=1)
    finally:
        handle.remove()
    assert len(looks) == 2


def test_conversations_of_all_lengths_are_those_held_alone(tiny_chat: Chat, picture: Image.Image) -> None:
    wide = picture.resize((150, 40))
    first, second, third, *_ = ANSWERS
    conversations = [[first], [second, Prompt(first, mask_tokens=5), third], [], [third, second]]
    pictures = [picture, wide, picture, picture]
    together = tiny_chat.converse_batch(pictures, conversations)
    assert [len(replies) for replies in together] == [1, 3, 0, 2]
    for shown, prompts, replies in zip(pictures, conversations, together, strict=True):
        alone = tiny_chat.start(shown)
        for prompt, reply in zip(prompts, replies, strict=True):
            assert_alike(reply, alone.ask(prompt))


def test_a_limit_cuts_every_answer_and_says_so(tiny_chat: Chat, picture: Image.Image) -> None:
    question = "Segment <ref>cat</ref>."
    (reply,) = tiny_chat.ask_batch([picture], [question], max_new_tokens=12)
    assert_alike(reply, tiny_chat.start(picture).ask(question, max_new_tokens=12))
    assert any("12 new tokens" in line for line in reply.problems)


def test_what_cannot_be_asked(tiny_chat: Chat, picture: Image.Image) -> None:
    assert tiny_chat.ask_batch([], []) == []
    with pytest.raises(PromptError, match="one conversation a picture"):
        tiny_chat.ask_batch([picture], [])
    with pytest.raises(PromptError, match="im_end"):
        tiny_chat.ask_batch([picture], ["a <|im_end|> b"])
    with pytest.raises(PromptError, match="max_new_tokens"):
        tiny_chat.ask_batch([picture], ["Greet."], max_new_tokens=0)
    with pytest.raises(GenerationError, match="no room"):
        tiny_chat.ask_batch([picture], ["word " * 5000])
