"""What stage 2 begins with: an InternVL2.5 that knows no masks, and a mask tokenizer, joined to one model.

The language model gets the tokens of masks, as yet without a meaning. Everything else stays as it is.
"""

import argparse
import json
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..generation.loading import find_checkpoint
from ..lmm.modeling import HimtokForConditionalGeneration
from ..lmm.processing import MASK_END, MASK_START
from ..lmm.released_format import (
    MAX_SHARD_SIZE,
    ReleasedCheckpoint,
    finish,
    is_released_format,
    language_model,
    read_config,
    translate_config,
)
from ..lmm.released_tokenizer import load_tokenizer
from ..lmm.released_weights import expected_shapes, stored_shapes
from ..mask_tokenizer import MaskTokenizer
from ..mask_tokenizer.released import PREFIX, check_shapes, naming

# In the reference's order; an InternVL2.5 has those of pictures, phrases and boxes already.
TOKENS = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"]
TOKENS += [MASK_START, MASK_END]


def join(source: str, mask_tokenizer: str, target: Path) -> HimtokForConditionalGeneration:
    """Write an InternVL2.5 with a mask tokenizer and its tokens to `target`, in our own format.

    As in the reference implementation, the output head's rows of new tokens are the mean of the old rows;
    their embeddings are random.

    Args:
        source: folder or hub id of a checkpoint of InternVLChat, such as OpenGVLab/InternVL2_5-8B.
        mask_tokenizer: folder of a trained mask tokenizer, or the paper's himtok.pth.

    Raises:
        CheckpointError: if one of them cannot be read, or the model has mask tokens already.
    """
    folder = find_checkpoint(source)
    if not is_released_format(folder):
        raise CheckpointError(f"{folder} is no checkpoint of InternVLChat (model_type internvl_chat)")
    masks = MaskTokenizer.from_pretrained(mask_tokenizer)
    tokenizer, raw = load_tokenizer(folder), read_config(folder)
    if MASK_START in tokenizer.get_vocab():
        raise CheckpointError(f"{folder} has mask tokens already: it can be trained as it is")
    tokenizer.add_tokens(
        [*TOKENS, *(f"<|mt_{k}|>" for k in range(masks.config.codebook_size))], special_tokens=True
    )
    with naming(folder / "config.json"):
        before = raw["llm_config"]["vocab_size"]
        size = max(before, len(tokenizer))
        llm = {**raw["llm_config"], "vocab_size": size}
        config = translate_config({**raw, "llm_config": llm}, masks.config, tokenizer)
    config.text_config.vocab_size = before  # as the weights have it, until they are loaded
    internlm2 = language_model(raw) == "InternLM2ForCausalLM"
    expected = expected_shapes(config, internlm2)
    expected = {name: shape for name, shape in expected.items() if not name.startswith(PREFIX)}
    check_shapes(stored_shapes(folder), expected)
    model = ReleasedCheckpoint.from_pretrained(folder, config=config, dtype="auto")
    model.__class__ = HimtokForConditionalGeneration
    model._weight_conversions = []  # it is saved in our own format
    model.mask_tokenizer = masks.to(model.dtype)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.resize_token_embeddings(size, mean_resizing=False)
        first = tokenizer.convert_tokens_to_ids(MASK_START)  # the first that is new
        model.lm_head.weight[first:] = model.lm_head.weight[:first].float().mean(0).to(model.dtype)
    processor = finish(model, raw, tokenizer)
    model.save_pretrained(target, max_shard_size=MAX_SHARD_SIZE)
    processor.save_pretrained(target)
    return model


def main(argv: list[str]) -> int:
    """`python -m himtok_core train start`: one JSON line with the size of what was written."""
    parser = argparse.ArgumentParser(prog="himtok_core train start", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or hub id, such as OpenGVLab/InternVL2_5-8B")
    parser.add_argument("--mask-tokenizer", required=True, help="folder of a mask tokenizer, or himtok.pth")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(argv)
    model = join(options.model, options.mask_tokenizer, options.out)
    row = {"folder": str(options.out), "vocabulary": model.config.text_config.vocab_size}
    print(json.dumps(row | {"first_mask_id": model.config.first_mask_id}))
    return 0
