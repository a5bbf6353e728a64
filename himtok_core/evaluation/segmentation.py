"""Scores of masks beyond the overlap of two: boundaries, expressions without a target, label maps, segments.

Pure formulas on arrays and counts, like `metrics`, which has the overlap itself, and like `reference`, which
has the reference implementation's own way of counting.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import box_of_mask
from .metrics import Overlap, iou, mean

BOUNDARY_TOLERANCE = 0.0075  # of the picture's diagonal
NO_TARGET_PIXELS = 50  # fewer predicted pixels than this say that nothing fits
VOID, NOTHING = 0, 0  # segment number of unlabelled pixels in a truth, of unmarked ones in a prediction


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a bool mask [H, W] with a neighbour (left, right, above, below) outside of it.

    What lies beyond the picture's edge is outside.
    """
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def within(mask: np.ndarray, distance: float) -> np.ndarray:
    """The pixels of a picture at most `distance` (Euclidean, in pixels) away from a bool mask [H, W]."""
    height, width = mask.shape
    reached = np.zeros_like(mask)
    columns = np.arange(width)
    # How many set pixels lie left of each column; a window's own number is the difference of two.
    counts = np.pad(np.cumsum(mask, axis=1, dtype=np.int32), ((0, 0), (1, 0)))  # (H, W + 1)
    farthest = min(math.floor(distance), height - 1)
    for step in range(-farthest, farthest + 1):
        half = math.floor(math.sqrt(distance * distance - step * step))
        right, left = np.minimum(columns + half + 1, width), np.maximum(columns - half, 0)
        in_row = counts[:, right] > counts[:, left]
        reached[max(0, step) : height - max(0, -step)] |= in_row[max(0, -step) : height - max(0, step)]
    return reached


def boundary_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """Boundary F-score (bfscore) of two bool masks [H, W], 0..1.

    The harmonic mean of precision (how much of the predicted boundary lies near the true one) and recall
    (the other way round), where near is `tolerance` times the picture's diagonal. Csurka, Larlus and
    Perronnin 2013; the supplement, section F. Two masks without a boundary agree; one of two scores 0.
    """
    ours, theirs = boundary(predicted), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    distance = tolerance * math.hypot(*truth.shape)
    x0, y0, x1, y1 = box_of_mask(ours | theirs)
    ours, theirs = ours[y0:y1, x0:x1], theirs[y0:y1, x0:x1]  # the rest of the picture holds neither
    precision = np.count_nonzero(ours & within(theirs, distance)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & within(ours, distance)) / np.count_nonzero(theirs)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


@dataclass(frozen=True)
class GeneralizedCase:
    """One expression of generalized referring segmentation (GRES).

    overlap: of the predicted and the true mask. no_target: nothing in the picture fits it. said_none: the
    prediction says so, which for a model without a special output means less than NO_TARGET_PIXELS marked.
    """

    overlap: Overlap
    no_target: bool
    said_none: bool

    @property
    def iou(self) -> float:
        """1 for a rightly empty answer, 0 for a wrong one, else the IoU."""
        if self.no_target or self.said_none:
            return float(self.no_target and self.said_none)
        return iou(self.overlap)


def generalized_scores(cases: Sequence[GeneralizedCase]) -> dict[str, float]:
    """gIoU, cIoU, N-acc and T-acc of GRES (Liu, Ding and Jiang 2023), 0..1; nan where there is no case.

    gIoU: mean of the IoUs. cIoU: sum of intersections over sum of unions, where a rightly empty answer adds
    nothing and a wrongly empty one no intersection. N-acc: part of the expressions without a target that were
    said to have none. T-acc: part of those with a target that were not.
    """
    intersection = sum(case.overlap[0] for case in cases if not case.said_none)
    union = sum(case.overlap[1] for case in cases if not (case.no_target and case.said_none))
    return {
        "gIoU": mean([case.iou for case in cases]),
        "cIoU": iou((intersection, union)) if cases else math.nan,
        "N-acc": mean([case.said_none for case in cases if case.no_target]),
        "T-acc": mean([not case.said_none for case in cases if not case.no_target]),
    }


