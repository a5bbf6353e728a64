"""What several test files share: a tiny model that has learned a handful of answers by heart.

It is the real thing at a toy size (vision tower, language model with attention, mask tokenizer, processor),
so that streaming, caches and mask runs are tested on it as they run. Its masks mean nothing.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from himtok_core.chat import Chat
from himtok_core.lmm import HimtokConfig, HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.markup import mask_run
from himtok_core.mask_tokenizer import MaskTokenizerConfig

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
SPECIAL += ["<ref>", "</ref>", "<box>", "</box>", "<|mt_start|>", "<|mt_end|>"]
SPECIAL += [f"<|mt_{index}|>" for index in range(1024)]

_draw = random.Random(7)
FULL_RUN = mask_run([_draw.randrange(1024) for _ in range(32)])
SHORT_RUN = mask_run([5, 900, 17, 333, 64])
OTHER_RUN = mask_run([_draw.randrange(1024) for _ in range(32)])

ANSWERS = {
    "Segment <ref>cat</ref>.": f"The mask appears at {FULL_RUN}.",
    "Segment <ref>dog</ref>.": f"The mask appears at {SHORT_RUN}.",
    "Segment <ref>unicorn</ref>.": "There is none in this picture.",
    "Mask, then box of <ref>cat</ref>.": f"Mask {FULL_RUN} and box <box>[[100, 200, 500, 600]]</box>.",
    "What is there?": (
        f"<ref>a cat</ref> {FULL_RUN} and <ref>a dog</ref> {OTHER_RUN}<box>[[10,20,990,980]]</box>"
    ),
    "Two of them?": f"{SHORT_RUN}, {OTHER_RUN} and <box>[[0, 0, 10, 10], [20, 30, 40, 50]]</box>",
    "Greet.": "你好, naïve 🙂 world ends here",
    "Nothing?": "",
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the special tokens of the released model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(
        ["The mask appears at", "and the box", "There is none in this picture"], trainer
    )
    tokenizer.add_special_tokens(SPECIAL)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="</s>",
        padding_side="left",
    )


def tiny_parts(seed: int = 0) -> tuple[HimtokForConditionalGeneration, HimtokProcessor]:
    """A model with random weights and its processor: 4 places a tile of 32 pixels, masks of 32 pixels."""
    tokenizer = byte_tokenizer()
    to_id = tokenizer.convert_tokens_to_ids
    config = HimtokConfig(
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "tie_word_embeddings": False,
            "bos_token_id": to_id("<s>"), "eos_token_id": to_id("<|im_end|>"), "pad_token_id": to_id("</s>"),
        },
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
            "image_size": 32, "patch_size": 16,
        },
        mask_tokenizer_config=MaskTokenizerConfig(
            mask_size=32, patch_size=4, encoder_width=32, encoder_layers=1, encoder_heads=2, decoder_width=32,
            decoder_layers=1, decoder_heads=2, ffn_hidden_channels=32, ffn_out_channels=16,
            pixel_hidden_channels=8, pixel_channel_mult=(1, 1, 2), pixel_num_res_blocks=1,
            pixel_out_channels=1, group_norm_groups=4,
        ).to_dict(),
        downsample_ratio=1.0,
        image_token_id=to_id("<IMG_CONTEXT>"),
        mask_start_id=to_id("<|mt_start|>"),
        mask_end_id=to_id("<|mt_end|>"),
        first_mask_id=to_id("<|mt_0|>"),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = HimtokForConditionalGeneration(config).eval()
    with torch.no_grad():  # masks that depend on their tokens and cover about half of the picture
        masks = model.mask_tokenizer
        masks.decoder.decoder_embed.weight.mul_(20)
        masks.pixel_decoder.conv_out.weight.mul_(4)
        drawn = masks.draw_logits(masks.quantize.lookup(torch.arange(32)[None]))
        masks.pixel_decoder.conv_out.bias.sub_(drawn.median() / 5)
    processor = HimtokProcessor(
        tokenizer=tokenizer, num_image_tokens=config.image_seq_length, system_message="Be brief.",
        image_size=32, max_tiles=2,
    )  # fmt: skip
    return model, processor


def learn_answers(model: HimtokForConditionalGeneration, processor: HimtokProcessor) -> None:
    """Trains the language model until it gives every one of ANSWERS, for `example_picture()`."""
    rows = []
    for question, answer in ANSWERS.items():
        content = [{"type": "image"}, {"type": "text", "text": question}]
        asked = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(images=[example_picture()], text=asked, return_tensors="pt")
        said = processor.tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
        rows.append((inputs["input_ids"][0].tolist(), said))
    length = max(len(asked) + len(said) for asked, said in rows)
    ids = torch.full((len(rows), length), processor.tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for row, (asked, said) in enumerate(rows):
        ids[row, : len(asked) + len(said)] = torch.tensor(asked + said)
        labels[row, len(asked) : len(asked) + len(said)] = torch.tensor(said)
    pixel_values = inputs["pixel_values"].repeat(len(rows), 1, 1, 1)
    scored = labels[:, 1:] != -100
    model.requires_grad_(False)
    weights = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=7e-3, weight_decay=0.0)
    for _ in range(400):
        hidden = model.model(input_ids=ids, pixel_values=pixel_values).last_hidden_state
        losses = torch.nn.functional.cross_entropy(
            model.lm_head(hidden[:, :-1][scored]), labels[:, 1:][scored], reduction="none"
        )
        if losses.max() < 0.1:
            return
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    raise AssertionError(
        f"the tiny model did not learn its answers, the worst token's loss is {losses.max():.2f}"
    )


def example_picture(size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    """Coloured noise, RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def tiny_chat() -> Chat:
    """A chat with the tiny model that knows ANSWERS."""
    model, processor = tiny_parts()
    learn_answers(model, processor)
    return Chat(model, processor, name="tiny")


@pytest.fixture(scope="session")
def tiny_folder(tiny_chat, tmp_path_factory) -> Path:
    """The tiny model as a folder in our format, in half precision, with a list of names."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_chat.model.save_pretrained(folder)
    tiny_chat.processor.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    halves = {name: weight.half() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "concepts.json").write_text(json.dumps([{"name": "cat"}, {"name": "dog", "code": "1f415"}]))
    return folder


@pytest.fixture
def picture() -> Image.Image:
    """A picture of 60 x 40 pixels, which the tiny model sees in three tiles."""
    return example_picture()
