"""Whole conversations with the tiny released checkpoint, against the reference implementation's answers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from himtok_core import markup
from himtok_core.chat import Chat, load
from himtok_core.generation.turns import first_turn_ids, next_turn_ids

PARITY = Path(__file__).parents[1] / "data" / "parity"
FACTS = json.loads((PARITY / "lmm.json").read_text(encoding="utf-8"))
SHORT_RUN, NO_RUN = 2, 3  # cases in which the model gives a run of five tokens, and none


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(PARITY / "lmm.safetensors")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load(PARITY / "released_tiny", device="cpu")


@pytest.mark.parametrize("case", range(5))
def test_greedy_answers_and_their_masks(chat, golden, case):
    asked = FACTS["e2e"][case]
    chat.processor.image_processor.max_tiles = asked["max_num"]
    conversation = chat.start(PARITY / asked["image"])
    reply = conversation.ask(asked["question"], max_new_tokens=100)

    expected = golden["e2e/full/sequences"][case].tolist()
    expected = expected[: expected.index(chat.processor.tokenizer.convert_tokens_to_ids("<|im_end|>"))]
    assert conversation._ids[-len(expected) :] == expected
    assert reply.timing.new_tokens == len(expected)
    # Nothing is put around special tokens: the text is what its own ids say.
    assert chat.processor.tokenizer(reply.text, add_special_tokens=False)["input_ids"] == expected
    assert reply.problems == ()

    if case == NO_RUN:
        assert reply.objects == ()
        return
    (item,) = reply.objects
    assert len(item.tokens) == (5 if case == SHORT_RUN else 32)
    if case != SHORT_RUN:  # the reference draws a short run from whatever follows it
        expected_mask = golden["e2e/full/masks"][case]
        torch.testing.assert_close(torch.from_numpy(item.probability), expected_mask, rtol=0, atol=5e-4)
    if case == 4:
        width, height = reply.size
        assert item.box == pytest.approx((0.120 * width, 0.045 * height, 0.667 * width, 0.980 * height))


def test_the_ids_of_a_second_turn(chat, golden):
    prompt = FACTS["prompts"]["two_turn_mask_history"]
    ((question, answer),) = prompt["history"]
    ids = first_turn_ids(chat.processor, question.removeprefix("<image>\n"), prompt["num_tiles"])
    ids += chat.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
    ids += next_turn_ids(chat.processor, prompt["question"])
    assert ids == golden["prompt/two_turn_mask_history/input_ids"][0].tolist()


def test_a_second_turn_from_the_cache(chat, golden):
    prompt = FACTS["prompts"]["two_turn_mask_history"]
    ((question, answer),) = prompt["history"]
    chat.processor.image_processor.max_tiles = prompt["max_num"]
    conversation = chat.start(PARITY / prompt["image"])
    assert conversation.ask(question.removeprefix("<image>\n")).text == answer
    reply = conversation.ask(prompt["question"])
    assert reply.timing.prompt_tokens == len(golden["prompt/two_turn_mask_history/input_ids"][0])
    expected = golden["generate/two_turn_mask_history/ids_64"].tolist()
    assert [*conversation._ids[-reply.timing.new_tokens :], expected[-1]] == expected


def test_a_wanted_length_cuts_the_same_run(chat, golden):
    asked = FACTS["e2e"][0]
    chat.processor.image_processor.max_tiles = asked["max_num"]
    conversation = chat.start(PARITY / asked["image"])
    whole = conversation.ask(asked["question"])
    conversation.undo()
    short = conversation.ask(asked["question"], mask_tokens=8)
    assert short.objects[0].tokens == whole.objects[0].tokens[:8]
    assert markup.mask_run(short.objects[0].tokens) in short.text
    cut = chat.redecode(whole, 8).objects[0]
    torch.testing.assert_close(
        torch.from_numpy(short.objects[0].probability), torch.from_numpy(cut.probability), rtol=0, atol=1e-4
    )
