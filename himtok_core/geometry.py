"""Boxes and masks on the picture: scale changes, stretching, overlap, run-length code, hit-testing.

Knows numpy arrays and numbers, no model. A mask of the model always covers the whole picture, so masks are
stretched in both directions and never padded. Boxes are (x0, y0, x1, y1) with the right and lower
edge exclusive: the box of a mask that fills a picture is (0, 0, width, height).
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from .errors import MaskError
from .images import MAX_PIXELS
from .markup import BOX_SCALE, Box


def scale_box_to_pixels(box: Sequence[float], size: tuple[int, int]) -> Box:
    """A box on the 0-1000 scale in pixels of a picture of size (width, height)."""
    _check_box(box)
    width, height = size
    x0, y0, x1, y1 = box
    return (x0 * width / BOX_SCALE, y0 * height / BOX_SCALE, x1 * width / BOX_SCALE, y1 * height / BOX_SCALE)


def scale_box_to_thousand(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in pixels on the 0-1000 scale, rounded; what hangs over the picture's edge is cut off."""
    _check_box(box)
    width, height = size
    x0, x1 = (min(max(round(x * BOX_SCALE / width), 0), BOX_SCALE) for x in (box[0], box[2]))
    y0, y1 = (min(max(round(y * BOX_SCALE / height), 0), BOX_SCALE) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def mask_from_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask of a picture of size (width, height) from a probability [S, S] in 0..1: bool [height, width].

    The probability is stretched to the picture (bilinear) before it is cut at 0.5, so that the outline is as
    fine as the picture.
    """
    if probability.ndim != 2 or 0 in probability.shape:
        raise MaskError(f"A probability map is two-dimensional [S, S], not {probability.shape}.")
    stretched = Image.fromarray(probability.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(stretched) > 0.5


def stretch_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask [H, W], bool or 0..1, stretched to float32 [side, side] in 0..1 with grey edges.

    This is what the tokenizer is trained on, as in the reference implementation: 256 grey levels, bicubic,
    the aspect ratio is lost.
    """
    return stretch_mask_to_bytes(mask, side).astype(np.float32) / 255


def stretch_mask_to_bytes(mask: np.ndarray, side: int) -> np.ndarray:
    """The 256 grey levels of `stretch_mask`: uint8 [side, side], 0..255."""
    _check_mask(mask)
    # Only then is a part stretched exactly as it is within the whole: cells are exact fractions of the mask,
    # and Pillow begins with the rows (a mask like a line it begins with the columns).
    if mask.dtype == bool and side.bit_count() == 1 and mask.shape[0] <= 100 * mask.shape[1]:
        return _stretched_around(mask, side)
    # Written so that NaN fails too.
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise MaskError(f"A mask lies in 0..1, but this one reaches from {mask.min()} to {mask.max()}.")
    grey = Image.fromarray(np.rint(mask.astype(np.float32) * 255).astype(np.uint8))
    return np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC))


def _stretched_around(mask: np.ndarray, side: int) -> np.ndarray:
    """A bool mask, stretched where there is anything to see: most masks are small, and resizing is slow."""
    stretched = np.zeros((side, side), np.uint8)
    box = box_of_mask(mask)
    if box is None:
        return stretched
    spans = []  # on each axis, the cells that the box and the bicubic filter's two pixels around it reach
    for low, high, pixels in ((box[0], box[2], mask.shape[1]), (box[1], box[3], mask.shape[0])):
        reach = 2 * max(1.0, pixels / side) + 1  # in pixels of the mask
        first = max(0, math.floor((low - reach) * side / pixels))
        last = min(side, math.ceil((high + reach) * side / pixels))
        spans.append((first, last, first * pixels / side, last * pixels / side))
    (x0, x1, left, right), (y0, y1, top, bottom) = spans
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    part = grey.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, (left, top, right, bottom))
    stretched[y0:y1, x0:x1] = np.asarray(part)
    return stretched


def box_of_mask(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The smallest box (x0, y0, x1, y1) in pixels around a bool mask [H, W]; None for an empty mask."""
    _check_mask(mask)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(columns) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks [H, W], 0..1; two empty masks agree, which counts as 1."""
    _check_mask(first)
    _check_mask(second)
    if first.shape != second.shape:
        raise MaskError(f"Two masks to compare have one shape, not {first.shape} and {second.shape}.")
    first, second = first.astype(bool), second.astype(bool)
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes on the same scale, 0..1; 0 if both are without area."""
    _check_box(first)
    _check_box(second)
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0) * max(height, 0)
    union = _area(first) + _area(second) - common
    return common / union if union else 0.0


def mask_to_rle(mask: np.ndarray) -> dict[str, object]:
    """A bool mask [H, W] as compressed COCO RLE: {"size": [H, W], "counts": text}, ready for JSON."""
    _check_mask(mask)
    code = coco.encode(np.asfortranarray(mask.astype(bool), dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def rle_to_mask(rle: dict[str, object]) -> np.ndarray:
    """The bool mask [H, W] of a compressed COCO RLE. Raises MaskError if it is damaged."""
    match rle:
        case {"size": [int(height), int(width)], "counts": str(counts)} if height > 0 and width > 0:
            pass
        case _:
            raise MaskError('A mask in COCO RLE is {"size": [height, width], "counts": text}.')
    if height * width > MAX_PIXELS:
        raise MaskError(f"A mask in COCO RLE of {height} x {width} pixels is larger than any picture may be.")
    # Summed here first: the library trusts the counts with its memory.
    lengths = _rle_lengths(counts)
    if sum(lengths) != height * width or min(lengths) < 0:
        raise MaskError(f"The counts of a COCO RLE of {height} x {width} pixels must add up to "
                        f"{height * width}, but they do not.")
    return coco.decode({"size": [height, width], "counts": counts.encode("ascii")}).astype(bool)


def hit_test(masks: Sequence[np.ndarray | None], x: float, y: float) -> int | None:
    """The index of the smallest mask (bool [H, W]) that covers the pixel at (x, y), or None.

    An object without a mask may stand in the list as None and is never hit; neither is anything outside.
    """
    hits = []
    for index, mask in enumerate(masks):
        if mask is None:
            continue
        _check_mask(mask)
        column, row = math.floor(x), math.floor(y)
        if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and mask[row, column]:
            hits.append((int(np.count_nonzero(mask)), index))
    return min(hits)[1] if hits else None


def _rle_lengths(counts: str) -> list[int]:
    """The run lengths that the text of a compressed COCO RLE holds.

    Five bits a character from "0" on, lowest first; the sixth bit says that more follow, the fifth of the
    last one is the sign. From the fourth number on each is the difference to the one two before it.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise MaskError(f"The counts of a COCO RLE cannot hold the character {character!r}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    if shift or not lengths:
        raise MaskError("The counts of a COCO RLE are cut off.")
    return lengths


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _check_box(box: Sequence[float]) -> None:
    if len(box) != 4 or not all(math.isfinite(value) for value in box) or box[0] > box[2] or box[1] > box[3]:
        raise MaskError(f"A box is (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, but it is {tuple(box)}.")


def _check_mask(mask: np.ndarray) -> None:
    if mask.ndim != 2 or 0 in mask.shape:
        raise MaskError(f"A mask has the shape [height, width] with at least one pixel, not {mask.shape}.")
