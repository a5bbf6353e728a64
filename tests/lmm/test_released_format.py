"""Reading the released format: what is recognised, what is refused and how, and what comes out of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from himtok_core.errors import CheckpointError
from himtok_core.lmm import (
    HimtokConfig,
    HimtokForConditionalGeneration,
    HimtokProcessor,
    convert,
    is_released_format,
    load_released,
)
from himtok_core.lmm.modeling import NOT_QUANTIZED
from himtok_core.lmm.released_format import text_config
from himtok_core.lmm.released_weights import SplitGroupedQKV, expected_shapes
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.mask_tokenizer.released import check_shapes

PARITY = Path(__file__).parents[1] / "data" / "parity"
TINY = PARITY / "released_tiny"
TEXT = "Segment <ref>red circle</ref>."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to change."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def tiny() -> tuple[HimtokForConditionalGeneration, HimtokProcessor]:
    return load_released(TINY)


def change_config(folder: Path, **changes: object) -> dict:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return config


def change_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
    """Replace, add (a tensor) or leave out (None) tensors."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(tensors, folder / "model.safetensors")
    return tensors


def logits(model: HimtokForConditionalGeneration, processor: HimtokProcessor) -> torch.Tensor:
    with torch.no_grad():
        return model(**processor.tokenizer(TEXT, return_tensors="pt")).logits


def test_it_is_recognised_by_its_config(folder: Path) -> None:
    assert is_released_format(folder)
    change_config(folder, model_type="llava")
    assert not is_released_format(folder)
    with pytest.raises(CheckpointError, match="not in the released format.*llava"):
        load_released(folder)
    with pytest.raises(CheckpointError, match="config.json"):
        is_released_format(folder / "nowhere")


