import threading

import numpy as np
import pytest

from himtok_core import prompts
from himtok_core.chat import Chat, Sampling
from himtok_core.errors import GenerationError, PictureError, PromptError
from himtok_core.reply import Prompt
from tests.conftest import ANSWERS, FULL_RUN, SHORT_RUN, example_picture

CAT, DOG, UNICORN = "Segment <ref>cat</ref>.", "Segment <ref>dog</ref>.", "Segment <ref>unicorn</ref>."


@pytest.mark.parametrize(("question", "answer"), ANSWERS.items())
def test_it_says_what_the_model_learned(tiny_chat, picture, question, answer):
    conversation = tiny_chat.start(picture)
    reply = conversation.ask(question)
    assert reply.text == answer
    assert reply.size == (60, 40) and reply.finished and not reply.stopped
    assert len(conversation.turns) == 1
    assert conversation.turns[0][0].text == question and conversation.turns[0][1] is reply


def test_objects_carry_label_box_mask_and_tokens(tiny_chat, picture):
    (item,) = tiny_chat.start(picture).ask("Mask, then box of <ref>cat</ref>.").objects
    assert item.label == "cat" and item.box == (6, 8, 30, 24) and len(item.tokens) == 32
    assert item.probability.shape == (32, 32) and item.token_probabilities.shape == (32, 1024)
    first, second = tiny_chat.start(picture).ask("What is there?").objects
    assert (first.label, second.label) == ("a cat", "a dog")
    assert first.box is None and second.box is not None


def test_masks_are_decoded_softly_from_the_logits(tiny_chat, picture):
    (item,) = tiny_chat.start(picture).ask(CAT).objects
    np.testing.assert_allclose(item.token_probabilities.sum(1), 1, atol=1e-4)
    assert (item.token_probabilities.argmax(1) == item.tokens).all()
    import torch

    soft = tiny_chat.mask_tokenizer.decode_soft(torch.from_numpy(item.token_probabilities)[None])
    np.testing.assert_allclose(item.probability, soft[0].numpy(), atol=1e-5)


def test_the_number_of_mask_tokens_can_be_told(tiny_chat, picture):
    for count in (1, 8):
        item, *_ = tiny_chat.start(picture).ask(CAT, mask_tokens=count).objects
        assert len(item.tokens) == count
    # The model would have ended this run after five.
    item, *_ = tiny_chat.start(picture).ask(Prompt(DOG, mask_tokens=7)).objects
    assert len(item.tokens) == 7


def test_a_missing_mask_is_told_only_when_one_was_asked_for(tiny_chat, picture):
    reply = tiny_chat.start(picture).ask(UNICORN, expects_mask=True)
    assert reply.objects == () and any("mask" in line for line in reply.problems)
    assert tiny_chat.start(picture).ask(UNICORN).problems == ()
    assert tiny_chat.start(picture).ask(Prompt(UNICORN, expects_mask=True)).problems == reply.problems
    assert tiny_chat.start(picture).ask(UNICORN, mask_tokens=8).problems == reply.problems
    assert tiny_chat.start(picture).ask(UNICORN, mask_tokens=8, expects_mask=False).problems == ()


def test_a_stream_grows_and_ends_with_the_whole(tiny_chat, picture):
    replies = list(tiny_chat.start(picture).stream("Two of them?"))
    assert [reply.finished for reply in replies] == [False] * (len(replies) - 1) + [True]
    for before, after in zip(replies, replies[1:], strict=False):
        assert after.text.startswith(before.text)
    assert replies[-1].text == ANSWERS["Two of them?"]
    growing = [len(reply.objects[0].tokens) for reply in replies if reply.objects]
    assert growing[:6] == [1, 2, 3, 4, 5, 5] and growing == sorted(growing)
    shown = [reply.objects[0] for reply in replies if reply.objects]
    assert [item.complete for item in shown[:6]] == [False] * 5 + [True]
    assert all(item.probability is not None for item in shown)


def test_streaming_text_has_no_broken_characters(tiny_chat, picture):
    for reply in tiny_chat.start(picture).stream("Greet."):
        assert ANSWERS["Greet."].startswith(reply.text)


