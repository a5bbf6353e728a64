"""Scenes as tensors: what each patch shows, and conversations about them, ready to learn from."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from himtok_core.data.follow_ups import converse
from himtok_core.data.questions import MASK, WEIGHTS, Question
from himtok_core.data.scenes import World, make_scene
from himtok_core.geometry import stretch_mask
from himtok_core.lmm import HimtokProcessor
from himtok_core.training import scene_batches
from himtok_core.training.packing import Packed, pack
from himtok_core.training.scene_batches import (
    ConversationBatches,
    DenseTargets,
    PatchBatches,
    as_shares,
    dense_targets,
    normalised,
    pixels,
    world_names,
)

SCENES = 4


@pytest.fixture(scope="module")
def batches(processor: HimtokProcessor, world: World) -> ConversationBatches:
    patches = PatchBatches(processor, world, SCENES, seed=0, grid=8, mask_size=32)
    return ConversationBatches(patches, questions=8, weights=WEIGHTS, next_turn=0.5)


def assert_same_fields(first: Packed | DenseTargets, second: Packed | DenseTargets) -> None:
    """Every tensor of one is that of the other."""
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


# ---- conversations ---------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_its_step(batches: ConversationBatches) -> None:
    drawn, again, other = batches(0), batches(0), batches(1)
    assert torch.equal(again.pixels, drawn.pixels) and torch.equal(again.masks, drawn.masks)
    assert_same_fields(again.packed, drawn.packed)
    assert_same_fields(again.targets, drawn.targets)
    assert batches.asked(0).branches == batches.asked(0).branches
    assert drawn.packed.conversations > SCENES
    assert not torch.equal(other.pixels, drawn.pixels)
    assert not torch.equal(other.packed.owner, drawn.packed.owner)


def test_a_batch_is_what_is_asked_but_for_what_would_give_the_answers_away(
    batches: ConversationBatches,
) -> None:
    drawn, asked = batches(2), batches.asked(2)
    expected_pixels, targets = batches.patches.of(asked.scenes)
    assert torch.equal(drawn.pixels, expected_pixels) and torch.equal(drawn.masks, asked.masks)
    assert_same_fields(drawn.targets, targets)
    told = pack(asked.branches, batches.writer, targets.owner.numpy(), targets.boxes.numpy())
    assert torch.equal(drawn.packed.owner, told.owner) and not torch.equal(drawn.packed.ids, told.ids)
    batches.writer.forget_answers(asked.branches, np.random.default_rng([0, 2, 1]))
    kept = pack(asked.branches, batches.writer, targets.owner.numpy(), targets.boxes.numpy())
    assert_same_fields(drawn.packed, kept)


@pytest.mark.parametrize("full", [False, True])
def test_conversations_refer_to_the_masks_of_their_questions(
    full: bool, processor: HimtokProcessor, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask that several questions are about is there once."""
    conversations: list[list[Question]] = []

    def kept(*arguments: object) -> list[Question]:
        conversations.append(converse(*arguments))
        return conversations[-1]

    monkeypatch.setattr(scene_batches, "converse", kept)
    patches = PatchBatches(processor, World.full() if full else world, SCENES, seed=0, grid=8, mask_size=32)
    asked = ConversationBatches(patches, 8, WEIGHTS, next_turn=0.5).asked(0)
    used, places, masks = set(), 0, {}
    for branch, turns in zip(asked.branches, conversations, strict=True):
        shown = [mask for question in turns for mask in question.prompt_masks]
        answered = [mask for question in turns for mask in question.answer_masks]
        for runs, expected in ((branch.shown, shown), (branch.runs, answered)):
            for (_, _, index), mask in zip(runs, expected, strict=True):
                assert torch.equal(as_shares(asked.masks[index]), torch.from_numpy(stretch_mask(mask, 32)))
                assert masks.setdefault((mask.shape, mask.tobytes()), index) == index
                used.add(index)
                places += 1
    assert asked.masks.dtype == torch.uint8 and asked.masks.shape == (len(masks), 32, 32)
    assert used == set(range(len(masks))) and len(masks) < places


