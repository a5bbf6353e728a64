"""An InternVL without masks and a mask tokenizer become the model that stage 2 begins with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import himtok_core
from himtok_core.errors import CheckpointError
from himtok_core.lmm import HimtokForConditionalGeneration, load_released
from himtok_core.training import start
from himtok_core.training.start import join

PARITY = Path(__file__).parents[1] / "data" / "parity"
TINY = PARITY / "released_tiny"
OLD = 613  # tokens before the mask tokens


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """The tiny released model taken apart: what it was before it knew masks, and its mask tokenizer."""
    base = Path(shutil.copytree(TINY, tmp_path / "base"))
    masks = tmp_path / "masks"
    masks.mkdir()
    (base / "himt_config.json").rename(masks / "himt_config.json")
    weights = load_file(base / "model.safetensors")
    torch.save({n: t for n, t in weights.items() if n.startswith("mask_decoder.")}, masks / "himtok.pth")
    kept = {n: t for n, t in weights.items() if not n.startswith("mask_decoder.")}
    for name in ("language_model.model.tok_embeddings.weight", "language_model.output.weight"):
        kept[name] = kept[name][:OLD].clone()
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["llm_config"]["vocab_size"] = OLD
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    added = {id: entry for id, entry in settings["added_tokens_decoder"].items() if int(id) < OLD}
    settings["added_tokens_decoder"] = added
    (base / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return base, masks


def test_joined_parts_are_the_released_model_but_for_what_new_tokens_mean(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, masks = parts
    flags = ["--model", str(base), "--mask-tokenizer", str(masks / "himtok.pth")]
    assert start.main([*flags, "--out", str(tmp_path / "start")]) == 0
    assert json.loads(capsys.readouterr().out)["first_mask_id"] == OLD + 2
    chat = himtok_core.load(tmp_path / "start", device="cpu")
    released, processor = load_released(TINY)
    assert chat.processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert chat.processor.system_message == processor.system_message
    old, new = released.state_dict(), chat.model.state_dict()
    assert old.keys() == new.keys()
    differing = {name for name in old if not torch.equal(old[name], new[name])}
    tables = {"model.language_model.embed_tokens.weight", "lm_head.weight"}
    assert differing == tables
    for name in tables:
        assert torch.equal(old[name][:OLD], new[name][:OLD])
        assert old[name].shape == new[name].shape
    head, embeddings = new["lm_head.weight"], new["model.language_model.embed_tokens.weight"]
    torch.testing.assert_close(head[OLD:], head[:OLD].mean(0).expand(1026, -1))
    assert embeddings[OLD:].std() == pytest.approx(0.02, rel=0.05)


def test_the_same_every_time(parts: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (join(str(parts[0]), str(parts[1]), tmp_path / name).state_dict() for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_joined(parts: tuple[Path, Path], tmp_path: Path) -> None:
    base, masks = parts
    with pytest.raises(CheckpointError, match="has mask tokens already"):
        join(str(TINY), str(masks), tmp_path / "start")
    own = tmp_path / "own"
    HimtokForConditionalGeneration(load_released(TINY)[0].config).save_pretrained(own)
    with pytest.raises(CheckpointError, match="no checkpoint of InternVLChat"):
        join(str(own), str(masks), tmp_path / "start")
    weights = load_file(base / "model.safetensors")
    del weights["language_model.output.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="language_model.output.weight is missing"):
        join(str(base), str(masks), tmp_path / "start")
