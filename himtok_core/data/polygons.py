"""Polygons as pixels, with their outline, the way OpenCV draws them.

Data sets whose own tools draw with OpenCV (ReasonSeg) are scored against exactly these pixels: a drawing with
another rule for outlines differs by about a row of pixels all around.
"""

from collections.abc import Sequence

import numpy as np

Point = tuple[int, int]


def fill_polygon(corners: Sequence[Point], size: tuple[int, int]) -> np.ndarray:
    """The inside (even-odd) of a closed polygon and its outline, bool [height, width].

    Args:
        corners: (x, y) in whole pixels, at least one. Inside the picture the pixels are OpenCV's; outlines
            that reach beyond it may differ from OpenCV's by a pixel.
        size: (width, height).
    """
    drawn = np.zeros((size[1], size[0]), dtype=bool)
    start = np.array(corners, dtype=np.float64)  # (N, 2)
    end = np.roll(start, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    for row in range(max(0, int(low.min())), min(size[1], int(high.max()) + 1)):
        crossed = (low <= row) & (row < high)
        (x0, y0), (x1, y1) = start[crossed].T, end[crossed].T
        crossings = np.sort(x0 + (row - y0) * (x1 - x0) / (y1 - y0))
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            drawn[row, max(0, int(np.ceil(left))) : max(0, int(np.floor(right)) + 1)] = True
    for place, corner in enumerate(corners):
        _line(drawn, corners[place - 1], corner)
    return drawn


def _line(drawn: np.ndarray, first: Point, last: Point) -> None:
    """Bresenham's line from left to right; a step that ends halfway between two pixels stays on its line."""
    if first[0] > last[0]:
        first, last = last, first
    width, height = last[0] - first[0], abs(last[1] - first[1])
    steps = max(width, height)
    along = np.arange(steps + 1)
    aside = -((steps - 2 * min(width, height) * along) // (2 * steps)) if steps else along
    columns, rows = (along, aside) if width >= height else (aside, along)
    columns, rows = first[0] + columns, first[1] + (rows if last[1] >= first[1] else -rows)
    inside = (columns >= 0) & (rows >= 0) & (columns < drawn.shape[1]) & (rows < drawn.shape[0])
    drawn[rows[inside], columns[inside]] = True
