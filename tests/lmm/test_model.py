"""Our own format: building a model of any size, saving it, and loading it with the Auto classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from himtok_core.errors import PictureError
from himtok_core.lmm import (
    HimtokConfig,
    HimtokForConditionalGeneration,
    HimtokImageProcessor,
    HimtokProcessor,
)
from himtok_core.lmm.released_tokenizer import load_tokenizer
from himtok_core.mask_tokenizer import MaskTokenizer

TINY = Path(__file__).parents[1] / "data" / "parity" / "released_tiny"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
QUESTION = [
    {
        "role": "user",
        "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "Segment <ref>cat</ref>."}],
    }
]
SIZES = {
    "text_config": {
        "vocab_size": 1639,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    },
    "mask_tokenizer_config": {
        "mask_size": 16,
        "patch_size": 4,
        "encoder_width": 32,
        "encoder_layers": 1,
        "encoder_heads": 2,
        "decoder_width": 32,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "ffn_hidden_channels": 16,
        "ffn_out_channels": 8,
        "pixel_hidden_channels": 4,
        "pixel_channel_mult": (1, 1, 2),
        "pixel_num_res_blocks": 1,
        "group_norm_groups": 2,
    },
    "downsample_ratio": 1.0,
    "image_token_id": 606,
    "mask_start_id": 613,
    "mask_end_id": 614,
    "first_mask_id": 615,
}


def build(**changes: object) -> tuple[HimtokForConditionalGeneration, HimtokProcessor]:
    config = HimtokConfig(**SIZES | changes)
    torch.manual_seed(0)
    processor = HimtokProcessor(
        tokenizer=load_tokenizer(TINY),
        image_size=32,
        max_tiles=3,
        num_image_tokens=config.image_seq_length,
        system_message="Find things.",
    )
    return HimtokForConditionalGeneration(config).eval(), processor


def encode(
    processor: HimtokProcessor, conversation: list[dict], **options: object
) -> dict[str, torch.Tensor]:
    return processor.apply_chat_template(
        conversation,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs=options,
    )


@pytest.mark.parametrize("ratio, tokens", [(1.0, 16), (0.5, 4), (0.25, 1)])
def test_every_tile_takes_its_places(ratio: float, tokens: int) -> None:
    model, processor = build(downsample_ratio=ratio)
    encoded = encode(processor, QUESTION)
    tiles = len(encoded["pixel_values"])
    assert tiles == 3  # 90 x 50 is seen as two tiles and a thumbnail
    assert (encoded["input_ids"] == model.config.image_token_id).sum() == tiles * tokens
    with torch.no_grad():
        features = model.get_image_features(pixel_values=encoded["pixel_values"]).pooler_output
        logits = model(**encoded).logits
    assert features.shape == (tiles, tokens, 48)
    assert logits.shape == (1, encoded["input_ids"].shape[1], 1639)


def test_the_answer_depends_on_the_picture() -> None:
    model, processor = build()
    encoded = encode(processor, QUESTION)
    with torch.no_grad():
        before = model(**encoded).logits[0, -1]
        encoded["pixel_values"] = encoded["pixel_values"].flip(-1)
        after = model(**encoded).logits[0, -1]
    assert not torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_loaded_with_the_auto_classes(tmp_path: Path, tied: bool) -> None:
    text = SIZES["text_config"] | {"tie_word_embeddings": tied}
    model, processor = build(text_config=text, tie_word_embeddings=tied)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1

    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(again) is HimtokForConditionalGeneration
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is HimtokConfig and config.special_ids == model.config.special_ids
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    other = AutoProcessor.from_pretrained(tmp_path)
    assert type(other) is HimtokProcessor and type(other.image_processor) is HimtokImageProcessor
    assert (other.system_message, other.num_image_tokens) == ("Find things.", 16)
    for name, tensor in encode(processor, QUESTION).items():
        assert torch.equal(encode(other, QUESTION)[name], tensor), name


def test_the_mask_tokenizer_can_be_saved_on_its_own(tmp_path: Path) -> None:
    model, _ = build()
    model.mask_tokenizer.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is MaskTokenizer
    tokens = torch.arange(32)[None]
    assert torch.equal(again.decode(tokens), model.mask_tokenizer.decode(tokens))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"downsample_ratio": 0.4}, "downsample_ratio 0.4 does not fit 4 patches"),
        ({"first_mask_id": 616}, "special ids 606 to 1639 do not fit a vocabulary of 1639"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True here and False"),
        ({"vision_config": SIZES["vision_config"] | {"patch_size": 7}}, "do not divide into a square"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HimtokConfig(**SIZES | changes)


def test_chat_template() -> None:
    _, processor = build()
    conversation = [
        *QUESTION,
        {"role": "assistant", "content": "Here: <|mt_start|><|mt_7|><|mt_end|>."},
        {"role": "user", "content": "And its box?"},
    ]
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nFind things.<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>\nSegment <ref>cat</ref>.<|im_end|>\n"
        "<|im_start|>assistant\nHere: <|mt_start|><|mt_7|><|mt_end|>.<|im_end|>\n"
        "<|im_start|>user\nAnd its box?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    spoken = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert processor.apply_chat_template(spoken) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )


def test_pictures_of_a_batch_and_fewer_tiles() -> None:
    _, processor = build()
    assert len(encode(processor, QUESTION, max_tiles=1)["pixel_values"]) == 1
    small = processor.image_processor([PICTURE, [PICTURE.resize((32, 32))]])
    assert small["num_tiles"] == [3, 1]
    assert small["pixel_values"].shape == (4, 3, 32, 32)
    assert small["pixel_values"].dtype == torch.float32


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    _, processor = build()
    (tmp_path / "note.png").write_text("hello")
    with pytest.raises(PictureError):
        processor.image_processor(tmp_path / "note.png")


def test_a_text_without_its_picture_is_refused() -> None:
    _, processor = build()
    with pytest.raises(ValueError, match="no images were passed"):
        processor(text="<IMG_CONTEXT>\nWhat is this?")
