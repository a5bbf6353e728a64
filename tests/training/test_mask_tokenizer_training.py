"""Training the mask tokenizer: a resumed run is the same run, and the codebook's own functions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from himtok_core.data.scenes import HELD_OUT_SEED, World, make_scene
from himtok_core.geometry import mask_to_rle, stretch_mask
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training import tokenizer
from himtok_core.training.mask_data import MaskBatches, load_photo_masks, scene_masks
from himtok_core.training.tokenizer import CodebookTracker, Settings, kmeans, score, train

from .conftest import Killed, Pace, assert_same, load_state, small_mask_config

SMALL = Settings(steps=6, batch=6, quantise_from=1, restart_every=2)


@pytest.fixture
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores on two held-out scenes instead of many."""

    def few(seed: int, world: World, size: int) -> list[np.ndarray]:
        return scene_masks(seed, world, size) if seed < HELD_OUT_SEED + 2 else []

    monkeypatch.setattr(tokenizer, "scene_masks", few)


# ---- the run ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_held_out")
def test_stopped_killed_and_resumed_is_the_same_run(
    tmp_path: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.rules(tokenizer, monkeypatch)
    config = small_mask_config(codebook_size=64)
    whole = train(SMALL, tmp_path / "whole", config=config)
    train(SMALL, tmp_path / "parts", minutes=2.5, config=config)
    assert load_state(tmp_path / "parts")["step"] == 3
    pace.kill_at = 4
    with pytest.raises(Killed):
        train(SMALL, tmp_path / "parts", config=config)
    pace.kill_at = None
    parts = train(SMALL, tmp_path / "parts", config=config)
    assert pace.steps == [0, 1, 2, 3, 4, 5] + [0, 1, 2] + [3, 4] + [3, 4, 5]
    assert_same(load_state(tmp_path / "whole"), load_state(tmp_path / "parts"))
    assert_same(dict(whole.state_dict()), dict(parts.state_dict()))

    shipped = MaskTokenizer.from_pretrained(tmp_path / "parts" / "model")
    assert_same(dict(shipped.state_dict()), dict(parts.state_dict()))
    rows = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6] and 0 <= rows[-1]["iou@32"] <= 1
    assert train(SMALL, tmp_path / "parts", config=config) is not None
    assert len(pace.steps) == 14, "a finished run is not trained any further"


