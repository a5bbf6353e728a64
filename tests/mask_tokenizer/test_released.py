"""The stand-alone file `himtok.pth`: loaded as it is, or refused with the name of what does not fit."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from himtok_core.errors import CheckpointError
from himtok_core.mask_tokenizer import MaskTokenizer

from .conftest import PARITY

TINY = PARITY / "released_tiny"
TOKENS = torch.arange(64).view(2, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(TINY / "himt_config.json", tmp_path)
    return tmp_path


def prefixed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Named as in the whole model."""
    return {f"mask_decoder.{name}": tensor for name, tensor in weights.items()}


PACKINGS = [dict, prefixed, lambda w: {"model": w, "epoch": 3}, lambda w: {"state_dict": prefixed(w)}]


@pytest.mark.parametrize("pack", PACKINGS)
def test_a_file_of_its_own(folder: Path, tiny_weights: dict, pack: Callable) -> None:
    torch.save(pack(tiny_weights), folder / "himtok.pth")
    model = MaskTokenizer.from_pretrained(folder / "himtok.pth")
    again = MaskTokenizer.from_pretrained(str(folder))  # a folder without config.json
    assert not model.training
    for name, tensor in tiny_weights.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert torch.equal(model.decode(TOKENS), again.decode(TOKENS))


def test_it_is_the_mask_tokenizer_of_the_whole_model(
    folder: Path, tiny_weights: dict, tokenizer: MaskTokenizer, golden: dict
) -> None:
    torch.save(tiny_weights, folder / "himtok.pth")
    model = MaskTokenizer.from_pretrained(folder / "himtok.pth")
    assert torch.equal(model.decode(TOKENS), tokenizer.decode(TOKENS))
    assert model.encode(golden["himt/masks"].float()).tolist() == golden["himt/token_ids"].tolist()
    model.save_pretrained(folder / "own")
    assert torch.equal(MaskTokenizer.from_pretrained(folder / "own").decode(TOKENS), model.decode(TOKENS))


def test_number_types(folder: Path, tiny_weights: dict) -> None:
    halves = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tiny_weights.items()}
    torch.save(halves, folder / "himtok.pth")
    stored = MaskTokenizer.from_pretrained(folder / "himtok.pth")
    assert (stored.dtype, stored.encoder.attn_mask.dtype) == (torch.bfloat16, torch.bool)
    wanted = MaskTokenizer.from_pretrained(folder / "himtok.pth", dtype=torch.float32)
    assert wanted.dtype == torch.float32
    assert torch.equal(wanted.latent_tokens, stored.latent_tokens.float())


def test_of_the_rest_only_the_segmenter_is_left_out(folder: Path, tiny_weights: dict) -> None:
    torch.save(tiny_weights | {"sam.image_encoder.bias": torch.zeros(3)}, folder / "himtok.pth")
    assert MaskTokenizer.from_pretrained(folder / "himtok.pth").config.codebook_size == 1024
    torch.save(tiny_weights | {"samples": torch.zeros(3)}, folder / "himtok.pth")
    with pytest.raises(CheckpointError, match="samples has no place"):
        MaskTokenizer.from_pretrained(folder / "himtok.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_tokens": None}, "latent_tokens is missing"),
        ({"latent_tokens": torch.zeros(3, 4)}, r"latent_tokens has shape \[3, 4\] instead of"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    folder: Path, tiny_weights: dict, change: dict, message: str
) -> None:
    tensors = {name: value for name, value in (tiny_weights | change).items() if value is not None}
    torch.save(tensors, folder / "himtok.pth")
    with pytest.raises(CheckpointError, match=message):
        MaskTokenizer.from_pretrained(folder / "himtok.pth")


def test_without_sizes_beside_it_it_is_the_released_one(folder: Path, tiny_weights: dict) -> None:
    (folder / "himt_config.json").unlink()
    torch.save(tiny_weights, folder / "himtok.pth")
    with pytest.raises(CheckpointError, match=r"transformer\.2\S* is missing"):
        MaskTokenizer.from_pretrained(folder / "himtok.pth")


class Trap:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", [b"", b"no weights at all", "trap", {"epoch": 3}, torch.zeros(3), [1]])
def test_what_is_no_file_of_weights(folder: Path, content: object) -> None:
    path = folder / "himtok.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_bytes(pickle.dumps(Trap(folder / "sprung")))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"himtok\.pth"):
        MaskTokenizer.from_pretrained(path)
    assert not (folder / "sprung").exists()
