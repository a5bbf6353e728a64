"""himtok-mini before it is trained: its vocabulary, its sizes and the rows that share what they know."""

import copy

import pytest
import torch

from himtok_core.data.scenes import World
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.markup import format_boxes, mask_run
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training import scene_lmm
from himtok_core.training.dense import DenseHeads
from himtok_core.training.mini import TAGS, build_config, build_model, row_features, share_rows
from himtok_core.training.vision import name_token_ids, vocabulary_texts

from .conftest import small_mask_config


@pytest.fixture(scope="module")
def model(processor: HimtokProcessor) -> HimtokForConditionalGeneration:
    torch.manual_seed(0)
    return build_model(build_config(processor, small_mask_config())).eval()


def test_numbers_tags_and_mask_tokens_are_one_token_each(processor: HimtokProcessor) -> None:
    ids = processor.tokenizer.get_vocab()
    for number in range(1001):
        assert len(processor.tokenizer(str(number), add_special_tokens=False)["input_ids"]) == 1
    assert all(tag in ids for tag in TAGS)
    masks = [ids[f"<|mt_{k}|>"] for k in range(1024)]
    assert masks == list(range(masks[0], masks[0] + 1024))


def test_boxes_and_runs_are_short(processor: HimtokProcessor) -> None:
    box = format_boxes([(12, 345, 678, 1000)])
    assert len(processor.tokenizer(box, add_special_tokens=False)["input_ids"]) == 2 + 9
    run = mask_run(range(32))
    assert len(processor.tokenizer(run, add_special_tokens=False)["input_ids"]) == 34


def test_every_text_comes_back(processor: HimtokProcessor, world: World) -> None:
    texts = vocabulary_texts(world, scenes=4)[:200]
    for text in [*texts, "naïve 🙂 你好\n\ttab", "  two  spaces [[1, 2]]"]:
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert processor.tokenizer.decode(ids) == text


def test_names_have_tokens_of_their_own(processor: HimtokProcessor, world: World) -> None:
    ids = name_token_ids(processor, world)
    assert len({tuple(tokens) for tokens in ids}) == len(ids)
    assert all(1 <= len(tokens) <= 4 for tokens in ids)


def test_the_model_reads_what_the_processor_writes(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor
) -> None:
    config, vocabulary = model.config, processor.tokenizer.get_vocab()
    assert config.image_token_id == vocabulary["<IMG_CONTEXT>"]
    assert (config.mask_start_id, config.mask_end_id) == (
        vocabulary["<|mt_start|>"],
        vocabulary["<|mt_end|>"],
    )
    assert (config.first_mask_id, config.last_mask_id) == (vocabulary["<|mt_0|>"], vocabulary["<|mt_1023|>"])
    assert config.image_seq_length == processor.num_image_tokens == 64
    assert model.lm_head.weight.shape[0] == len(processor.tokenizer)


def test_features_tell_what_tokens_stand_for(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor
) -> None:
    codebook = model.mask_tokenizer.quantize.codebook().detach()
    features = row_features(processor, model.config, codebook)
    first = model.config.first_mask_id
    assert torch.equal(features[first : first + 1024, :12], codebook)
    assert not features[processor.tokenizer(" the", add_special_tokens=False)["input_ids"][0]].any()
    numbers = features[[processor.tokenizer.convert_tokens_to_ids(str(n)) for n in (500, 501, 900)]]
    assert torch.dist(numbers[0], numbers[1]) < torch.dist(numbers[0], numbers[2])
    assert not torch.equal(numbers[0], numbers[1])


def test_shared_rows_move_together(model: HimtokForConditionalGeneration, processor: HimtokProcessor) -> None:
    """Numbers keep what they have learned, mask tokens begin anew, words have nothing to do with it."""
    model = copy.deepcopy(model)
    features = row_features(processor, model.config, model.mask_tokenizer.quantize.codebook().detach())
    first = model.config.first_mask_id
    fresh = torch.zeros(len(features), dtype=torch.bool)
    fresh[first : first + 1024] = True
    word = processor.tokenizer(" the", add_special_tokens=False)["input_ids"][0]
    number = processor.tokenizer.convert_tokens_to_ids("500")
    for module in (model.model.language_model.embed_tokens, model.lm_head):
        assert module.weight.std() > 0.01
    plain = model.lm_head.weight.detach().clone()
    share_rows(model, features, fresh)
    matrix = model.lm_head.parametrizations.weight[0].matrix
    shared = model.lm_head.weight.detach().clone()
    torch.testing.assert_close(shared[~fresh], plain[~fresh], rtol=0, atol=1e-5)
    torch.testing.assert_close(shared[fresh], (features @ matrix).detach()[fresh])
    with torch.no_grad():
        matrix += 1
    moved = (model.lm_head.weight - shared).detach().abs().amax(1)
    assert moved[word] == 0 and moved[number] > 0.1 and moved[first] > 0.1


def test_saved_tables_are_plain_and_say_the_same(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor, mask_tokenizer: MaskTokenizer, tmp_path
) -> None:
    model = copy.deepcopy(model)
    features = row_features(processor, model.config, mask_tokenizer.quantize.codebook().detach())
    share_rows(model, features, torch.ones(len(features), dtype=torch.bool))
    scene_lmm.save(model, DenseHeads(8, [[0]], 4), tmp_path)
    plain = HimtokForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert not [name for name in plain.state_dict() if "parametrizations" in name]
    ids = torch.tensor([processor.tokenizer("Segment <ref>cat</ref>.")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, model(input_ids=ids).logits)
    assert plain.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert (tmp_path / "heads.pt").exists()