@pytest.mark.usefixtures("few_held_out")
def test_training_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask again and again: soon it comes back as it went in."""
    masks = torch.zeros(2, 32, 32)
    masks[:, 8:, :16] = 1
    monkeypatch.setattr(tokenizer, "learning_rate", lambda step, steps, warmup: 1.0)
    batch = (255 * masks).to(torch.uint8), torch.tensor([32, 9])
    monkeypatch.setattr(MaskBatches, "__call__", lambda self, step: batch)
    config = small_mask_config(codebook_size=8)
    model = train(Settings(steps=40, batch=2, quantise_from=20, lr=3e-3), tmp_path, config=config)
    drawn = model.decode_prefixes(model.encode(masks[:1]), [9, 32])[0] > 0.5
    assert (drawn == masks.bool()).float().mean() > 0.95


@pytest.mark.usefixtures("few_held_out")
def test_a_run_goes_on_from_a_trained_tokenizer(tmp_path: Path, mask_tokenizer: MaskTokenizer) -> None:
    """Its codes are kept from the first step on: nothing is started anew by k-means."""
    mask_tokenizer.save_pretrained(tmp_path / "first")
    settings = replace(SMALL, init=str(tmp_path / "first"), steps=1)
    model = train(settings, tmp_path / "second")
    alike = F.cosine_similarity(mask_tokenizer.quantize.codebook(), model.quantize.codebook())
    assert 0.9 < alike.min() < 1 - 1e-6, "those that are used move a little"
    assert not torch.equal(model.decoder.decoder_embed.weight, mask_tokenizer.decoder.decoder_embed.weight)


# ---- batches ---------------------------------------------------------------------------------------------


def test_masks_of_a_scene_are_its_objects_and_a_union(world: World) -> None:
    for seed in range(10):
        masks = scene_masks(seed, world, 32)
        assert all(mask.dtype == np.uint8 and mask.shape == (32, 32) for mask in masks)
        masks = [mask.astype(np.float32) / 255 for mask in masks]
        scene = make_scene(seed, world)
        objects = len(scene.objects)
        assert len(masks) == (objects if objects == 1 else objects + 1)
        for mask, item in zip(masks, scene.objects, strict=False):
            assert np.array_equal(mask, stretch_mask(item.mask, 32))
        if objects > 1:
            inside = [(mask * masks[-1]).sum() > 0.9 * (mask**2).sum() for mask in masks[:-1]]
            assert sum(inside) >= 2


def test_a_batch_is_a_function_of_its_step(world: World) -> None:
    batches = MaskBatches(world, 32, 8, seed=5, photo_masks=None)
    masks, lengths = batches(3)
    assert masks.shape == (8, 32, 32) and masks.dtype == torch.uint8
    assert (masks.amax((1, 2)) > 127).all() and (masks == 0).any()
    again = MaskBatches(world, 32, 8, seed=5, photo_masks=None)(3)
    assert torch.equal(masks, again[0]) and torch.equal(lengths, again[1])
    assert not torch.equal(masks, batches(4)[0])


def test_lengths_reach_from_one_to_all(world: World) -> None:
    photo = np.full((1, 4, 4), 255, dtype=np.uint8)
    lengths = MaskBatches(world, 4, 6000, seed=0, photo_masks=photo, photo_share=0.8)(0)[1]
    assert lengths.min() == 1 and lengths.max() == 32
    assert set(range(1, 33)) <= set(lengths.tolist())
    assert 0.3 < (lengths == 32).float().mean() < 0.9


def test_photo_masks_take_their_share(world: World, tmp_path: Path) -> None:
    left = np.zeros((40, 80), dtype=bool)
    left[:, :40] = True
    path = tmp_path / "masks.json"
    path.write_text(json.dumps({"masks": [{"rle": mask_to_rle(left)}, {"rle": mask_to_rle(~left)}]}))
    photos = load_photo_masks(path, 32)
    assert photos.shape == (2, 32, 32) and photos.dtype == np.uint8
    assert photos[0, :, :15].min() == 255 and photos[0, :, 17:].max() == 0
    np.testing.assert_allclose(photos.astype(np.float32).sum(0) / 255, 1, atol=0.01)
    masks, _ = MaskBatches(world, 32, 8, seed=0, photo_masks=photos, photo_share=0.5)(0)
    halves = [mask for mask in masks if (mask == mask[0]).all() or (mask == mask[:, :1]).all()]
    assert len(masks) == 8 and len(halves) == 4


def test_a_photographs_mask_is_what_is_more_than_half_inside(world: World) -> None:
    photo = np.full((1, 32, 32), 100, dtype=np.uint8)
    photo[:, :, 10:22] = 255  # some of it is in every window
    masks, _ = MaskBatches(world, 32, 10, seed=0, photo_masks=photo, photo_share=0.8)(0)
    assert all((mask == 0).float().mean() > 0.1 and (mask == 255).any() for mask in masks[-8:])


def test_odd_shapes_are_mixed_in(world: World) -> None:
    """Of ten masks two are of shapes that scenes hardly have."""
    batches = MaskBatches(world, 32, 10, 0, None)
    masks, lengths = batches(0)
    assert batches.odd == 2 and masks.shape == (10, 32, 32) and lengths.shape == (10,)
    assert torch.equal(batches(0)[0], masks)


# ---- codebook --------------------------------------------------------------------------------------------


def clusters(count: int, each: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors in tight groups around the first `count` axes of 12 dimensions: centres, members."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(12)[:count]
    members = centres.repeat_interleave(each, 0) + 0.02 * torch.randn(count * each, 12, generator=generator)
    return centres, F.normalize(members, dim=-1)


def test_kmeans_finds_groups() -> None:
    centres, members = clusters(2, 50)
    torch.manual_seed(1)
    found = kmeans(members, 8)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(8))
    nearest = (centres @ found.T).amax(1)
    assert nearest.min() > 0.99, "every group has a centre"
    assert (found @ centres.T).amax(1).min() > 0.99, "and every centre a group"


def test_kmeans_is_the_same_for_the_same_seed() -> None:
    _, members = clusters(4, 30)
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append(kmeans(members, 16))
    assert torch.equal(*runs)


def test_the_codebook_follows_what_chooses_it() -> None:
    codebook = F.normalize(torch.randn(4, 12, generator=torch.Generator().manual_seed(0)), dim=-1)
    before = codebook.clone()
    tracker = CodebookTracker(codebook, ema=0.5)
    goal = F.normalize(torch.ones(12), dim=-1)
    for _ in range(20):
        tracker.update(goal.expand(10, -1), torch.full((10,), 2), codebook)
    torch.testing.assert_close(codebook[2], goal, rtol=0, atol=1e-4)
    torch.testing.assert_close(codebook[[0, 1, 3]], before[[0, 1, 3]], rtol=0, atol=1e-6)
    torch.testing.assert_close(codebook.norm(dim=-1), torch.ones(4))
    assert tracker.count.argmax() == 2


def test_one_update_is_a_moving_average() -> None:
    codebook = torch.eye(12)[:2].clone()
    tracker = CodebookTracker(codebook, ema=0.9)
    z = torch.eye(12)[[2, 2, 3]]
    tracker.update(z, torch.tensor([0, 0, 1]), codebook)
    torch.testing.assert_close(tracker.count, torch.tensor([0.9 + 0.2, 0.9 + 0.1]))
    expected = F.normalize(0.9 * torch.eye(12)[0] + 0.2 * torch.eye(12)[2], dim=0)
    torch.testing.assert_close(codebook[0], expected)


def test_codes_out_of_use_start_anew() -> None:
    codebook = torch.eye(12)[:5].clone()
    tracker = CodebookTracker(codebook, ema=0.99)
    tracker.count = torch.tensor([10.0, 8.0, 0.01, 12.0, 0.0])
    _, z = clusters(12, 3)
    torch.manual_seed(0)
    assert tracker.restart(z, codebook) == 2
    for code in (2, 4):
        assert (z == codebook[code]).all(1).any(), "it is a member of what the encoder says"
        torch.testing.assert_close(F.normalize(tracker.total[code], dim=0), codebook[code])
    assert torch.equal(codebook[[0, 1, 3]], torch.eye(12)[[0, 1, 3]])
    assert tracker.restart(z, codebook) == 0, "now they have a chance to be chosen"


# ---- scores ----------------------------------------------------------------------------------------------


def test_scores_of_a_tokenizer_that_draws_one_and_the_same(mask_tokenizer: MaskTokenizer) -> None:
    masks = torch.zeros(4, 32, 32)
    masks[:2] = 1
    drawn = mask_tokenizer.decode_prefixes(mask_tokenizer.encode(masks), [1, 32]) > 0.5
    row = score(mask_tokenizer, masks)
    for place, length in enumerate((1, 32)):
        # Of a full mask the IoU is the part that was drawn, of an empty one it is zero.
        expected = drawn[:2, place].float().mean().item() / 2
        assert row[f"iou@{length}"] == pytest.approx(expected, abs=1e-4)
    assert 1 <= row["perplexity"] <= row["codes"] <= 64
