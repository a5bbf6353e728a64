"""M_in -> what SAM is asked: a point, a box, and the mask itself.

Knows probability maps at the size of SAM's mask prompt and coordinates in its square input, which is a whole
number of times larger. Nothing of files, networks or pictures.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

LOGIT_SCALE = 6.0  # a certain pixel's logit in the mask prompt


@dataclass(frozen=True)
class Prompts:
    """What SAM is asked about N masks.

    points: float (N, 2), x and y in pixels of SAM's input. labels: int (N,), 1 for a point on the object, 0
    for one beside it. boxes: float (N, 4), x0 y0 x1 y1 in the same pixels, or None. logits: float (N, S, S).
    """

    points: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor | None
    logits: torch.Tensor


@dataclass(frozen=True)
class ReferencePoint:
    """What the reference implementation derives from N maps.

    centroids: (N, 2), x and y in pixels of SAM's input. perimeters, compactness: (N,). labels: int (N,).
    """

    centroids: torch.Tensor
    perimeters: torch.Tensor
    compactness: torch.Tensor
    labels: torch.Tensor


def mask_logits(maps: torch.Tensor) -> torch.Tensor:
    """The mask prompt: probabilities in 0..1 -> logits in -6..6, linear as in the reference."""
    return (2 * maps - 1) * LOGIT_SCALE


def prompts_from_masks(maps: torch.Tensor, scale: int, boxes: bool) -> Prompts:
    """A point deep inside each thresholded mask, its box, and the map.

    Args:
        maps: (N, S, S) in 0..1, each above 0.5 somewhere. scale: pixels of SAM's input to one of the map.
        boxes: whether the model takes boxes.
    """
    masks = maps > 0.5
    return Prompts(
        points=(deepest_points(masks) + 0.5) * scale - 0.5,
        labels=torch.ones(len(maps), dtype=torch.int64, device=maps.device),
        boxes=scale * _boxes(masks) if boxes else None,
        logits=mask_logits(maps),
    )


def prompts_as_reference(maps: torch.Tensor, scale: int) -> Prompts:
    """What the reference implementation asks: one point from the soft map, and the map.

    A soft map is nowhere exactly 0, so it touches the border and nearly all of it counts as perimeter: its
    point is one beside the object almost always, and lies near the middle of the picture.
    """
    point = reference_point(maps, scale)
    return Prompts(point.centroids, point.labels, None, mask_logits(maps))


def reference_point(maps: torch.Tensor, scale: int) -> ReferencePoint:
    """The reference implementation's point: (N, S, S) >= 0 -> centroid, and on or beside the object.

    It is beside the object if that touches the border and is far from compact,
    4 pi area / perimeter^2 < 0.1; the perimeter are the pixels where a 3 x 3 dilation, which makes 1 of all
    that is above 0, differs from the map. An empty map has its point in the middle, on the object.
    """
    side = maps.shape[-1]
    along = torch.arange(side, dtype=maps.dtype, device=maps.device)
    area = maps.sum((1, 2))
    centroids = torch.stack([(maps.sum(1) * along).sum(1), (maps.sum(2) * along).sum(1)], dim=1)
    empty = area == 0
    centroids = torch.where(empty[:, None], side / 2, centroids / area.clamp_min(1e-12)[:, None])
    grown = (F.max_pool2d(maps[:, None], 3, stride=1, padding=1)[:, 0] > 0).to(maps.dtype)
    perimeters = (grown != maps).sum((1, 2)).to(maps.dtype)
    compactness = torch.where(perimeters > 0, 4 * math.pi * area / perimeters.clamp_min(1).square(), 0)
    edges = torch.stack([maps[:, 0], maps[:, -1], maps[:, :, 0], maps[:, :, -1]], dim=1)
    touches = (edges > 0).any(2).any(1)
    labels = torch.where(touches & (compactness < 0.1) & ~empty, 0, 1)
    return ReferencePoint(scale * centroids, perimeters, compactness, labels)


def deepest_points(masks: torch.Tensor) -> torch.Tensor:
    """The pixel of each mask that is furthest from its outline: bool (N, S, S), none empty -> (N, 2), x, y.

    Of equally deep ones the one nearest to the centre of the mask's box. Beyond the picture nothing belongs
    to a mask.
    """
    side = masks.shape[-1]
    left = F.pad(masks.float(), (1, 1, 1, 1))[:, None]
    depth = torch.zeros_like(left)
    while left.any():
        depth += left
        left = -F.max_pool2d(-left, 3, stride=1, padding=1)
    depth = depth[:, 0, 1:-1, 1:-1]
    boxes = _boxes(masks)
    along = torch.arange(side, device=masks.device) + 0.5
    away = (along - (boxes[:, 0:1] + boxes[:, 2:3]) / 2).square()[:, None] + (
        along - (boxes[:, 1:2] + boxes[:, 3:4]) / 2
    ).square()[:, :, None]
    best = (depth - away / (4 * side * side)).flatten(1).argmax(1)  # a distance never outweighs a depth
    return torch.stack([best % side, best // side], dim=1).float()


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """bool (N, S, S), none empty -> float (N, 4), x0 y0 x1 y1, the right and lower edge exclusive."""
    side = masks.shape[-1]
    columns, rows = masks.any(1).int(), masks.any(2).int()  # argmax finds the first 1
    first = [columns.argmax(1), rows.argmax(1)]
    last = [side - columns.flip(1).argmax(1), side - rows.flip(1).argmax(1)]
    return torch.stack(first + last, dim=1).float()
