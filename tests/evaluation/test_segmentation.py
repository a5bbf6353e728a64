"""Scores of masks beyond overlap: cases worked by hand, and the same computed in other ways."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from himtok_core.evaluation import metrics, segmentation
from himtok_core.evaluation.segmentation import GeneralizedCase, Matches


def blobs(seed: int, shape: tuple[int, int] = (40, 56)) -> np.ndarray:
    """A random mask of smooth shapes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(1, 5)):
        y, x, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(2, 12)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_iou_agrees_with_pycocotools(seed: int) -> None:
    first, second = blobs(seed), blobs(seed + 100)
    codes = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in (first, second)]
    expected = coco_mask.iou([codes[0]], [codes[1]], [0])[0, 0]
    assert metrics.iou(metrics.overlap(first, second)) == pytest.approx(expected, abs=1e-12)


def test_ignored_pixels_count_nowhere() -> None:
    predicted = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    truth = np.array([[0, 1, 1, 1, 0, 0]], dtype=bool)
    ignored = np.array([[1, 0, 1, 0, 0, 1]], dtype=bool)
    assert metrics.overlap(predicted, truth) == (2, 4)
    assert metrics.overlap(predicted, truth, ignored) == (1, 2)


@pytest.mark.parametrize("seed", range(6))
def test_boundary_agrees_with_scikit_image(seed: int) -> None:
    mask = blobs(seed)
    padded = find_boundaries(np.pad(mask, 1), connectivity=1, mode="inner", background=0)
    assert np.array_equal(segmentation.boundary(mask), padded[1:-1, 1:-1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [0.5, 1.0, 1.5, 2.9, 7.3, 200.0])
def test_within_agrees_with_the_distance_transform(seed: int, distance: float) -> None:
    mask = segmentation.boundary(blobs(seed))
    assert np.array_equal(segmentation.within(mask, distance), distance_transform_edt(~mask) <= distance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.0075, 0.03, 0.1])
def test_boundary_f_agrees_with_distances_between_all_pixels(seed: int, tolerance: float) -> None:
    predicted, truth = blobs(seed), blobs(seed + 50)
    ours, theirs = (np.argwhere(segmentation.boundary(mask)) for mask in (predicted, truth))
    apart = np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(axis=2))
    near = apart <= tolerance * math.hypot(*truth.shape)
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert segmentation.boundary_f(predicted, truth, tolerance) == pytest.approx(expected, abs=1e-12)


def test_boundary_f_by_hand() -> None:
    truth = np.zeros((300, 400), dtype=bool)  # the diagonal is 500, so 3.75 pixels are near
    truth[100:200, 100:200] = True
    for shift, expected in ((0, 1.0), (3, 1.0), (4, 0.5)):
        moved = np.roll(truth, shift, axis=1)
        # Moved by 4 the two upright sides are too far away, the other two stay: half of the boundary.
        assert segmentation.boundary_f(moved, truth) == pytest.approx(expected, abs=0.03)
    empty = np.zeros_like(truth)
    assert segmentation.boundary_f(empty, empty) == 1.0
    assert segmentation.boundary_f(empty, truth) == segmentation.boundary_f(truth, empty) == 0.0


def test_generalized_scores_by_hand() -> None:
    cases = [
        GeneralizedCase((60, 100), no_target=False, said_none=False),  # 0.6
        GeneralizedCase((10, 90), no_target=False, said_none=True),  # missed: 0, its union still counts
        GeneralizedCase((0, 0), no_target=True, said_none=True),  # rightly empty: 1
        GeneralizedCase((0, 30), no_target=True, said_none=True),  # under 50 pixels: 1, nothing counted
        GeneralizedCase((0, 210), no_target=True, said_none=False),  # 0
    ]
    scores = segmentation.generalized_scores(cases)
    assert scores["gIoU"] == pytest.approx((0.6 + 0 + 1 + 1 + 0) / 5)
    assert scores["cIoU"] == pytest.approx(60 / (100 + 90 + 210))
    assert scores["N-acc"] == pytest.approx(2 / 3)
    assert scores["T-acc"] == pytest.approx(1 / 2)
    only_targets = segmentation.generalized_scores(cases[:1])
    assert math.isnan(only_targets["N-acc"]) and only_targets["T-acc"] == 1.0
    assert all(math.isnan(value) for value in segmentation.generalized_scores([]).values())


def test_mean_iou_by_hand() -> None:
    # Class 0: 6 of 8 found, 1 taken from class 1; class 1: 1 of 2 found, 0 wrong; class 2 is nowhere.
    confusion = np.array([[6, 0, 0, 2], [1, 1, 0, 0], [0, 0, 0, 0]])
    value, ious = segmentation.mean_iou(confusion)
    assert ious[:2] == [pytest.approx(6 / 9), pytest.approx(1 / 2)] and math.isnan(ious[2])
    assert value == pytest.approx((6 / 9 + 1 / 2) / 2)
    assert math.isnan(segmentation.mean_iou(np.zeros((2, 3), dtype=int))[0])


def test_panoptic_matching_by_hand() -> None:
    #               void  thing A     thing B   crowd     stuff
    truth = np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 8)[None]
    kinds = {1: 10, 2: 10, 3: 10, 4: 20}
    #                    5: half void   6: a third of B      7: in the crowd  8: stuff
    predicted = np.array([0, 0, 5, 5] + [5] * 3 + [0] + [6] * 2 + [0] * 2 + [7] * 4 + [8] * 6 + [0] * 2)[None]
    ours = {5: 10, 6: 10, 7: 10, 8: 20}
    found = segmentation.match_segments(predicted, ours, truth, kinds, crowds={3})
    # 5 covers 3 of A's 4 pixels; its two void pixels leave the union. 6 has IoU 0.5, which is not over 0.5.
    assert found[10] == Matches(matched=1, iou_sum=3 / 4, wrong=1, missed=1)
    assert found[20] == Matches(matched=1, iou_sum=6 / 8, wrong=0, missed=0)
    quality = segmentation.panoptic_quality([found, found])
    assert quality == {10: pytest.approx(0.75 / (1 + 0.5 + 0.5)), 20: pytest.approx(0.75)}


def test_a_segment_of_another_class_is_wrong_and_one_in_void_is_not() -> None:
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    predicted = np.array([[1, 1, 1, 2, 2, 2]])
    found = segmentation.match_segments(predicted, {1: 20, 2: 20}, truth, {1: 10})
    assert found == {10: Matches(missed=1), 20: Matches(wrong=1)}
    assert segmentation.panoptic_quality([found]) == {10: 0.0, 20: 0.0}
