"""Scores from counts and overlaps: nothing but arithmetic.

Knows the usual definitions of referring segmentation and grounding. What is compared with what is left to the
tasks; the overlap of two boxes is in `geometry`.
"""

import math
from collections.abc import Sequence

import numpy as np

Overlap = tuple[int, int]  # pixels in the intersection and in the union of a predicted and a true mask


def overlap(predicted: np.ndarray, truth: np.ndarray) -> Overlap:
    """Intersection and union of two bool masks [H, W], in pixels. Raises ValueError for two shapes."""
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of one picture have one shape, not {predicted.shape} and {truth.shape}")
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