def test_every_tensor_of_the_8b_model_has_its_place() -> None:
    manifest = json.loads((PARITY / "manifest_8b.json").read_text(encoding="utf-8"))
    stored = {name: tuple(shape) for name, shape in manifest["shapes"].items()}
    check_shapes(stored, expected_shapes(HimtokConfig(), internlm2=True))
    ids = manifest["special_ids"]
    raw = {"llm_config": manifest["config"]["llm_config"]}
    text, preset = text_config(raw, ids["<|im_end|>"]), HimtokConfig()
    assert text.to_dict() == preset.text_config.to_dict()
    special = [
        ids[name] for name in ("<IMG_CONTEXT>", "<|mt_start|>", "<|mt_end|>", "<|mt_0|>", "<|mt_1023|>")
    ]
    assert list(preset.special_ids) == special
    assert preset.image_seq_length == 256


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mlp1.1.bias": None}, "mlp1.1.bias is missing"),
        ({"mask_decoder.sam.bias": torch.zeros(1)}, "mask_decoder.sam.bias has no place"),
        (
            {"language_model.model.layers.1.attention.wqkv.weight": torch.zeros(120, 64)},
            r"layers.1.attention.wqkv.weight has shape \[120, 64\] instead of \[128, 64\]",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder: Path, changes: dict, message: str) -> None:
    change_weights(folder, changes)
    with pytest.raises(CheckpointError, match=message):
        load_released(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"template": "Hermes-2"}, "template = 'Hermes-2'"),
        ({"ps_version": "v1"}, "ps_version = 'v1'"),
        ({"force_image_size": 448}, "force_image_size = 448; only 56"),
        ({"downsample_ratio": 0.3}, "downsample_ratio 0.3"),
        ({"llm_config": {"architectures": ["PhiForCausalLM"]}}, "PhiForCausalLM"),
        ({"vision_config": {}}, "no entry 'image_size'"),
        ({"downsample_ratio": "half"}, "do not fit"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(folder: Path, changes: dict, message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_released(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"codebook_size": None}, "himt_config.json has no entry 'codebook_size'"),
        ({"is_legacy": False}, "says is_legacy = False"),
        ({"patch_size": 15}, "entries of .*himt_config.json do not fit: mask_size 64 is not a multiple"),
    ],
)
def test_sizes_of_another_mask_tokenizer_are_refused(folder: Path, changes: dict, message: str) -> None:
    path = folder / "himt_config.json"
    raw = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_released(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load_released(folder)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_released(folder)


def test_without_sizes_of_its_own_the_mask_tokenizer_is_the_released_one(folder: Path) -> None:
    (folder / "himt_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"mask_decoder\.decoder\.transformer\.2\S* is missing"):
        load_released(folder)


@pytest.mark.parametrize("kind", ["shards", "bin", "bin shards"])
def test_shards_and_bin_files(folder: Path, kind: str, tiny: tuple) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    suffix, stem = (".bin", "pytorch_model") if "bin" in kind else (".safetensors", "model")
    names = sorted(tensors)
    parts = {f"{stem}{suffix}": names}
    if "shards" in kind:
        parts = {f"{stem}-0000{i + 1}-of-00002{suffix}": names[i::2] for i in range(2)}
        index = {"metadata": {}, "weight_map": {name: file for file in parts for name in parts[file]}}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")
    for file, part in parts.items():
        save = torch.save if suffix == ".bin" else save_file
        save({name: tensors[name] for name in part}, folder / file)
    assert torch.equal(logits(*load_released(folder)), logits(*tiny))
    if "shards" in kind:
        (folder / file).unlink()
        with pytest.raises(CheckpointError, match=file):
            load_released(folder)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "config_class, model_class", [(Qwen2Config, Qwen2ForCausalLM), (LlamaConfig, LlamaForCausalLM)]
)
def test_other_language_models(
    folder: Path, tiny: tuple, config_class: type, model_class: type, tied: bool
) -> None:
    """Checkpoints whose language model has the names that transformers gives it."""
    torch.manual_seed(0)
    native = model_class(
        config_class(
            vocab_size=1639,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "default", "rope_theta": 5e5},
            tie_word_embeddings=tied,
        )
    ).eval()
    llm = native.config.to_dict() | {"architectures": [model_class.__name__], "rope_theta": 5e5}
    del llm["rope_parameters"]
    change_config(folder, llm_config=llm)
    old = {name: None for name in load_file(TINY / "model.safetensors") if name.startswith("language_model.")}
    new = {f"language_model.{name}": tensor for name, tensor in native.state_dict().items()}
    if tied:
        del new["language_model.lm_head.weight"]
    change_weights(folder, old | new)
    tiny[1].tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").unlink()

    model, processor = load_released(folder)
    with torch.no_grad():
        expected = native(**processor.tokenizer(TEXT, return_tensors="pt")).logits
    torch.testing.assert_close(logits(model, processor), expected)


def test_fused_attention_rows_are_grouped_by_key_value_head() -> None:
    """2 key-value heads with 3 query heads each, 4 rows a head; rows are numbered."""
    config = LlamaConfig(hidden_size=24, num_attention_heads=6, num_key_value_heads=2)
    rows = torch.arange(2 * (3 + 2) * 4)
    split = SplitGroupedQKV().convert({"qkv": [rows]}, ["qkv"], ["q", "k", "v"], config=config)
    assert split["q"].tolist() == [*range(0, 12), *range(20, 32)]
    assert split["k"].tolist() == [*range(12, 16), *range(32, 36)]
    assert split["v"].tolist() == [*range(16, 20), *range(36, 40)]
    again = SplitGroupedQKV().reverse_op.convert(split, ["q", "k", "v"], ["qkv"], config=config)
    assert torch.equal(again["qkv"], rows)


