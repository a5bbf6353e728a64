"""Scores, against cases worked out by hand."""

import math

import numpy as np
import pytest

from himtok_core.evaluation import metrics


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_overlap_counts_pixels() -> None:
    first = mask("##..", "##..")
    second = mask(".##.", ".##.")
    assert metrics.overlap(first, second) == (2, 6)
    assert metrics.overlap(first, first) == (4, 4)
    assert metrics.overlap(first, ~first) == (0, 8)


def test_overlap_refuses_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4\).*\(2, 4\)"):
        metrics.overlap(mask("####"), mask("####", "...."))


def test_iou_of_two_empty_masks_is_one() -> None:
    nothing = mask("....")
    assert metrics.iou(metrics.overlap(nothing, nothing)) == 1.0
    assert metrics.iou(metrics.overlap(nothing, mask("#..."))) == 0.0
    assert metrics.iou((2, 6)) == pytest.approx(1 / 3)


def test_giou_weighs_pictures_and_ciou_weighs_pixels() -> None:
    pairs = [(90, 100), (1, 10)]  # a large object nearly right, a small one nearly wrong
    assert metrics.giou(pairs) == pytest.approx((0.9 + 0.1) / 2)
    assert metrics.ciou(pairs) == pytest.approx(91 / 110)


def test_an_empty_pair_counts_for_giou_only() -> None:
    pairs = [(0, 0), (5, 10)]
    assert metrics.giou(pairs) == pytest.approx(0.75)
    assert metrics.ciou(pairs) == pytest.approx(0.5)
    assert metrics.ciou([(0, 0)]) == 1.0


def test_a_box_at_the_threshold_is_right() -> None:
    assert metrics.accuracy_at([0.5, 0.49, 0.9, 0.0], 0.5) == 0.5
    assert metrics.accuracy_at([0.5, 0.49, 0.9, 0.0], 0.75) == 0.25


def test_without_pictures_there_is_no_score() -> None:
    for value in (metrics.giou([]), metrics.ciou([]), metrics.accuracy_at([], 0.5), metrics.mean([])):
        assert math.isnan(value)
    assert math.isnan(metrics.perplexity(np.zeros(4, dtype=int)))


def test_perplexity() -> None:
    assert metrics.perplexity(np.array([7, 7, 7, 7])) == pytest.approx(4)
    assert metrics.perplexity(np.array([0, 9, 0])) == pytest.approx(1)
    # Entropy of 1/2, 1/4, 1/4 is 1.5 bits.
    assert metrics.perplexity(np.array([2, 1, 1, 0])) == pytest.approx(2**1.5)


def test_yes_and_no_against_a_table_by_hand() -> None:
    # 3 right yes, 1 wrong yes, 4 right no, 2 missed
    pairs = [(True, True)] * 3 + [(True, False)] + [(False, False)] * 4 + [(False, True)] * 2
    scores = metrics.binary_scores(pairs)
    assert scores.count == 10
    assert scores.accuracy == pytest.approx(7 / 10)
    assert scores.precision == pytest.approx(3 / 4)
    assert scores.recall == pytest.approx(3 / 5)
    assert scores.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert scores.yes_ratio == pytest.approx(4 / 10)


def test_yes_and_no_without_a_yes() -> None:
    scores = metrics.binary_scores([(False, False), (False, False)])
    assert (scores.accuracy, scores.precision, scores.recall, scores.f1) == (1.0, 0.0, 0.0, 0.0)
    assert math.isnan(metrics.binary_scores([]).f1)


def test_mme_counts_questions_and_pictures() -> None:
    assert metrics.mme_score([[True, True], [True, True]]) == pytest.approx(200)
    assert metrics.mme_score([[True, False], [True, True]]) == pytest.approx(75 + 50)
    assert metrics.mme_score([[False, False]]) == 0
    assert metrics.mme_score([[True]]) == 100  # its other question is missing
    assert math.isnan(metrics.mme_score([]))


@pytest.mark.parametrize(
    ("same", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_vqa_accuracy_of_ten_people(same: int, accuracy: float) -> None:
    """The known steps of the formula: 3 of 10 give 0.9, since one of the choices of nine has only two."""
    truths = ["2"] * same + [f"other {number}" for number in range(10 - same)]
    assert metrics.vqa_accuracy("2", truths) == pytest.approx(accuracy)
