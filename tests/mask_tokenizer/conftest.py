"""The mask tokenizer of the tiny released-format checkpoint, and what the reference computed with it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from himtok_core.mask_tokenizer import MaskTokenizer, MaskTokenizerConfig

PARITY = Path(__file__).parents[1] / "data" / "parity"


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, torch.Tensor]:
    """`mask_decoder.*` of the tiny checkpoint, without the prefix."""
    weights = load_file(PARITY / "released_tiny" / "model.safetensors")
    prefix = "mask_decoder."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


@pytest.fixture(scope="session")
def tiny_config() -> MaskTokenizerConfig:
    sizes = json.loads((PARITY / "released_tiny" / "himt_config.json").read_text(encoding="utf-8"))
    encoder, decoder, pixels = sizes["encoder"], sizes["decoder"], sizes["pixel_decoder"]
    return MaskTokenizerConfig(
        mask_size=sizes["mask_size"],
        patch_size=sizes["patch_size"],
        encoder_width=encoder["width"],
        encoder_layers=encoder["layers"],
        encoder_heads=encoder["heads"],
        decoder_width=decoder["width"],
        decoder_layers=decoder["layers"],
        decoder_heads=decoder["heads"],
        ffn_hidden_channels=decoder["ffn_hidden_channels"],
        ffn_out_channels=decoder["ffn_out_channels"],
        pixel_hidden_channels=pixels["hidden_channels"],
        pixel_channel_mult=pixels["channel_mult"],
        pixel_num_res_blocks=pixels["num_res_blocks"],
        pixel_out_channels=pixels["out_channels"],
        group_norm_groups=pixels["group_norm_groups"],
    )


@pytest.fixture(scope="session")
def tokenizer(tiny_config: MaskTokenizerConfig, tiny_weights: dict[str, torch.Tensor]) -> MaskTokenizer:
    model = MaskTokenizer(tiny_config)
    model.load_state_dict(tiny_weights)  # strict: the names and shapes are the released ones
    return model.eval()


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """The reference's tensors, by name."""
    return load_file(PARITY / "lmm.safetensors") | load_file(PARITY / "mask_tokenizer.safetensors")
