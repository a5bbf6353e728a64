"""Prompts from masks whose right point and box are known."""

import numpy as np
import pytest
import torch

from himtok_core.refine.prompts import deepest_points, mask_logits, prompts_as_reference, prompts_from_masks


def rectangle(x0: int, y0: int, x1: int, y1: int, side: int = 32) -> torch.Tensor:
    """1 inside, 0 outside, both edges x1 and y1 exclusive."""
    mask = torch.zeros(side, side)
    mask[y0:y1, x0:x1] = 1
    return mask


def test_box_and_point_of_a_rectangle_in_pixels_of_the_input() -> None:
    prompts = prompts_from_masks(rectangle(4, 10, 11, 25)[None], scale=4, boxes=True)
    assert prompts.boxes.tolist() == [[16, 40, 44, 100]]
    assert prompts.points.tolist() == [[4 * 7.5 - 0.5, 4 * 17.5 - 0.5]]  # the middle of pixel (7, 17)
    assert prompts.labels.tolist() == [1]


def test_several_masks_do_not_mix() -> None:
    masks = [rectangle(0, 0, 5, 5), rectangle(20, 3, 32, 9), rectangle(31, 31, 32, 32)]
    together = prompts_from_masks(torch.stack(masks), scale=4, boxes=True)
    for index, mask in enumerate(masks):
        alone = prompts_from_masks(mask[None], scale=4, boxes=True)
        assert torch.equal(together.points[index], alone.points[0])
        assert torch.equal(together.boxes[index], alone.boxes[0])


def test_point_lies_inside_where_the_centroid_does_not() -> None:
    ring = rectangle(4, 4, 28, 28) - rectangle(9, 9, 23, 23)
    (x, y), = deepest_points(ring[None] > 0.5).long().tolist()
    assert ring[y, x] == 1
    assert min(x - 4, 27 - x, y - 4, 27 - y) == 2  # in the middle of the five pixels of its band


def test_point_is_in_the_thick_part() -> None:
    """A thin handle pulls the centroid, not the deepest point."""
    spoon = rectangle(2, 12, 13, 23) + rectangle(13, 17, 31, 18)
    assert deepest_points(spoon[None] > 0.5).tolist() == [[7, 17]]


def test_mask_at_the_border_has_its_point_away_from_it() -> None:
    assert deepest_points(rectangle(0, 0, 32, 32)[None] > 0.5)[0].sub(15.5).abs().max() <= 0.5


@pytest.mark.parametrize("seed", range(5))
def test_point_is_on_any_mask(seed: int) -> None:
    masks = torch.from_numpy(np.random.default_rng(seed).random((8, 16, 16)) > 0.7)
    for mask, (x, y) in zip(masks, deepest_points(masks).long().tolist(), strict=True):
        assert mask[y, x]


def test_weights_without_boxes_are_asked_without() -> None:
    assert prompts_from_masks(rectangle(4, 4, 8, 8)[None], scale=4, boxes=False).boxes is None


def test_logits_keep_how_sure_the_map_is() -> None:
    assert mask_logits(torch.tensor([0.0, 0.5, 0.75, 1.0])).tolist() == [-6, 0, 3, 6]


def test_soft_maps_make_the_reference_ask_beside_the_object() -> None:
    """A map that is nowhere exactly 0, as every de-tokenised one; the thresholded mask asks on the object."""
    mask = rectangle(4, 4, 12, 12)[None]
    soft = mask.clamp(1e-4, 1 - 1e-4)
    assert prompts_as_reference(soft, scale=4).labels.tolist() == [0]
    assert prompts_as_reference(mask, scale=4).labels.tolist() == [1]
    assert prompts_from_masks(soft, scale=4, boxes=True).labels.tolist() == [1]
