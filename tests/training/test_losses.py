"""Losses on masks against plain computations of their formulas."""

import math

import numpy as np
import pytest
import torch

from himtok_core.training.losses import dice_loss, grained_labels, level_sigma, mask_loss, sample_levels

SIZE = 32


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    """An L, away from the edges and with corners of both kinds: float32 [SIZE, SIZE]."""
    mask = torch.zeros(SIZE, SIZE)
    mask[6:26, 8:14] = 1
    mask[20:26, 8:24] = 1
    return mask


def gaussian_blur(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Convolution with a 2-D Gaussian of 2 x ceil(3 sigma) + 1 pixels a side, zeros around the mask."""
    reach = math.ceil(3 * sigma)
    padded = np.pad(mask, reach)
    out, total = np.zeros_like(mask), 0.0
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
            rows = slice(reach + dy, reach + dy + mask.shape[0])
            out += weight * padded[rows, reach + dx : reach + dx + mask.shape[1]]
            total += weight
    return out / total


# ---- levels (the paper, section B) -----------------------------------------------------------------------


def test_sigma_of_a_level() -> None:
    assert [level_sigma(level) for level in (1, 3, 4, 19)] == [48, 23, 18, 3]


def test_levels_are_drawn_as_often_as_the_paper_says() -> None:
    count = 200_000
    levels = sample_levels(torch.Generator().manual_seed(0), count)
    assert levels.dtype == torch.int64 and levels.shape == (count,)
    assert levels.min() == 1 and levels.max() == 31
    chances = np.array([1 / (level + 8) for level in range(1, 32)])
    chances /= chances.sum()
    seen = np.bincount(levels.numpy(), minlength=32)[1:] / count
    assert (np.abs(seen - chances) < 5 * np.sqrt(chances / count)).all()


def test_the_generator_decides_the_levels() -> None:
    first, again, other = (sample_levels(torch.Generator().manual_seed(seed), 50) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


# ---- labels ----------------------------------------------------------------------------------------------


def test_a_complete_mask_stays_sharp(mask: torch.Tensor) -> None:
    assert torch.equal(grained_labels(mask[None], torch.tensor([32]))[0], mask)


@pytest.mark.parametrize("level", [1, 2, 5, 12])
def test_labels_equal_a_plain_gaussian(mask: torch.Tensor, level: int) -> None:
    """The paper's sigma is in pixels of a mask of 256; this one is an eighth of that."""
    blurred = gaussian_blur(mask.numpy().astype(np.float64), (100 / (level + 1) - 2) * SIZE / 256)
    label = grained_labels(mask[None], torch.tensor([level]))[0]
    np.testing.assert_allclose(label.numpy(), blurred / blurred.max(), atol=1e-5)


def test_fewer_tokens_are_blurrier_and_every_label_reaches_one(mask: torch.Tensor) -> None:
    levels = torch.arange(1, 33)
    labels = grained_labels(mask.expand(32, -1, -1), levels)
    torch.testing.assert_close(labels.amax((1, 2)), torch.ones(32))
    assert labels.min() >= 0
    distances = (labels - mask).abs().mean((1, 2))
    blurred = distances > 0
    assert blurred[:15].all() and not blurred[-1]
    assert (distances[:-1][blurred[1:]] > distances[1:][blurred[1:]]).all()


def test_each_mask_of_a_batch_has_its_own_level(mask: torch.Tensor) -> None:
    masks, levels = torch.stack([mask, mask.T, mask]), torch.tensor([4, 32, 9])
    together = grained_labels(masks, levels)
    for i in range(3):
        alone = grained_labels(masks[i : i + 1], levels[i : i + 1])[0]
        torch.testing.assert_close(together[i], alone)
    assert torch.equal(masks[0], mask), "the masks themselves stay as they are"


def test_an_empty_mask_has_an_empty_label() -> None:
    assert not grained_labels(torch.zeros(1, SIZE, SIZE), torch.tensor([2])).any()


# ---- losses ----------------------------------------------------------------------------------------------


def test_dice_of_what_overlaps(mask: torch.Tensor) -> None:
    assert dice_loss(mask[None], mask[None]).item() == 0
    assert dice_loss((1 - mask)[None], mask[None]).item() > 0.99
    half = mask.clone()
    half[:20] = 0  # 96 of 180 pixels are left
    expected = 1 - (2 * 96 + 1) / (96 + 180 + 1)
    assert dice_loss(half[None], mask[None]).item() == pytest.approx(expected, rel=1e-5)
    both = dice_loss(torch.stack([mask, half]), torch.stack([mask, mask]))
    assert both.item() == pytest.approx(expected / 2, rel=1e-5)


def test_mask_loss_is_cross_entropy_plus_dice(mask: torch.Tensor) -> None:
    logits = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    target = torch.stack([mask, grained_labels(mask[None], torch.tensor([3]))[0]])
    p = torch.sigmoid(logits).double()
    cross_entropy = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    expected = cross_entropy + 0.25 * dice_loss(p, target.double())
    assert mask_loss(logits, target, 0.25).item() == pytest.approx(expected.item(), rel=1e-5)
