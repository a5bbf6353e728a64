"""Checkpoints in the released format -> our model and processor.

The released format is InternVLChat's: a config of model type `internvl_chat`, the weights of a vision tower
and an InternLM2 (or Qwen2, or Llama) language model under the reference's names, `mask_decoder.*` for the
mask tokenizer, and Python code, which is never run. Everything is mapped onto transformers' own InternVL and
Llama (or Qwen2) classes while it is read. Names and layouts of the tensors are `released_weights`' knowledge,
how text is cut into ids is `released_tokenizer`'s; fetching a folder from the hub is the caller's work.
"""

import dataclasses
import json
from pathlib import Path

import torch
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedTokenizerBase, Qwen2Config
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..errors import CheckpointError
from ..mask_tokenizer import MaskTokenizerConfig
from ..mask_tokenizer.released import SIZES_NAME, check_shapes, mask_tokenizer_config, naming
from .configuration import HimtokConfig
from .modeling import HimtokForConditionalGeneration
from .processing import FIRST_MASK, IMAGE_TOKEN, MASK_END, MASK_START, TURN_END, HimtokProcessor
from .released_tokenizer import load_tokenizer
from .released_weights import (
    COMMON,
    INTERNLM2,
    TRANSFORMERS_NAMES,
    expected_shapes,
    stored_shapes,
    weight_conversions,
)

# What the reference's chat template says when the checkpoint's config does not say otherwise.
SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、"
    "清华大学及多家合作单位联合开发的多模态大语言模型。"
)
MAX_TILES = 4  # of the reference's demo and evaluations, whatever the config says
MAX_SHARD_SIZE = "5GB"  # of a converted checkpoint
LANGUAGE_MODELS = {
    "InternLM2ForCausalLM": LlamaConfig,
    "LlamaForCausalLM": LlamaConfig,
    "Qwen2ForCausalLM": Qwen2Config,
}


class ReleasedCheckpoint(HimtokForConditionalGeneration):
    """The same model under the name for which the released format's weight conversions are registered."""


register_checkpoint_conversion_mapping(
    ReleasedCheckpoint.__name__, weight_conversions(COMMON, INTERNLM2, TRANSFORMERS_NAMES)
)


def is_released_format(folder: str | Path) -> bool:
    """Whether a folder holds a checkpoint in the released format: its config says so.

    Raises:
        CheckpointError: if the folder has no readable config.json.
    """
    return read_config(folder).get("model_type") == "internvl_chat"


def load_released(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device_map: str | dict | None = None,
    quantization_config: QuantizationConfigMixin | None = None,
) -> tuple[HimtokForConditionalGeneration, HimtokProcessor]:
    """Load a checkpoint in the released format.

    Args:
        folder: with the weights as .safetensors or .bin, in one file or in shards.
        dtype: of the weights; as the config says if None.
        device_map, quantization_config: as for transformers' `from_pretrained`.

    Raises:
        CheckpointError: if it is another format, a kind of it that is not known, or if a tensor is missing,
            left over, or of the wrong shape.
    """
    folder = Path(folder)
    raw = read_config(folder)
    if raw.get("model_type") != "internvl_chat":
        raise CheckpointError(
            f"{folder} is not in the released format: its model_type is {raw.get('model_type')!r}"
        )
    tokenizer = load_tokenizer(folder)
    mask_tokenizer = mask_tokenizer_config(folder / SIZES_NAME)
    with naming(folder / "config.json"):
        config = translate_config(raw, mask_tokenizer, tokenizer)
    internlm2 = language_model(raw) == "InternLM2ForCausalLM"
    check_shapes(stored_shapes(folder), expected_shapes(config, internlm2))
    model, report = ReleasedCheckpoint.from_pretrained(
        folder,
        config=config,
        dtype=dtype or "auto",
        device_map=device_map,
        quantization_config=quantization_config,
        output_loading_info=True,
    )
    assert not any(report.values()), report  # what could go wrong was found by check_shapes
    model.__class__ = HimtokForConditionalGeneration
    model._weight_conversions = []  # it is saved in our own format
    return model, finish(model, raw, tokenizer)


def finish(
    model: HimtokForConditionalGeneration, raw: dict, tokenizer: PreTrainedTokenizerBase
) -> HimtokProcessor:
    """Tell a model whose weights are loaded how answers end, and make its processor.

    Args:
        raw: config.json of the released format.
    """
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(TURN_END)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    message = raw.get("system_message")
    return HimtokProcessor(
        tokenizer=tokenizer,
        image_size=model.config.image_size,
        max_tiles=MAX_TILES,
        num_image_tokens=model.config.image_seq_length,
        system_message=SYSTEM_MESSAGE if message is None else message,
    )