def test_position_angles_grow_beyond_the_trained_length(folder: Path) -> None:
    """Dynamic NTK: beyond the trained length L0 the base grows by (2 L / L0 - 1)^(d / (d - 2))."""
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    llm = raw["llm_config"] | {"max_position_embeddings": 32}
    change_config(folder, llm_config=llm)
    rotary = load_released(folder)[0].model.language_model.rotary_emb
    head_dim, exponents = 16, torch.arange(0, 16, 2) / 16
    for length, base in ((32, 1e6), (80, 1e6 * (2 * 80 / 32 - 1) ** (head_dim / (head_dim - 2)))):
        positions = torch.arange(length)[None]
        cosines, _ = rotary(torch.zeros(1), positions)
        angles = positions[0, :, None] * base**-exponents
        torch.testing.assert_close(cosines[0, :, : head_dim // 2], angles.cos(), rtol=0, atol=1e-4)


def test_system_message(folder: Path, tiny: tuple) -> None:
    question = [{"role": "user", "content": "Hello"}]
    assert "你是书生·万象" in tiny[1].apply_chat_template(question)
    change_config(folder, system_message='Say "yes".\n')
    text = load_released(folder)[1].apply_chat_template(question)
    assert text.startswith('<|im_start|>system\nSay "yes".\n<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n')


def test_converted_checkpoint_gives_the_same_numbers(tmp_path: Path, tiny: tuple) -> None:
    convert(TINY, tmp_path / "converted")
    assert not is_released_format(tmp_path / "converted")
    model = HimtokForConditionalGeneration.from_pretrained(tmp_path / "converted")
    processor = HimtokProcessor.from_pretrained(tmp_path / "converted")
    assert torch.equal(logits(model, processor), logits(*tiny))
    for name, tensor in tiny[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert model.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert processor.to_dict() == tiny[1].to_dict()
    assert processor.chat_template == tiny[1].chat_template
    assert "himtok" in (tmp_path / "converted" / "README.md").read_text(encoding="utf-8")


def test_converted_checkpoints_are_cut_into_shards(tmp_path: Path, tiny: tuple, monkeypatch) -> None:
    monkeypatch.setattr("himtok_core.lmm.released_format.MAX_SHARD_SIZE", "1MB")
    convert(TINY, tmp_path / "converted", name="someone/tiny")
    names = {path.name for path in (tmp_path / "converted").iterdir()}
    assert {"config.json", "generation_config.json", "processor_config.json", "tokenizer.json"} <= names
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    assert "model.safetensors.index.json" in names and "model.safetensors" not in names
    model = HimtokForConditionalGeneration.from_pretrained(tmp_path / "converted")
    assert torch.equal(logits(model, HimtokProcessor.from_pretrained(tmp_path / "converted")), logits(*tiny))
    assert "# someone/tiny, converted" in (tmp_path / "converted" / "README.md").read_text(encoding="utf-8")


def test_converting_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        convert(TINY, tmp_path / "file")


def test_bfloat16(tiny: tuple) -> None:
    model, processor = load_released(TINY, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    assert model.mask_tokenizer.encoder.attn_mask.dtype == torch.bool
    torch.testing.assert_close(logits(model, processor).float(), logits(*tiny), rtol=0.1, atol=0.3)


@pytest.mark.parametrize("bits, likeness", [(8, 0.999), (4, 0.8)])
def test_only_the_layers_of_the_language_model_are_quantised(tiny: tuple, bits: int, likeness: float) -> None:
    quantization = BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=NOT_QUANTIZED,
    )
    model, processor = load_released(TINY, torch.float32, {"": "cpu"}, quantization)
    quantised = {name for name, weights in model.named_parameters() if not weights.is_floating_point()}
    assert len(quantised) == 7 * 3  # 7 matrices in each of the 3 layers
    assert all(name.startswith("model.language_model.layers.") for name in quantised)
    both = torch.stack([logits(model, processor).flatten(), logits(*tiny).flatten()])
    assert torch.corrcoef(both)[0, 1] > likeness


def test_an_offloaded_mask_tokenizer_still_works(tmp_path: Path, tiny: tuple) -> None:
    place = {"model": "cpu", "lm_head": "cpu", "mask_tokenizer": "disk"}
    convert(TINY, tmp_path / "converted")
    model = HimtokForConditionalGeneration.from_pretrained(
        tmp_path / "converted", device_map=place, offload_folder=tmp_path / "offload"
    )
    tokens = torch.arange(32)[None]
    assert isinstance(model.mask_tokenizer, MaskTokenizer)
    assert torch.equal(model.mask_tokenizer.decode(tokens), tiny[0].mask_tokenizer.decode(tokens))
