"""Scores from counts and overlaps: nothing but arithmetic.

Knows the usual definitions of referring segmentation and grounding. What is compared with what is left to the
tasks; the overlap of two boxes is in `geometry`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Overlap = tuple[int, int]  # pixels in the intersection and in the union of a predicted and a true mask


def overlap(predicted: np.ndarray, truth: np.ndarray, ignored: np.ndarray | None = None) -> Overlap:
    """Intersection and union of two bool masks [H, W], in pixels; `ignored` pixels [H, W] count nowhere.

    Raises ValueError for two shapes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of one picture have one shape, not {predicted.shape} and {truth.shape}")
    if ignored is not None:
        predicted, truth = predicted & ~ignored, truth & ~ignored
    return int(np.count_nonzero(predicted & truth)), int(np.count_nonzero(predicted | truth))


def iou(pair: Overlap) -> float:
    """Intersection over union, 0..1; two empty masks agree, which counts as 1."""
    intersection, union = pair
    return intersection / union if union else 1.0


def giou(pairs: Sequence[Overlap]) -> float:
    """Mean of the IoU of every picture (gIoU of referring segmentation), 0..1; nan for none."""
    return mean([iou(pair) for pair in pairs])


def ciou(pairs: Sequence[Overlap]) -> float:
    """Sum of all intersections over sum of all unions, 0..1, so large objects count more; nan for none."""
    if not pairs:
        return math.nan
    return iou((sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)))


def accuracy_at(ious: Sequence[float], threshold: float) -> float:
    """Part of the boxes whose IoU with the truth reaches a threshold, 0..1; nan for none."""
    return mean([value >= threshold for value in ious])


def mean(values: Sequence[float]) -> float:
    """The mean; nan for no values."""
    return float(np.mean(values)) if len(values) else math.nan


def perplexity(counts: np.ndarray) -> float:
    """exp of the entropy of how often each code was used: as many codes, evenly used, would be as varied.

    Args:
        counts: integers (K,). Returns nan if nothing was counted.
    """
    total = counts.sum()
    if total == 0:
        return math.nan
    share = counts[counts > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


@dataclass(frozen=True)
class BinaryScores:
    """Scores of answers to yes-or-no questions, "yes" being the positive class; nan if nothing was counted.

    accuracy, precision, recall, f1, yes_ratio: 0..1. yes_ratio: how often the answer was yes.
    """

    count: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def binary_scores(pairs: Sequence[tuple[bool, bool]]) -> BinaryScores:
    """Scores of (answered yes, yes is true) pairs, as POPE reports them.

    Precision without a "yes" among the answers, recall without one among the truths and f1 without a right
    "yes" are 0, as usual.
    """
    both = sum(answer and truth for answer, truth in pairs)
    answered = sum(answer for answer, _ in pairs)
    true = sum(truth for _, truth in pairs)
    if not pairs:
        return BinaryScores(0, *[math.nan] * 5)
    return BinaryScores(
        count=len(pairs),
        accuracy=mean([answer == truth for answer, truth in pairs]),
        precision=both / answered if answered else 0.0,
        recall=both / true if true else 0.0,
        f1=2 * both / (answered + true) if answered + true else 0.0,
        yes_ratio=answered / len(pairs),
    )


def mme_score(pictures: Sequence[Sequence[bool]]) -> float:
    """MME's score of a sub-task, 0..200: accuracy of all questions plus that of pictures, in percent each.

    Args:
        pictures: for every picture, whether each of its questions was answered rightly. A picture counts as
            right if all are and there are the two that belong to it.
    """
    questions = [right for picture in pictures for right in picture]
    return 100 * (mean(questions) + mean([len(picture) > 1 and all(picture) for picture in pictures]))


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """VQA's accuracy of an answer that ten people gave too, 0..1; all answers in their normal form.

    The mean over all choices of nine people of min(1, how many of the nine gave this answer / 3).
    """
    same = sum(truth == answer for truth in truths)
    # Leaving out one of those who agree leaves one fewer of them; there are `same` such choices.
    without, unchanged = min(1.0, max(same - 1, 0) / 3), min(1.0, same / 3)
    return (same * without + (len(truths) - same) * unchanged) / len(truths)