def convert(source: str | Path, target: str | Path, name: str | None = None) -> None:
    """Write a checkpoint of the released format in our own: weights, processor, generation config, card.

    Args:
        source: folder in the released format; the weights keep the type that its config states.
        target: folder to write, made if it is not there.
        name: what the model card calls the source; the name of its folder if None.

    Raises:
        CheckpointError: as load_released, or if `target` is a file.
    """
    if Path(target).is_file():
        raise CheckpointError(f"{target} is a file; the converted model needs a folder")
    model, processor = load_released(source)
    model.save_pretrained(target, max_shard_size=MAX_SHARD_SIZE)
    processor.save_pretrained(target)
    card = MODEL_CARD.format(name=name or Path(source).resolve().name)
    (Path(target) / "README.md").write_text(card, encoding="utf-8")


MODEL_CARD = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- himtok
- image-segmentation
---
# {name}, converted

The weights of `{name}` in the format that `himtok_core` writes and that the Auto classes of transformers
load once `himtok_core` is imported. Only names and layout were changed; for data, training, scores and
licence see the model card of the source.

```python
import himtok_core as himtok

chat = himtok.load("path/to/this/folder")
reply = chat.start("picture.png").ask("Segment <ref>the dog</ref>.")
```
"""


def read_config(folder: Path) -> dict:
    """config.json of a model folder."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def language_model(raw: dict) -> str:
    """Class name of the reference's language model, checked."""
    architecture = (raw["llm_config"].get("architectures") or ["not stated"])[0]
    if architecture not in LANGUAGE_MODELS:
        known = ", ".join(LANGUAGE_MODELS)
        raise CheckpointError(f"the language model is {architecture}; known are {known}")
    return architecture


def translate_config(
    raw: dict, mask_tokenizer: MaskTokenizerConfig, tokenizer: PreTrainedTokenizerBase
) -> HimtokConfig:
    """config.json of the released format -> HimtokConfig.

    Raises:
        CheckpointError: if it asks for something that this project does not do, or its tokenizer has no mask
            tokens. KeyError, ValueError, StrictDataclassError: if entries are missing or do not fit.
    """
    vision = raw["vision_config"]
    wanted = {
        "template": ("internvl2_5", raw.get("template")),
        "ps_version": ("v2", raw.get("ps_version")),
        "force_image_size": (vision["image_size"], raw.get("force_image_size") or vision["image_size"]),
    }
    for name, (right, given) in wanted.items():
        if given != right:
            raise CheckpointError(f"config.json says {name} = {given!r}; only {right!r} can be loaded")
    vocabulary = tokenizer.get_vocab()
    ids = {
        token: vocabulary.get(token) for token in (IMAGE_TOKEN, MASK_START, MASK_END, FIRST_MASK, TURN_END)
    }
    if absent := [token for token, id in ids.items() if id is None]:
        raise CheckpointError(f"the tokenizer has no {', '.join(absent)}: this is no HiMTok checkpoint")
    return HimtokConfig(
        text_config=text_config(raw, ids[TURN_END]),
        vision_config={
            **only_fields_of(HimtokConfig.sub_configs["vision_config"], vision),
            "attention_bias": vision.get("qkv_bias", False),
            "use_qk_norm": vision.get("qk_normalization", False),
            "hidden_dropout_prob": vision.get("dropout", 0.0),
        },
        mask_tokenizer_config=mask_tokenizer,
        downsample_ratio=float(raw.get("downsample_ratio", 0.5)),
        vision_feature_layer=raw.get("select_layer", -1),
        image_token_id=ids[IMAGE_TOKEN],
        mask_start_id=ids[MASK_START],
        mask_end_id=ids[MASK_END],
        first_mask_id=ids[FIRST_MASK],
        tie_word_embeddings=raw["llm_config"].get("tie_word_embeddings", False),
        dtype=raw.get("torch_dtype") or raw.get("dtype"),
    )


def text_config(raw: dict, turn_end_id: int) -> LlamaConfig | Qwen2Config:
    """`llm_config` of the released format -> the config of the native language model.

    InternLM2 computes what Llama does; its attention `bias` and its rope settings have other names.
    """
    llm, config_class = raw["llm_config"], LANGUAGE_MODELS[language_model(raw)]
    rope = dict(llm.get("rope_scaling") or {})
    rope["rope_type"] = rope.pop("type", None) or rope.get("rope_type", "default")
    sizes = only_fields_of(config_class, llm)
    if "bias" in llm:
        sizes["attention_bias"] = llm["bias"]
    sizes["rope_parameters"] = {"rope_theta": float(llm.get("rope_theta", 10000.0)), **rope}
    sizes["eos_token_id"] = turn_end_id
    sizes["tie_word_embeddings"] = llm.get("tie_word_embeddings", False)
    return config_class(**sizes)


def only_fields_of(config_class: type[PreTrainedConfig], raw: dict) -> dict:
    """The entries of `raw` that a config class knows itself, without those every config has."""
    names = {field.name for field in dataclasses.fields(config_class)}
    names -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return {name: value for name, value in raw.items() if name in names and value is not None}
