"""Which weights are taken, from where, and what is said about those that do not fit."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

import himtok_core
from himtok_core.errors import CheckpointError
from himtok_core.refine import RefinementSam, SamConfig, SamRefiner, loading
from himtok_core.refine.loading import load_sam, save_sam

from .conftest import PUBLIC_TINY, TINY

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def small_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets at a tiny size: what is recognised is a preset, and real ones weigh a gigabyte."""
    monkeypatch.setattr(SamConfig, "vit_b", classmethod(lambda cls: PUBLIC_TINY))
    monkeypatch.setattr(SamConfig, "reference_vit_l", classmethod(lambda cls: TINY))


@pytest.fixture
def public_tensors(public_refiner: SamRefiner) -> Tensors:
    return dict(public_refiner.model.state_dict())


def assert_same_weights(model: RefinementSam, tensors: Tensors) -> None:
    loaded = model.state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.usefixtures("small_presets")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_public_sam_from_a_file(tmp_path: Path, public_tensors: Tensors, suffix: str) -> None:
    file = tmp_path / f"sam_vit_b_01ec64{suffix}"
    (torch.save if suffix == ".pth" else save_file)(public_tensors, file)
    for place in (file, tmp_path):
        model = load_sam(place, "cpu")
        assert model.config == PUBLIC_TINY and not model.training
        assert_same_weights(model, public_tensors)


@pytest.mark.usefixtures("small_presets")
def test_a_file_gives_what_the_network_it_came_from_gives(
    tmp_path: Path, public_refiner: SamRefiner, public_tensors: Tensors
) -> None:
    """Buffers that no file holds are there too."""
    torch.save(public_tensors, tmp_path / "sam.pth")
    loaded = himtok_core.SamRefiner.from_pretrained(tmp_path / "sam.pth", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert torch.equal(loaded.embed(image).features, public_refiner.embed(image).features)
    assert loaded.name == "sam.pth"


@pytest.mark.usefixtures("small_presets")
def test_the_finetuned_variant_is_recognised(tmp_path: Path, reference_sam: RefinementSam) -> None:
    tensors = dict(reference_sam.state_dict())
    torch.save({"model": tensors}, tmp_path / "sam.pth")
    model = load_sam(tmp_path, "cpu")
    assert model.config == TINY
    assert_same_weights(model, tensors)


@pytest.mark.usefixtures("small_presets")
def test_what_the_finetuned_variant_kept_of_public_sam_is_left_aside(
    tmp_path: Path, reference_sam: RefinementSam, public_tensors: Tensors
) -> None:
    tensors = dict(reference_sam.state_dict())
    torch.save({**public_tensors, **tensors}, tmp_path / "sam.pth")
    assert_same_weights(load_sam(tmp_path, "cpu"), tensors)


def test_our_own_folder(tmp_path: Path, public_refiner: SamRefiner, public_tensors: Tensors) -> None:
    """Any size, with its config; half precision in the file is float32 in memory."""
    save_sam(public_refiner.model, tmp_path / "own", torch.float16)
    model = load_sam(tmp_path / "own", "cpu")
    assert model.config == PUBLIC_TINY
    assert_same_weights(model, {name: tensor.half().float() for name, tensor in public_tensors.items()})


def test_a_hub_id_fetches_the_refiner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_sam: RefinementSam
) -> None:
    """The released model's repository also holds sixteen gigabytes that are not asked for."""
    asked: list[list[str]] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        assert name == "yayafengzi/InternVL2_5-HiMTok-8B"
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(loading, "snapshot_download", snapshot)
    monkeypatch.setattr(SamConfig, "reference_vit_l", classmethod(lambda cls: TINY))
    (tmp_path / "config.json").write_text('{"model_type": "internvl_chat"}', encoding="utf-8")
    torch.save(dict(reference_sam.state_dict()), tmp_path / "sam.pth")
    assert load_sam("yayafengzi/InternVL2_5-HiMTok-8B", "cpu").config == TINY
    assert len(asked) == 1 and "sam.pth" in asked[0] and "model.safetensors" not in asked[0]


def test_a_hub_id_of_our_own_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public_refiner: SamRefiner
) -> None:
    monkeypatch.setattr(loading, "snapshot_download", lambda name, allow_patterns: str(tmp_path))
    save_sam(public_refiner.model, tmp_path)
    assert load_sam("someone/sam-mini", "cpu").config == PUBLIC_TINY


def test_no_such_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def snapshot(name: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError("no network\nmore lines")

    monkeypatch.setattr(loading, "snapshot_download", snapshot)
    with pytest.raises(CheckpointError, match="no file or folder nobody/nothing.*no network$"):
        load_sam("nobody/nothing", "cpu")
    with pytest.raises(CheckpointError, match="holds none"):
        load_sam(tmp_path, "cpu")


def test_a_folder_with_several(tmp_path: Path, public_tensors: Tensors) -> None:
    for name in ("sam_vit_b_01ec64.pth", "sam_vit_h_4b8939.pth"):
        torch.save(public_tensors, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"sam_vit_b_01ec64\.pth, sam_vit_h_4b8939\.pth"):
        load_sam(tmp_path, "cpu")


@pytest.mark.usefixtures("small_presets")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("mask_decoder.iou_token.weight"), "mask_decoder.iou_token.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra has no place"),
        (
            lambda t: t.update({"mask_decoder.iou_token.weight": torch.zeros(1, 7)}),
            r"mask_decoder.iou_token.weight has shape \(1, 7\) instead of \(1, 32\)",
        ),
        (lambda t: t.pop("image_encoder.pos_embed"), "no image_encoder.pos_embed"),
        (lambda t: t.pop("prompt_encoder.mask_downscaling.0.weight"), "is no SAM"),
        (
            lambda t: t.update({"image_encoder.pos_embed": torch.zeros(1, 8, 8, 48)}),
            "48 channels, not 32, 1024, 1280",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, public_tensors: Tensors, spoil: object, words: str) -> None:
    spoil(public_tensors)
    torch.save(public_tensors, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError, match=words):
        load_sam(tmp_path / "sam.pth", "cpu")


def test_damaged_files(tmp_path: Path, public_tensors: Tensors) -> None:
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(public_tensors, whole)
    cut.write_bytes(whole.read_bytes()[:20_000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "text.pth").write_text("not weights", encoding="utf-8")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    for name in ("cut.pth", "cut.safetensors", "text.pth"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read|{name} is no SAM"):
            load_sam(tmp_path / name, "cpu")
    with pytest.raises(CheckpointError, match="named tensors"):
        load_sam(tmp_path / "list.pth", "cpu")


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_does_not_run(tmp_path: Path) -> None:
    with open(tmp_path / "sam.pth", "wb") as file:
        pickle.dump({"image_encoder.pos_embed": Trap(tmp_path / "sprung")}, file, protocol=2)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_sam(tmp_path, "cpu")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": "two"}, "depth must be int"),
        ({"surprise": 1}, "surprise"),
        ({"window": None}, "window must be int"),
        ({"heads": 5}, "do not go together|do not fit"),
        ({"width": 64}, "do not fit"),
    ],
)
def test_configs_that_do_not_fit(
    tmp_path: Path, public_refiner: SamRefiner, change: dict, words: str
) -> None:
    save_sam(public_refiner.model, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words):
        load_sam(tmp_path, "cpu")


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    for config in (SamConfig.mini(), SamConfig.reference_vit_l(), replace(TINY, global_layers=())):
        config.save(tmp_path)
        assert SamConfig.load(tmp_path / "config.json") == config
