"""The reference implementation's way of counting, to the last digit of its own numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core.evaluation import metrics, reference

GOLDENS = json.loads((Path(__file__).parents[1] / "data/parity/evaluation.json").read_text(encoding="utf-8"))
MASKS = GOLDENS["segmentation"]


def pair(item: dict) -> metrics.Overlap:
    labels = np.array(item["gt"], dtype=np.uint8)
    return reference.overlap(np.array(item["pred_soft"], dtype=np.float32), labels)


@pytest.mark.parametrize("item", MASKS["items"])
def test_overlap_and_iou(item: dict) -> None:
    assert pair(item) == (item["intersection"], item["union"])
    assert reference.iou(pair(item)) == item["iou"]


def test_both_means() -> None:
    pairs = [pair(item) for item in MASKS["items"]]
    assert reference.ciou(pairs) == MASKS["cIoU"]
    assert reference.giou(pairs) == MASKS["gIoU"]


def test_what_is_to_be_ignored_counts_as_found_there_and_not_in_the_field() -> None:
    items = [item for item in MASKS["items"] if (np.array(item["gt"]) == 255).any()]
    assert items
    for item in items:
        labels = np.array(item["gt"], dtype=np.uint8)
        soft = np.array(item["pred_soft"])
        if soft.shape == labels.shape:
            counted = metrics.overlap(soft > 0.5, labels == 1, labels == 255)
            assert counted[0] < item["intersection"] and metrics.iou(counted) < item["iou"]


def test_an_answer_without_a_mask_is_an_empty_one() -> None:
    labels = np.array([[1, 0, 255]], dtype=np.uint8)
    assert reference.overlap(None, labels) == (1, 2)
    assert reference.iou((0, 0)) == 1.0


@pytest.mark.parametrize("case", GOLDENS["grounding"]["cases"], ids=lambda case: case["answer"])
def test_boxes(case: dict) -> None:
    box = reference.box_in_pixels(case["answer"], (case["width"], case["height"]))
    assert list(box) == case["pred_xyxy_pixels"]
    assert reference.box_iou(box, case["gt_xyxy"]) == case["iou"]


def test_several_expressions_in_one_question() -> None:
    together = "Meet all the descriptions: 1. red square. 2. the square. "
    assert reference.all_descriptions(["red square", "the square"]) == together
