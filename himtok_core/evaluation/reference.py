"""How the reference implementation counts where it departs from the field, for `--protocol reference`.

Pure formulas on arrays, numbers and text. The departures: pixels to be ignored count as found, a small number
is added to every union, box coordinates are divided by 999 in single precision, and several expressions for
one object are put into one question.
"""

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .metrics import Overlap, mean

IGNORED = 255  # label of pixels to be ignored
BOX_DIVISOR = np.float32(999)
_TINY = 1e-10

# The first four things between brackets with commas between them; one or two brackets.
_BOX = re.compile(r"\[+(.*?),(.*?),(.*?),(.*?)\]")


def overlap(probability: np.ndarray | None, labels: np.ndarray) -> Overlap:
    """Intersection and union of a soft mask and a labelled truth, in pixels.

    Args:
        probability: float32 [S, S], 0..1, or a mask of any size; None if the answer held no mask. It is
            stretched (nearest) to the truth before it is cut at 0.5.
        labels: uint8 [H, W], 1 for the object and IGNORED, which counts as found.
    """
    height, width = labels.shape
    if probability is None:
        predicted = np.zeros(labels.shape, dtype=bool)
    else:
        soft = Image.fromarray(probability.astype(np.float32))
        predicted = np.asarray(soft.resize((width, height), Image.Resampling.NEAREST)) > 0.5
    predicted, truth = predicted | (labels == IGNORED), labels > 0
    return int(np.count_nonzero(predicted & truth)), int(np.count_nonzero(predicted | truth))


def iou(pair: Overlap) -> float:
    """Intersection over union, 0..1; 1 for two empty masks."""
    return pair[0] / (pair[1] + _TINY) if pair[1] else 1.0


def giou(pairs: Sequence[Overlap]) -> float:
    """Mean of the IoU of every picture, 0..1; nan for none."""
    return mean([iou(pair) for pair in pairs])


def ciou(pairs: Sequence[Overlap]) -> float:
    """Sum of all intersections over sum of all unions, 0..1."""
    return sum(pair[0] for pair in pairs) / (sum(pair[1] for pair in pairs) + _TINY)


def box_in_pixels(text: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The first box of an answer in pixels of a picture of size (width, height), in single precision.

    Four zeros if none can be read. Numbers that add up to 4 or more are on a scale of 0 to 999, smaller ones
    are fractions.
    """
    found = _BOX.search(text)
    try:
        box = np.array([float(number) for number in found.groups()] if found else [0] * 4, dtype=np.float32)
    except ValueError:
        box = np.zeros(4, dtype=np.float32)
    if box.sum() >= 4:
        box = box / BOX_DIVISOR
    return tuple(float(value) for value in box * np.array([*size, *size], dtype=np.float32))


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1) in single precision; 0 if both are without area.

    The corners of a box may stand in the wrong order, as a model may write them.
    """
    a, b = np.array(first, dtype=np.float32), np.array(second, dtype=np.float32)
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = sides[0] * sides[1]
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return float(common / union) if union else 0.0


def all_descriptions(sentences: Sequence[str]) -> str:
    """Several expressions for one object as one phrase, as the reference implementation asks."""
    listed = "".join(f"{number}. {sentence}. " for number, sentence in enumerate(sentences, 1))
    return f"Meet all the descriptions: {listed}"