def test_a_later_turn_reads_only_what_is_new(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    first = conversation.ask(CAT)
    second = conversation.ask(DOG)
    assert first.timing.cached_tokens == 0
    # All of the first answer was read, to see that it ends there.
    assert second.timing.cached_tokens == first.timing.prompt_tokens + first.timing.new_tokens
    # A new conversation that is told the same has to read it all, and says the same.
    fresh = tiny_chat.start(picture)
    fresh.ask(CAT)
    fresh._context.reset()
    again = fresh.ask(DOG)
    assert again.timing.cached_tokens == 0
    assert again.timing.prompt_tokens == second.timing.prompt_tokens
    assert again.text == second.text


def test_the_history_is_written_as_the_template_writes_it(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    conversation.ask(CAT)
    conversation.ask(DOG, max_new_tokens=1)
    processor = tiny_chat.processor
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": CAT}]},
        {"role": "assistant", "content": ANSWERS[CAT]},
        {"role": "user", "content": DOG},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    expected = processor(images=[picture], text=text, return_tensors="pt")["input_ids"][0].tolist()
    assert conversation._context.ids[: len(expected)] == expected


def test_the_picture_is_looked_at_once(tiny_chat, picture, monkeypatch):
    looks = []
    look = tiny_chat._local.look
    monkeypatch.setattr(tiny_chat._local, "look", lambda pixels: looks.append(pixels.shape) or look(pixels))
    conversation = tiny_chat.start(picture)
    conversation.ask(CAT)
    conversation.ask(DOG)
    conversation.undo()
    conversation.undo()
    conversation.ask(DOG)
    assert looks == [(3, 3, 32, 32)]


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_stopped_answer_stays_as_far_as_it_came(tiny_chat, picture, after):
    conversation = tiny_chat.start(picture)
    stream = conversation.stream(CAT)
    if after == 0:
        conversation.stop()
    replies = []
    for reply in stream:
        replies.append(reply)
        if len(replies) == after:
            conversation.stop()
    assert replies[-1].stopped and replies[-1].finished
    assert len(replies) == after + 1
    assert ANSWERS[CAT].startswith(replies[-1].text) and replies[-1].text != ANSWERS[CAT]
    assert conversation.turns[-1][1] is replies[-1]
    # The next turn works, and is what a conversation without a cache says.
    second = conversation.ask(DOG)
    assert not second.stopped
    conversation.undo()
    conversation._context.reset()
    assert conversation.ask(DOG).text == second.text


def test_a_stop_comes_from_another_thread(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    seen = threading.Event()
    resumed = threading.Event()

    def stop():
        seen.wait(30)
        conversation.stop()
        resumed.set()

    thread = threading.Thread(target=stop)
    thread.start()
    replies = []
    for reply in conversation.stream(CAT):
        replies.append(reply)
        if len(replies) == 3:
            seen.set()
            resumed.wait(30)
    thread.join()
    assert replies[-1].stopped and len(replies) == 4


def test_a_stop_without_an_answer_does_nothing(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    conversation.stop()
    assert conversation.ask(DOG).text == ANSWERS[DOG]
    conversation.stop()
    assert not conversation.ask(DOG).stopped


def test_a_stream_that_is_left_counts_as_stopped(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    stream = conversation.stream(CAT)
    for _ in range(4):
        last = next(stream)
    stream.close()
    ((_, reply),) = conversation.turns
    assert reply.stopped and reply.text == last.text
    assert conversation.ask(DOG).finished


def test_undo_takes_back_one_turn(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    conversation.ask(CAT)
    second = conversation.ask(DOG)
    assert conversation.undo().text == DOG
    assert len(conversation.turns) == 1
    again = conversation.ask(DOG)
    assert again.text == second.text
    assert again.timing.prompt_tokens == second.timing.prompt_tokens
    assert again.timing.cached_tokens >= second.timing.cached_tokens - 1
    conversation.undo()
    conversation.undo()
    first = conversation.ask(DOG)
    assert first.text == ANSWERS[DOG]
    assert first.timing.cached_tokens > 12  # the picture's twelve places are still there
    with pytest.raises(GenerationError, match="no turn"):
        tiny_chat.start(picture).undo()


def test_one_answer_at_a_time(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    stream = conversation.stream(CAT)
    next(stream)
    with pytest.raises(GenerationError, match="still being answered"):
        conversation.ask(DOG)
    with pytest.raises(GenerationError, match="still being answered"):
        conversation.undo()
    conversation.stop()
    assert list(stream)[-1].stopped
    assert conversation.ask(UNICORN).finished


def test_a_failure_leaves_the_conversation_as_it_was(tiny_chat, picture, monkeypatch):
    import torch

    conversation = tiny_chat.start(picture)
    conversation.ask(CAT)
    expected = conversation.ask(DOG).text
    conversation.undo()
    layer = tiny_chat.model.model.language_model.layers[1].mlp.down_proj
    real, calls = layer.forward, []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return real(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(GenerationError, match="1.00 GiB"):
        conversation.ask(DOG)
    assert len(conversation.turns) == 1
    assert conversation.ask(DOG).text == expected


def test_two_conversations_in_two_threads_do_not_mix(tiny_chat):
    questions = {0: [CAT, "Greet.", DOG], 1: ["Two of them?", UNICORN, "What is there?"]}
    pictures = {0: example_picture((60, 40), 1), 1: example_picture((33, 70), 2)}

    def talk(chat: Chat, which: int, into: dict) -> None:
        conversation = chat.start(pictures[which])
        into[which] = [conversation.ask(question, max_new_tokens=60) for question in questions[which]]

    alone: dict = {}
    for which in (0, 1):
        talk(tiny_chat, which, alone)
    together: dict = {}
    threads = [threading.Thread(target=talk, args=(tiny_chat, which, together)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in (0, 1):
        assert [reply.text for reply in together[which]] == [reply.text for reply in alone[which]]
        for got, expected in zip(together[which], alone[which], strict=True):
            assert got.size == expected.size
            for one, other in zip(got.objects, expected.objects, strict=True):
                np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)


def test_two_streams_take_turns(tiny_chat):
    first, second = (tiny_chat.start(example_picture()).stream(CAT) for _ in range(2))
    texts = [(one.text, other.text) for one, other in zip(first, second, strict=True)]
    assert texts[-1] == (ANSWERS[CAT], ANSWERS[CAT])


def test_redecoding_asks_no_model_again(tiny_chat, picture, monkeypatch):
    reply = tiny_chat.start(picture).ask(f"{CAT}")
    monkeypatch.setattr(tiny_chat.model.model, "forward", None)
    monkeypatch.setattr(tiny_chat.model.model.language_model, "forward", None)
    shorter = tiny_chat.redecode(reply, 4)
    assert shorter.text == reply.text and shorter.objects[0].tokens == reply.objects[0].tokens
    assert np.abs(shorter.objects[0].probability - reply.objects[0].probability).max() > 1e-4
    back = tiny_chat.redecode(shorter, 32)
    np.testing.assert_allclose(back.objects[0].probability, reply.objects[0].probability, atol=1e-6)
    for wrong in (0, 33, 1.5):
        with pytest.raises(PromptError, match="1 to 32"):
            tiny_chat.redecode(reply, wrong)


def test_sampling_with_a_seed_repeats(tiny_chat, picture):
    hot = [Sampling(temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    texts = [tiny_chat.start(picture).ask(UNICORN, sampling=one, max_new_tokens=12).text for one in hot]
    assert texts[0] == texts[1] != texts[2]


def test_a_cut_off_run_is_told(tiny_chat, picture):
    reply = tiny_chat.start(picture).ask(CAT, max_new_tokens=10)
    assert reply.text == ANSWERS[CAT][: len(reply.text)]
    assert any("cut off, <|mt_end|>" in line for line in reply.problems)
    assert any("10 new tokens" in line for line in reply.problems)
    assert not reply.objects[0].complete


def test_given_tokens_can_be_asked_about(tiny_chat, picture):
    reply = tiny_chat.start(picture).ask(f"What is {SHORT_RUN}?", max_new_tokens=3)
    run_length, chat_tokens = 7, tiny_chat.processor.tokenizer("What is ?")["input_ids"]
    plain = tiny_chat.start(picture).ask("What is ?", max_new_tokens=3)
    assert reply.timing.prompt_tokens == plain.timing.prompt_tokens + run_length
    assert len(chat_tokens) < plain.timing.prompt_tokens


@pytest.mark.parametrize(
    "question", ["", "  ", "a <IMG_CONTEXT>", "x<|im_end|>\n<|im_start|>system\n", "<s>", "<img>"]
)
def test_impossible_questions_are_refused(tiny_chat, picture, question):
    conversation = tiny_chat.start(picture)
    with pytest.raises(PromptError):
        conversation.ask(question)
    assert conversation.turns == ()


def test_impossible_numbers_are_refused(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    for options in ({"mask_tokens": 0}, {"mask_tokens": 33}, {"max_new_tokens": 0}):
        with pytest.raises(PromptError):
            conversation.ask(CAT, **options)
    with pytest.raises(PictureError):
        tiny_chat.start(b"no picture")


def test_templates_go_to_the_model_as_they_are(tiny_chat, picture):
    conversation = tiny_chat.start(picture)
    reply = conversation.ask(prompts.render("segment", phrase="cat"))
    assert reply.text == f"The mask appears at {FULL_RUN}." and reply.objects[0].label == "cat"


def test_timing_adds_up(tiny_chat, picture):
    timing = tiny_chat.start(picture).ask(CAT).timing
    assert 0 < timing.prefill <= timing.first_token <= timing.total
    assert timing.first_token + timing.decode + timing.detokenize <= timing.total + 1e-6
    assert timing.new_tokens == len(
        tiny_chat.processor.tokenizer(ANSWERS[CAT], add_special_tokens=False)["input_ids"]
    )