def mean_iou(confusion: np.ndarray) -> tuple[float, list[float]]:
    """mIoU of semantic segmentation, and the IoU of every class (nan for one that is nowhere), 0..1.

    Args:
        confusion: pixels (K, K + 1), true class by predicted class, over all pictures; the last column is for
            pixels that were given no class.
    """
    hits = np.diagonal(confusion).astype(float)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits
    ious = [float(hit / all_) if all_ else math.nan for hit, all_ in zip(hits, union, strict=True)]
    return mean([value for value in ious if not math.isnan(value)]), ious


@dataclass
class Matches:
    """Segments of one class: matched ones with the sum of their IoUs, wrong ones, missed ones."""

    matched: int = 0
    iou_sum: float = 0.0
    wrong: int = 0
    missed: int = 0


def match_segments(
    predicted: np.ndarray,
    predicted_classes: Mapping[int, int],
    truth: np.ndarray,
    true_classes: Mapping[int, int],
    crowds: Iterable[int] = (),
) -> dict[int, Matches]:
    """Panoptic matching of one picture (Kirillov et al. 2019): segments of one class with an IoU over 0.5.

    Void pixels of the truth leave the union; a prediction that lies mostly in void or in crowds of its class
    is not wrong; crowds themselves need not be found.

    Args:
        predicted, truth: segment numbers [H, W]; NOTHING and VOID where there is none.
        predicted_classes, true_classes: segment number -> class.
        crowds: segment numbers of the truth that stand for many things at once.

    Returns:
        class -> Matches, for the classes of this picture.
    """
    crowds = set(crowds)
    pairs, counts = np.unique(np.stack([predicted.ravel(), truth.ravel()]), axis=1, return_counts=True)
    shared = {(int(ours), int(true)): int(count) for (ours, true), count in zip(pairs.T, counts, strict=True)}
    our_area, true_area = defaultdict(int), defaultdict(int)
    for (ours, true), count in shared.items():
        our_area[ours] += count
        true_area[true] += count
    found = defaultdict(Matches)
    done: set[tuple[str, int]] = set()
    for (ours, true), count in shared.items():
        if ours not in predicted_classes or true not in true_classes or true in crowds:
            continue
        union = our_area[ours] + true_area[true] - count - shared.get((ours, VOID), 0)
        if predicted_classes[ours] == true_classes[true] and count / union > 0.5:
            found[true_classes[true]].matched += 1
            found[true_classes[true]].iou_sum += count / union
            done |= {("ours", ours), ("true", true)}
    for true, kind in true_classes.items():
        if true_area[true] and true not in crowds and ("true", true) not in done:
            found[kind].missed += 1
    for ours, kind in predicted_classes.items():
        if not our_area[ours] or ("ours", ours) in done:
            continue
        excused = shared.get((ours, VOID), 0)
        excused += sum(shared.get((ours, true), 0) for true in crowds if true_classes.get(true) == kind)
        if excused / our_area[ours] <= 0.5:
            found[kind].wrong += 1
    return dict(found)


def panoptic_quality(matches: Iterable[Mapping[int, Matches]]) -> dict[int, float]:
    """PQ of every class that occurs in the truth or in a prediction, 0..1, from `match_segments` of pictures.

    The mean over classes is the score that is usually reported.
    """
    total = defaultdict(Matches)
    for picture in matches:
        for kind, part in picture.items():
            total[kind].matched += part.matched
            total[kind].iou_sum += part.iou_sum
            total[kind].wrong += part.wrong
            total[kind].missed += part.missed
    return {
        kind: part.iou_sum / (part.matched + part.wrong / 2 + part.missed / 2)
        for kind, part in total.items()
        if part.matched + part.wrong + part.missed
    }
