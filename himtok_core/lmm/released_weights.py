"""Names and layouts of the released format's tensors against ours.

Knows how every tensor is called and cut on both sides, and finds what a checkpoint lacks or has too much.
Reading the values is transformers' work.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedConfig
from transformers.core_model_loading import (
    Chunk,
    ConversionOps,
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    revert_weight_conversion,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from ..errors import CheckpointError
from ..mask_tokenizer.released import Shapes
from .configuration import HimtokConfig
from .modeling import HimtokForConditionalGeneration

# A renaming is a regular expression and its replacement; each sees what those before it have left.
EMBEDDINGS = "model.vision_tower.embeddings."
VISION_LAYER = r"^(model\.vision_tower\.encoder\.layer\.\d+)"
COMMON = {
    r"^mask_decoder\.": "mask_tokenizer.",
    r"^mlp1\.0\.": "model.multi_modal_projector.layer_norm.",
    r"^mlp1\.1\.": "model.multi_modal_projector.linear_1.",
    r"^mlp1\.3\.": "model.multi_modal_projector.linear_2.",
    r"^vision_model\.embeddings\.class_embedding": EMBEDDINGS + "cls_token",
    r"^vision_model\.embeddings\.position_embedding": EMBEDDINGS + "position_embeddings",
    r"^vision_model\.embeddings\.patch_embedding\.": EMBEDDINGS + "patch_embeddings.projection.",
    r"^vision_model\.encoder\.layers\.": "model.vision_tower.encoder.layer.",
    VISION_LAYER + r"\.attn\.": r"\1.attention.",
    VISION_LAYER + r"\.attention\.proj\.": r"\1.attention.projection_layer.",
    VISION_LAYER + r"\.ls1": r"\1.lambda_1",
    VISION_LAYER + r"\.ls2": r"\1.lambda_2",
    VISION_LAYER + r"\.norm1\.": r"\1.layernorm_before.",
    VISION_LAYER + r"\.norm2\.": r"\1.layernorm_after.",
    r"^language_model\.model\.": "model.language_model.",
}
TEXT_LAYER = r"^(model\.language_model\.layers\.\d+)"
INTERNLM2 = {
    r"^language_model\.output\.": "lm_head.",
    r"^model\.language_model\.tok_embeddings\.": "model.language_model.embed_tokens.",
    TEXT_LAYER + r"\.attention\.": r"\1.self_attn.",
    TEXT_LAYER + r"\.self_attn\.wo\.": r"\1.self_attn.o_proj.",
    TEXT_LAYER + r"\.feed_forward\.": r"\1.mlp.",
    TEXT_LAYER + r"\.mlp\.w1\.": r"\1.mlp.gate_proj.",
    TEXT_LAYER + r"\.mlp\.w3\.": r"\1.mlp.up_proj.",
    TEXT_LAYER + r"\.mlp\.w2\.": r"\1.mlp.down_proj.",
    TEXT_LAYER + r"\.attention_norm\.": r"\1.input_layernorm.",
    TEXT_LAYER + r"\.ffn_norm\.": r"\1.post_attention_layernorm.",
}
TRANSFORMERS_NAMES = {r"^language_model\.lm_head\.": "lm_head."}


class SplitGroupedQKV(ConversionOps):
    """InternLM2's fused attention weight -> query, key and value.

    Its rows (and its bias) come in groups, one per key-value head: the query heads of the group, then the
    key head, then the value head, head_dim rows each.
    """

    @torch.no_grad
    def convert(
        self,
        input_dict: dict[str, list[torch.Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        config: PreTrainedConfig,
        **kwargs: object,
    ) -> dict[str, torch.Tensor]:
        fused = only_tensor(input_dict[source_patterns[0]])
        groups, queries = head_groups(config)
        heads = fused.unflatten(0, (groups, queries + 2, -1))  # (groups, queries + 2, head_dim, ...)
        parts = heads[:, :queries].flatten(0, 2), heads[:, queries].flatten(0, 1), heads[:, -1].flatten(0, 1)
        return {target: part.contiguous() for target, part in zip(target_patterns, parts)}

    @property
    def reverse_op(self) -> ConversionOps:
        return MergeGroupedQKV()


class MergeGroupedQKV(ConversionOps):
    """Query, key and value -> InternLM2's fused attention weight; the reverse of SplitGroupedQKV."""

    @torch.no_grad
    def convert(
        self,
        input_dict: dict[str, list[torch.Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        config: PreTrainedConfig,
        **kwargs: object,
    ) -> dict[str, torch.Tensor]:
        groups, queries = head_groups(config)
        query, key, value = (only_tensor(input_dict[source]) for source in source_patterns)
        parts = [
            query.unflatten(0, (groups, queries, -1)),
            key.unflatten(0, (groups, 1, -1)),
            value.unflatten(0, (groups, 1, -1)),
        ]
        return {target_patterns[0]: torch.cat(parts, dim=1).flatten(0, 2)}

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitGroupedQKV()


def only_tensor(tensors: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """The machinery hands over a tensor or a list with one."""
    return tensors[0] if isinstance(tensors, list) else tensors


def head_groups(config: PreTrainedConfig) -> tuple[int, int]:
    """(key-value heads, query heads of each) of the language model."""
    text = config.get_text_config()
    return text.num_key_value_heads, text.num_attention_heads // text.num_key_value_heads


def weight_conversions(*renamings: dict[str, str]) -> list[WeightTransform]:
    """What turns the tensors of a released checkpoint into ours, in transformers' terms.

    Args:
        renamings: COMMON and then INTERNLM2 or TRANSFORMERS_NAMES, by the language model. While loading
            both may be given: their names do not overlap.
    """
    heads = [f"{name}_proj" for name in "qkv"]
    return [
        *(WeightRenaming(old, new) for table in renamings for old, new in table.items()),
        WeightConverter("attention.qkv", [f"attention.{head}" for head in heads], [Chunk(dim=0)]),
        WeightConverter("self_attn.wqkv", [f"self_attn.{head}" for head in heads], [SplitGroupedQKV()]),
    ]


def expected_shapes(config: HimtokConfig, internlm2: bool) -> Shapes:
    """Every tensor that a released checkpoint of these sizes has, and its shape.

    Found by naming and cutting our own model's tensors (without values) back into the released format.
    """
    with torch.device("meta"):
        model = HimtokForConditionalGeneration(config)
    tensors = model.state_dict()
    if config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    conversions = weight_conversions(COMMON, INTERNLM2 if internlm2 else TRANSFORMERS_NAMES)
    model._weight_conversions = conversions if internlm2 else conversions[:-1]
    return {name: tuple(tensor.shape) for name, tensor in revert_weight_conversion(model, tensors).items()}


def stored_shapes(folder: Path) -> Shapes:
    """Every tensor in the weight files of a folder and its shape; no values are read.

    Raises:
        CheckpointError: if the folder has no weight files, or not all that its index names.
    """
    for index, single in ((SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME), (WEIGHTS_INDEX_NAME, WEIGHTS_NAME)):
        if (folder / single).is_file():
            return file_shapes(folder / single)
        if (folder / index).is_file():
            weight_map = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
            files = sorted(set(weight_map.values()))
            if absent := [name for name in files if not (folder / name).is_file()]:
                raise CheckpointError(f"{folder} lacks the weight file {absent[0]} that its {index} names")
            return {name: shape for file in files for name, shape in file_shapes(folder / file).items()}
    raise CheckpointError(
        f"{folder} has no weights: neither {SAFE_WEIGHTS_NAME} nor {WEIGHTS_NAME} nor shards"
    )


def file_shapes(path: Path) -> Shapes:
    """Tensors and shapes of one weight file."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    tensors = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
