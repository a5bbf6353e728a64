"""The tiny copy of the reference's SAM, small SAMs of both kinds, and what the reference computed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from himtok_core.refine import RefinementSam, SamConfig, SamRefiner

PARITY = Path(__file__).parents[1] / "data" / "parity" / "sam"

TINY = SamConfig(
    image_size=128,
    patch_size=16,
    width=32,
    depth=2,
    heads=4,
    window=3,
    global_layers=(1,),
    prompt_dim=32,
    decoder_heads=4,
    decoder_mlp=64,
    iou_hidden=32,
    reference=True,
    stretch=True,
)
PUBLIC_TINY = replace(TINY, reference=False, stretch=False)


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """The reference's tensors, by name."""
    return load_file(PARITY / "golden.safetensors")


@pytest.fixture(scope="session")
def tolerances() -> dict[str, float]:
    """How far each may be from ours."""
    return json.loads((PARITY / "tolerances.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def reference_sam() -> RefinementSam:
    model = RefinementSam(TINY)
    model.load_state_dict(load_file(PARITY / "sam_tiny.safetensors"))  # strict: the reference's names
    return model.eval()


@pytest.fixture(scope="session")
def public_refiner() -> SamRefiner:
    """Public SAM's classes at a tiny size with random weights."""
    torch.manual_seed(0)
    return SamRefiner(RefinementSam(PUBLIC_TINY).eval())
