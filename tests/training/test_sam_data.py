"""Imperfect masks: seeded, in range, never empty, and imperfect in the ways that are meant."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from himtok_core.chat import load
from himtok_core.data.world import World
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.refine import SamConfig
from himtok_core.training import sam_data
from himtok_core.training.sam_data import RefinementBatches, imperfect
from himtok_core.training.sam_sources import SceneSource

SMALL = replace(SamConfig.mini(), image_size=64)


@pytest.fixture(scope="module")
def batches(world: World, mask_tokenizer: MaskTokenizer) -> RefinementBatches:
    return RefinementBatches(SceneSource(world), mask_tokenizer, SMALL, pictures=3, masks=2, seed=0)


def squares(count: int, side: int = 32) -> torch.Tensor:
    masks = torch.zeros(count, side, side)
    masks[:, 10:22, 8:20] = 1
    return masks


def test_shapes_and_ranges(batches: RefinementBatches) -> None:
    batch = batches(0)
    assert batch.pictures.shape == (3, 3, 64, 64) and batch.pictures.dtype == torch.uint8
    assert batch.maps.shape == (6, 32, 32) and batch.truths.shape == (6, 64, 64)
    assert batch.owners.shape == (3, 32, 32) and batch.owners.dtype == torch.int64
    for tensor in (batch.maps, batch.truths):
        assert tensor.min() >= 0 and tensor.max() <= 1
        assert (tensor > 0.5).flatten(1).any(1).all()


def test_a_batch_depends_on_seed_and_step_alone(
    batches: RefinementBatches, world: World, mask_tokenizer: MaskTokenizer
) -> None:
    again = RefinementBatches(SceneSource(world), mask_tokenizer, SMALL, pictures=3, masks=2, seed=0)(5)
    other_seed = RefinementBatches(SceneSource(world), mask_tokenizer, SMALL, pictures=3, masks=2, seed=1)(5)
    batches(0)
    batch = batches(5)
    assert torch.equal(batch.maps, again.maps) and torch.equal(batch.pictures, again.pictures)
    assert not torch.equal(batch.pictures, batches(6).pictures)
    assert not torch.equal(batch.pictures, other_seed.pictures)


def test_truths_and_owners_are_of_the_picture_they_come_with(batches: RefinementBatches) -> None:
    """Each true mask covers only pixels that belong to objects of its own picture."""
    batch = batches(1)
    for index, truth in enumerate(batch.truths):
        owned = (batch.owners[index // 2] > 0).repeat_interleave(2, 0).repeat_interleave(2, 1)
        inside = (truth > 0.5) & owned
        assert inside.sum() > 0.9 * (truth > 0.5).sum()


def test_a_padded_sam_has_truths_where_the_picture_is(world: World, mask_tokenizer: MaskTokenizer) -> None:
    config = replace(SMALL, stretch=False)
    batch = RefinementBatches(SceneSource(world), mask_tokenizer, config, pictures=4, masks=1, seed=0)(0)
    blank = (batch.pictures == 0).all(1)  # (P, I, I)
    padding = blank.all(2)[:, :, None] | blank.all(1)[:, None, :]  # rows and columns without picture
    assert padding.any() and not padding.all()
    assert not ((batch.truths > 0.5) & padding).any()


def test_masks_are_drawn_from_as_many_tokens_as_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything else switched off, M_in is the tokenizer's own drawing from a prefix, of any length."""
    for name in ("MISPLACED", "REPLACED", "MORPHED", "WHOLE"):
        monkeypatch.setattr(sam_data, name, 0.0)
    mask_tokenizer = load(Path(__file__).parents[2] / "assets" / "himtok-mini", device="cpu").mask_tokenizer
    masks = squares(16, side=64)
    masks[:, 20:50, 15:50] = 1
    drawn = imperfect(np.random.default_rng(0), masks, mask_tokenizer)
    prefixes = mask_tokenizer.decode_prefixes(mask_tokenizer.encode(masks[:1]), list(range(1, 33)))[0]
    away = (drawn[:, None] - prefixes).abs().amax((2, 3))  # (16, 32)
    assert (away.amin(1) < 1e-5).all()
    assert len(set(away.argmin(1).tolist())) > 5


def test_dilation_and_erosion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_data, "MORPHED", 1.0)
    masks = squares(60)
    areas = sam_data._morphed(np.random.default_rng(0), masks).sum((1, 2)).tolist()
    assert {*areas} == {(12 + 2 * step) ** 2 for step in (-3, -2, -1, 1, 2, 3)}


def test_a_misplaced_mask_keeps_about_its_size_and_place() -> None:
    masks = squares(60)
    moved = sam_data._misplaced(np.random.default_rng(0), masks) > 0.5
    overlap = (moved & (masks > 0.5)).sum((1, 2)) / (moved | (masks > 0.5)).sum((1, 2))
    assert overlap.min() > 0.3
    assert 0.6 < overlap.mean() < 0.95
    along = torch.arange(32.0)
    centres = (moved.sum(1) * along).sum(1) / moved.sum((1, 2))
    assert abs(centres.mean() - 13.5) < 0.5 and centres.std() > 0.5  # to both sides


def test_what_would_be_empty_is_the_true_mask(
    mask_tokenizer: MaskTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = torch.zeros(3, 32, 32)
    monkeypatch.setattr(sam_data, "_drawn", lambda tokenizer, tokens, lengths: nothing.clone())
    masks = squares(3)
    assert torch.equal(imperfect(np.random.default_rng(0), masks, mask_tokenizer), masks)
