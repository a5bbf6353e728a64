"""Memory that runs out, wherever it does: one readable error, and the next question is answered."""

import pytest
import torch

import himtok_core
from himtok_core.errors import GenerationError
from himtok_core.lmm import HimtokForConditionalGeneration
from tests.conftest import ANSWERS, example_picture

CAT, DOG = "Segment <ref>cat</ref>.", "Segment <ref>dog</ref>."
FULL = "CUDA out of memory. Tried to allocate 1.25 GiB. GPU 0 has a total capacity of 79.10 GiB"


def fail_at(call: int):
    """A function that goes in the place of a module's forward or a method and fails once."""

    def replace(original):
        calls = 0

        def instead(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                raise torch.OutOfMemoryError(FULL)
            return original(*args, **kwargs)

        return instead

    return replace


PLACES = {
    "looking at the picture": (lambda model: model.model.vision_tower, "forward", 1),
    "reading the question": (lambda model: model.model.language_model.layers[1], "forward", 1),
    "reading a token": (lambda model: model.model.language_model.layers[1].mlp.down_proj, "forward", 9),
    "choosing a token": (lambda model: model.lm_head, "forward", 4),
    "drawing": (lambda model: model.mask_tokenizer, "draw", 2),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_next_question_is_answered(tiny_chat, monkeypatch, place):
    find, name, call = PLACES[place]
    part, conversation = find(tiny_chat.model), tiny_chat.start(example_picture())
    monkeypatch.setattr(part, name, fail_at(call)(getattr(part, name)))
    with pytest.raises(GenerationError, match=r"1\.25 GiB more.*--max-tiles.*--quantization.*--device-map"):
        conversation.ask(CAT)
    assert conversation.turns == ()
    assert conversation.ask(CAT).text == ANSWERS[CAT]


def test_earlier_turns_are_kept(tiny_chat, monkeypatch):
    plain, conversation = (tiny_chat.start(example_picture()) for _ in range(2))
    expected = [plain.ask(CAT).text, plain.ask(DOG).text]
    assert conversation.ask(CAT).text == expected[0]
    layer = tiny_chat.model.model.language_model.layers[0].mlp.down_proj
    monkeypatch.setattr(layer, "forward", fail_at(5)(layer.forward))
    with pytest.raises(GenerationError, match=r"1\.25 GiB"):
        conversation.ask(DOG)
    assert len(conversation.turns) == 1
    assert conversation.ask(DOG).text == expected[1]


def test_loading_says_it_too(tiny_folder, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError(FULL)

    with monkeypatch.context() as patch:
        patch.setattr(HimtokForConditionalGeneration, "from_pretrained", full)
        with pytest.raises(GenerationError, match=r"loading tiny: 1\.25 GiB.*--quantization"):
            himtok_core.load(tiny_folder, device="cpu")
    assert himtok_core.load(tiny_folder, device="cpu").start(example_picture()).ask(CAT).finished
