"""The reference implementation's mask losses, number by number."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from himtok_core.lmm import load_released
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training.reference_losses import level_label, mask_losses, sample_indices

PARITY = Path(__file__).parents[1] / "data" / "parity"
FACTS = json.loads((PARITY / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {**load_file(PARITY / "lmm.safetensors"), **load_file(PARITY / "training.safetensors")}


@pytest.fixture(scope="module")
def tokenizer() -> MaskTokenizer:
    return load_released(PARITY / "released_tiny")[0].mask_tokenizer.requires_grad_(False)


def near(value: torch.Tensor, wanted: float) -> None:
    assert value.item() == pytest.approx(wanted, abs=FACTS["scalar_tolerance"], rel=1e-6)


@pytest.mark.parametrize("case", FACTS["sampled"], ids=lambda case: str(case["indices"]))
def test_losses_of_drawn_levels(
    tokenizer: MaskTokenizer, golden: dict[str, torch.Tensor], case: dict
) -> None:
    indices = sample_indices(np.random.RandomState(case["numpy_seed"]), len(case["indices"]))
    assert indices == case["indices"]
    targets = golden["himt/masks"][:2].float()
    complete, levels = mask_losses(tokenizer, golden["soft/tt_probs"], targets, indices)
    near(complete, case["mask_loss"])
    near(levels, case["cos2fine_loss"])


def test_without_levels_and_without_some_runs(
    tokenizer: MaskTokenizer, golden: dict[str, torch.Tensor]
) -> None:
    targets = golden["himt/masks"][:2].float()
    probabilities = golden["soft/tt_probs"]
    complete, levels = mask_losses(tokenizer, probabilities, targets, [])
    near(complete, FACTS["loss"]["mask_loss_cos2fine0"])
    assert levels == 0
    second, _ = mask_losses(tokenizer, probabilities[1:], targets[1:], [])
    near(second, FACTS["loss"]["only_second_valid_mask_loss"])
    none = mask_losses(tokenizer, probabilities[:0], targets[:0], [3])
    assert [value.item() for value in none] == FACTS["loss"]["no_valid_run"]


@pytest.mark.parametrize("index", [-1, 0, 8, 30])
def test_labels_of_levels(golden: dict[str, torch.Tensor], index: int) -> None:
    name = f"loss/label_index_{str(index).replace('-', 'm')}"
    label = level_label(golden["himt/masks"][:2].float(), index)
    torch.testing.assert_close(label, golden[name], rtol=0, atol=FACTS["tolerances"][name])


def test_levels_come_as_often_as_in_the_reference() -> None:
    random = np.random.RandomState(0)
    drawn = np.array([sample_indices(random, 1)[0] for _ in range(20_000)])
    shares = [(drawn == index).mean() for index in range(-1, 31)]
    assert np.abs(np.array(shares) - FACTS["level_index_distribution"]).max() < 0.007
