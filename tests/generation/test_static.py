"""The step over buffers of fixed size against the language model's own forward pass."""

import threading

import pytest
import torch
from accelerate import cpu_offload
from transformers import BitsAndBytesConfig, DynamicCache, LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model

from himtok_core.chat import Chat
from himtok_core.generation import static
from himtok_core.generation.local import Context, Generation, LocalModel
from himtok_core.generation.static import StaticStep
from himtok_core.generation.turns import first_turn_ids, next_turn_ids
from himtok_core.lmm import load_released
from himtok_core.lmm.modeling import NOT_QUANTIZED
from tests.conftest import example_picture, tiny_parts
from tests.generation.test_loading import RELEASED

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(autouse=True)
def short_buffers(monkeypatch):
    """Buffers so short that they grow several times in a test."""
    monkeypatch.setattr(static, "SHORTEST", 8)


@pytest.fixture(params=["llama", "qwen2", "dynamic rope"])
def language_model(request) -> LlamaModel | Qwen2Model:
    torch.manual_seed(0)
    if request.param == "qwen2":
        model = Qwen2Model(Qwen2Config(**SIZES))
        for layer in model.layers:  # as they are after training: not zero
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                torch.nn.init.normal_(projection.bias)
    else:
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}
        model = LlamaModel(LlamaConfig(**SIZES, rope_parameters=rope if request.param != "llama" else None))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model.eval().requires_grad_(False)


def read(model: LlamaModel, cache: DynamicCache, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), past_key_values=cache).last_hidden_state[0, -1]


def assert_same_cache(actual: DynamicCache, expected: DynamicCache) -> None:
    for ours, theirs in zip(actual.layers, expected.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=1e-5)


def test_steps_are_what_the_model_computes(language_model):
    """Three turns, each longer than the buffers at its beginning, with a part forgotten in between."""
    step, ours, theirs = StaticStep(language_model), DynamicCache(), DynamicCache()
    assert step.suits(language_model)
    draw = torch.Generator().manual_seed(1)
    for turn in range(3):
        prompt, answer = (torch.randint(97, (n,), generator=draw).tolist() for n in (5, 12))
        read(language_model, ours, prompt), read(language_model, theirs, prompt)
        step.take(ours)
        for token in answer:
            expected = read(language_model, theirs, [token])
            torch.testing.assert_close(step(token), expected, rtol=0, atol=1e-5)
        step.put_back()
        assert_same_cache(ours, theirs)
        if turn < 2:
            ours.crop(-4), theirs.crop(-4)


def test_conversations_take_turns_in_the_buffers(language_model):
    step, draw = StaticStep(language_model), torch.Generator().manual_seed(2)
    caches = [(DynamicCache(), DynamicCache()) for _ in range(2)]
    for length, (ours, theirs) in zip((3, 11), caches):
        prompt = torch.randint(97, (length,), generator=draw).tolist()
        read(language_model, ours, prompt), read(language_model, theirs, prompt)
    for token in torch.randint(97, (10,), generator=draw).tolist():
        for ours, theirs in caches:
            step.take(ours)
            torch.testing.assert_close(step(token), read(language_model, theirs, [token]), rtol=0, atol=1e-5)
    step.put_back()
    for ours, theirs in caches:
        assert_same_cache(ours, theirs)


def test_memory_that_runs_out_while_putting_back_loses_nothing(language_model, monkeypatch):
    step, ours, theirs = StaticStep(language_model), DynamicCache(), DynamicCache()
    read(language_model, ours, [1, 2, 3]), read(language_model, theirs, [1, 2, 3, 4])
    step.take(ours)
    step(4)
    update = ours.update

    def full(keys, values, index):
        if index == 1:
            raise torch.OutOfMemoryError
        return update(keys, values, index)

    monkeypatch.setattr(ours, "update", full)
    with pytest.raises(torch.OutOfMemoryError):
        step.put_back()
    monkeypatch.undo()
    step.put_back()
    assert_same_cache(ours, theirs)


