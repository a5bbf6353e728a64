import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import himtok_core
from himtok_core import cli
from himtok_core.errors import CheckpointError, HimtokError
from tests.conftest import example_picture

RELEASED = Path(__file__).parent.parent / "data" / "parity" / "released_tiny"
QUESTION = "Segment <ref>cat</ref>."


@pytest.fixture
def copy(tiny_folder, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_folder_in_our_format(tiny_folder, tiny_chat):
    chat = himtok_core.load(tiny_folder, device="cpu")
    assert chat.name == "tiny"
    assert chat.concepts == ({"name": "cat"}, {"name": "dog", "code": "1f415"})
    assert chat.mask_tokenizer is chat.model.mask_tokenizer
    assert {weight.dtype for weight in chat.model.parameters()} == {torch.float32}
    assert not chat.model.training
    reply = chat.start(example_picture()).ask(QUESTION)
    assert reply.text == tiny_chat.start(example_picture()).ask(QUESTION).text


def test_options(tiny_folder):
    chat = himtok_core.load(str(tiny_folder), device="cpu", dtype="bfloat16", max_tiles=1)
    assert {weight.dtype for weight in chat.model.parameters()} == {torch.bfloat16}
    one = chat.start(example_picture()).ask(QUESTION, max_new_tokens=2)
    three = (
        himtok_core.load(tiny_folder, device="cpu").start(example_picture()).ask(QUESTION, max_new_tokens=2)
    )
    assert three.timing.prompt_tokens - one.timing.prompt_tokens == 2 * 4


def test_the_released_format():
    chat = himtok_core.load(RELEASED, device="cpu")
    assert chat.name == "released_tiny" and chat.concepts == ()
    assert chat.start(example_picture()).ask(QUESTION).finished


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "cpu, cuda"),
        ({"device": "xpu"}, "no xpu"),
        ({"dtype": "float8"}, "float32, bfloat16, float16"),
        ({"dtype": torch.int8}, "float32, bfloat16, float16"),
        ({"quantization": "2bit"}, "8bit, 4bit"),
        ({"device": "cpu", "device_map": "auto"}, "exclude"),
        ({"max_tiles": 0}, "at least 1"),
    ],
)
def test_impossible_options_say_what_is_possible(tiny_folder, options, words):
    with pytest.raises(HimtokError, match=words):
        himtok_core.load(tiny_folder, **options)


@pytest.mark.parametrize("name", ["no-such-folder", "/no/such/folder", "./here", "two words/model"])
def test_no_such_folder(name):
    with pytest.raises(CheckpointError, match="no folder"):
        himtok_core.load(name)


def test_a_hub_id_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/nothing-at-all"):
        himtok_core.load("nobody/nothing-at-all")


@pytest.fixture
def hub_copy(monkeypatch, tmp_path) -> str:
    """A hub id whose files were fetched before, and no network."""
    commit = "0123456789" * 4
    copies = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(RELEASED, copies / "snapshots" / commit)
    (copies / "refs").mkdir()
    (copies / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return "someone/tiny"


def test_a_hub_id(hub_copy):
    chat = himtok_core.load(hub_copy, device="cpu")
    assert chat.name == hub_copy
    assert chat.start(example_picture()).ask(QUESTION).finished


def test_a_hub_id_is_converted(hub_copy, tmp_path, capsys):
    assert cli.main(["convert", hub_copy, str(tmp_path / "converted")]) == 0
    assert f"# {hub_copy}, converted" in (tmp_path / "converted" / "README.md").read_text(encoding="utf-8")
    ours = himtok_core.load(tmp_path / "converted", device="cpu").start(example_picture()).ask(QUESTION)
    theirs = himtok_core.load(hub_copy, device="cpu").start(example_picture()).ask(QUESTION)
    assert ours.text == theirs.text


def test_a_file_is_no_folder(tiny_folder):
    with pytest.raises(CheckpointError, match=r"file; the folder"):
        himtok_core.load(tiny_folder / "config.json")


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        himtok_core.load(tmp_path)


def test_another_kind_of_model(copy):
    (copy / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="llama"):
        himtok_core.load(copy)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "himtok", "text_config": 7}'])
def test_a_damaged_config(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="copy"):
        himtok_core.load(copy)


def test_missing_and_damaged_weights(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        himtok_core.load(copy)
    (copy / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="copy"):
        himtok_core.load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="copy"):
        himtok_core.load(copy)


def test_weights_of_another_size(copy):
    weights = load_file(copy / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        himtok_core.load(copy)


def test_a_missing_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="copy"):
        himtok_core.load(copy)


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_a_damaged_list_of_names(copy, text):
    (copy / "concepts.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"concepts\.json"):
        himtok_core.load(copy)


def test_parts_that_stay_on_disk_are_fetched_when_they_are_needed(tiny_folder, tiny_chat):
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu", "mask_tokenizer": "cpu"}
    chat = himtok_core.load(
        tiny_folder, dtype="float32", device_map=places | {"model.language_model": "disk", "lm_head": "disk"}
    )
    assert chat.model.lm_head.weight.is_meta
    reply = chat.start(example_picture()).ask(QUESTION)
    assert reply.text == tiny_chat.start(example_picture()).ask(QUESTION).text
    assert reply.objects[0].mask is not None


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_only_the_language_model_s_layers_are_quantized(tiny_folder, quantization):
    chat = himtok_core.load(tiny_folder, device="cpu", quantization=quantization)
    model = chat.model
    quantized = {name for name, part in model.named_modules() if hasattr(part.__class__, "init_8bit_state")}
    quantized |= {name for name, part in model.named_modules() if type(part).__name__ == "Linear4bit"}
    assert quantized and all(name.startswith("model.language_model.layers") for name in quantized)
    assert model.lm_head.weight.dtype == model.mask_tokenizer.dtype == torch.float32
    assert chat.start(example_picture()).ask(QUESTION, mask_tokens=4, max_new_tokens=20).finished
