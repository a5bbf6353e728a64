"""From a finished run to the folder that ships: small, complete, and loaded by the rest of the project."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from himtok_core.chat import load
from himtok_core.data.scenes import World
from himtok_core.errors import CheckpointError
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training import publish
from himtok_core.training.mini import build_config, build_model
from himtok_core.training.scene_batches import world_names

from .conftest import small_mask_config


@pytest.fixture(scope="module")
def folder(processor: HimtokProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    config = build_config(processor, small_mask_config())
    config.mask_tokenizer_config._name_or_path = "/home/me/masks"
    build_model(config).save_pretrained(folder / "run" / "model")
    processor.save_pretrained(folder / "run" / "model")
    return folder


def test_a_published_run_can_be_asked(folder: Path, world: World, capsys: pytest.CaptureFixture) -> None:
    target = folder / "shipped"
    assert publish.main(["--run", str(folder / "run"), "--out", str(target)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    with safe_open(target / "model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}
    assert "F16" in kinds and not kinds & {"F32", "BF16"}

    assert "/home/me" in (folder / "run" / "model" / "config.json").read_text(encoding="utf-8")
    assert "/home/me" not in (target / "config.json").read_text(encoding="utf-8")
    chat = load(target, device="cpu")
    assert [concept["name"] for concept in chat.concepts] == list(world_names(world))
    codes = {concept["name"]: concept.get("code") for concept in chat.concepts}
    assert codes["red apple"] == "1f34e" and codes["blue circle"] is None
    assert not chat.model.generation_config.do_sample
    reply = chat.start(picture()).ask("Segment <ref>red apple</ref>.", max_new_tokens=3)
    assert reply.size == (40, 30) and reply.timing.new_tokens <= 3


def test_a_decoder_that_has_learned_on_ships_if_its_codes_are_the_same(folder: Path, world: World) -> None:
    masks, newer = (load_masks(folder / "run" / "model") for _ in range(2))
    torch.nn.init.normal_(newer.decoder.transformer[-1].mlp.c_proj.weight)
    newer.save_pretrained(folder / "newer")
    publish.publish(folder / "run", folder / "redrawn", world, folder / "newer")
    shipped, tokens = load_masks(folder / "redrawn").float(), torch.arange(32)[None]
    torch.testing.assert_close(shipped.decode(tokens), newer.decode(tokens), rtol=0, atol=0.002)
    assert (shipped.decode(tokens) - masks.decode(tokens)).abs().max() > 0.005

    newer.quantize.embedding.weight.data[7] *= -1
    newer.save_pretrained(folder / "newer")
    with pytest.raises(CheckpointError, match="other codes"):
        publish.publish(folder / "run", folder / "never", world, folder / "newer")
    assert not (folder / "never").exists()


def load_masks(model: Path) -> MaskTokenizer:
    return HimtokForConditionalGeneration.from_pretrained(model).mask_tokenizer.eval()


def picture() -> Image.Image:
    return Image.new("RGB", (40, 30), (200, 30, 30))