def test_what_it_does_not_suit(language_model):
    assert not StaticStep.suits(cpu_offload(language_model))
    quantization = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=NOT_QUANTIZED)
    quantized = load_released(RELEASED, torch.float32, {"": "cpu"}, quantization)[0]
    assert not StaticStep.suits(quantized.model.language_model)
    window = Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    assert not StaticStep.suits(Qwen2Model(window))
    assert StaticStep.suits(load_released(RELEASED, torch.float32, {"": "cpu"})[0].model.language_model)


@pytest.fixture(scope="module")
def loud() -> LocalModel:
    """Random weights, loud enough that it does not always say the same."""
    model, processor = tiny_parts(seed=3)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
        model.get_input_embeddings().weight.mul_(20)
    return LocalModel(model, processor)


def converse(local: LocalModel) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Three turns, the second one undone and asked again: the ids, and the scores behind each turn."""
    seen = local.processor.image_processor(example_picture())
    features, context = local.look(seen["pixel_values"]), Context()
    ids = first_turn_ids(local.processor, "Segment <ref>cat</ref>.", seen["num_tiles"][0])
    answers, scores = [], []
    for question in (None, "And the dog?", "And the cow?"):
        if question:
            ids = ids + next_turn_ids(local.processor, question)
        before = len(context.ids)
        generation = Generation(local, context, ids, features, 4, None, 25, threading.Event())
        first = list(generation)
        assert generation.cached >= before - 1  # nothing is read twice
        assert context.cache.get_seq_length() == len(context.ids)
        context.crop(len(ids) - 3)
        again = list(Generation(local, context, ids, features, 4, None, 25, threading.Event()))
        assert again == first
        ids = ids + again
        answers.append(again)
        scores.append(local.text_logits(local.read(context, ids, features)[0]))
    return answers, scores


def test_a_conversation_is_the_same_without_it(loud, monkeypatch):
    answers, scores = converse(loud)
    assert loud._static.length == 0 and loud._static._keys  # it was in use, and gave everything back
    monkeypatch.setattr(loud, "_static", None)
    plain_answers, plain_scores = converse(loud)
    assert answers == plain_answers
    torch.testing.assert_close(scores, plain_scores, rtol=1e-5, atol=1e-4)  # scores of up to 100


def test_beyond_the_trained_length_the_model_reads_itself():
    """Dynamic rope scaling turns the angles with the length there, so they cannot be prepared."""
    model, processor = tiny_parts(seed=3)
    config = model.model.language_model.config
    config.max_position_embeddings = 40
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model.model.language_model = LlamaModel(config).eval()
    local, context, plain = LocalModel(model, processor), Context(), DynamicCache()
    features = torch.zeros(0, config.hidden_size)
    local.read(context, list(range(20, 55)), features)
    with torch.no_grad():
        read(model.model.language_model, plain, list(range(20, 55)))
        for token in range(55, 65):
            expected = read(model.model.language_model, plain, [token])
            torch.testing.assert_close(local.step(context, [token]), expected, rtol=0, atol=1e-5)
    local.settle(context)
    assert_same_cache(context.cache, plain)


def test_weights_that_move_are_found_again():
    model, processor = tiny_parts(seed=3)
    chat = Chat(model, processor)
    conversation = chat.start(example_picture())
    first = conversation.ask("Segment <ref>cat</ref>.", max_new_tokens=8)
    model.double().float()  # new addresses; the old ones may hold anything
    assert conversation.undo().text == "Segment <ref>cat</ref>."
    assert conversation.ask("Segment <ref>cat</ref>.", max_new_tokens=8).text == first.text


def test_an_answer_survives_that_it_cannot_be_kept(loud, monkeypatch):
    """Memory runs out after the last token: the reply is there, and the next question reads all again."""
    seen = loud.processor.image_processor(example_picture())
    ids = first_turn_ids(loud.processor, "Segment <ref>cat</ref>.", seen["num_tiles"][0])
    features, context = loud.look(seen["pixel_values"]), Context()

    def ask() -> list[int]:
        return list(Generation(loud, context, ids, features, None, None, 6, threading.Event()))

    def full() -> None:
        if loud._static.taken is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(static, "SHORTEST", 256)  # not to grow, which puts back as well
    monkeypatch.setattr(loud._static, "put_back", full)
    first = ask()
    monkeypatch.undo()
    assert len(first) == 6 and context.ids == []
    assert ask() == first