def test_masks_are_told_apart_by_their_place_and_their_shape(
    processor: HimtokProcessor, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each turn first those that the question shows, then the answer's."""
    left, right = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    left[:, :10], right[:, 30:] = True, True
    other_shape = left.reshape(40, 20)
    turns = [
        Question("x", f"Not {MASK}?", f"No, {MASK}.", (left,), (right,)),
        Question("x", "And all?", f"{MASK}, {MASK}, {MASK}.", (), (left, other_shape, right.copy())),
    ]
    monkeypatch.setattr(scene_batches, "converse", lambda *_: turns)
    patches = PatchBatches(processor, world, 2, seed=0, grid=8, mask_size=32)
    asked = ConversationBatches(patches, 2, WEIGHTS, next_turn=0.5).asked(0)
    assert len(asked.branches) == 2, "one for each picture"
    for branch in asked.branches:
        assert [index for *_, index in branch.shown] == [0]
        assert [index for *_, index in branch.runs] == [1, 0, 2, 1]
    expected = np.stack([stretch_mask(mask, 32) for mask in (left, right, other_shape)])
    assert torch.equal(as_shares(asked.masks), torch.from_numpy(expected))


def test_a_batch_without_masks_has_none(processor: HimtokProcessor, world: World) -> None:
    patches = PatchBatches(processor, world, 2, seed=0, grid=8, mask_size=32)
    drawn = ConversationBatches(patches, 2, {"count": 1.0}, next_turn=0.0)(0)
    assert drawn.masks.shape == (0, 32, 32) and drawn.masks.dtype == torch.uint8
    assert drawn.packed.conversations == 4 and drawn.packed.drawn.shape == (3, 0)


def test_turns_of_the_full_world_lean_on_one_another(processor: HimtokProcessor) -> None:
    patches = PatchBatches(processor, World.full(), 3, seed=0, grid=8, mask_size=32)
    asked = ConversationBatches(patches, 12, WEIGHTS, next_turn=0.8).asked(0)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lengths = [branch.labels.count(end) for branch in asked.branches]
    assert max(lengths) > 3 and sum(lengths) == 36
    used = {index for branch in asked.branches for *_, index in branch.runs + branch.shown}
    assert used == set(range(len(asked.masks)))


# ---- patches ---------------------------------------------------------------------------------------------


def test_patches_belong_to_the_objects_they_show(world: World) -> None:
    scenes = [make_scene(seed, world) for seed in range(12)]
    names = {name: i for i, name in enumerate(world_names(world))}
    targets = dense_targets(scenes, names, grid=8, mask_size=32)
    items = [item for scene in scenes for item in scene.objects]
    assert targets.owner.shape == (12, 64)
    assert [world_names(world)[i] for i in targets.names] == [item.name for item in items]
    owned, place = set(), 0
    for row, scene in zip(targets.owner, scenes, strict=True):
        width, height = scene.size
        mine = set(range(place, place + len(scene.objects)))
        assert set(row.tolist()) <= mine | {-1, -2}
        for patch, owner in enumerate(row.tolist()):
            top, left = patch // 8, patch % 8
            rows = slice(round(top * height / 8), round((top + 1) * height / 8))
            columns = slice(round(left * width / 8), round((left + 1) * width / 8))
            cover = [item.mask[rows, columns].mean() for item in scene.objects]
            if owner >= 0:
                assert cover[owner - place] > 0.15 and cover[owner - place] > max(cover) - 0.1
            elif owner == -1:
                assert max(cover) < 0.12
        owned |= mine & set(row.tolist())
        place += len(scene.objects)
    assert len(owned) > 0.9 * len(items), "nearly everything has a patch of its own"


def test_boxes_shapes_and_masks_of_objects(world: World) -> None:
    scene = make_scene(3, world)
    names = {name: i for i, name in enumerate(world_names(world))}
    targets = dense_targets([scene], names, grid=8, mask_size=64)
    width, height = scene.size
    for i, item in enumerate(scene.objects):
        x0, y0, x1, y1 = (targets.boxes[i] * torch.tensor([width, height, width, height])).tolist()
        assert (x0, y0, x1, y1) == pytest.approx(item.box, abs=1e-3)
        assert torch.equal(as_shares(targets.masks[i]), torch.from_numpy(stretch_mask(item.mask, 64)))
        assert targets.shapes[i].mean().item() == pytest.approx(item.mask.mean(), abs=0.02)
        corners = targets.shapes[i].reshape(16, 16).nonzero().float() / 16
        assert corners.min(0).values[0] == pytest.approx(y0 / height, abs=0.1)


def test_names_are_complete_and_unique(world: World) -> None:
    names = world_names(world)
    assert len(set(names)) == len(names) == len(world.concepts) + len(world.shapes) * len(world.colours)
    assert {item.name for seed in range(30) for item in make_scene(seed, world).objects} <= set(names)


def test_pixels_are_the_processors(processor: HimtokProcessor, world: World) -> None:
    scenes = [make_scene(seed, world) for seed in (1, 2)]
    side = processor.image_processor.image_size
    values = normalised(pixels(scenes, side))
    assert values.shape == (2, 3, side, side)
    alone = processor.image_processor(scenes[1].picture)["pixel_values"]
    torch.testing.assert_close(values[1:], alone)
