"""Masks of shapes that drawn scenes hardly have: thin, with holes, in parts, cut by the border, tiny, huge.

Outlines of photographed things are like that, so the mask tokenizer is trained on some of each. Knows shapes
only; nothing is drawn in a picture.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

_SIDE = 256  # pixels a side, more than any tokenizer's masks


def odd_mask(rng: np.random.Generator) -> np.ndarray:
    """A random mask of a random kind of `KINDS`: bool [256, 256], neither empty nor full."""
    return KINDS[str(rng.choice(list(KINDS)))](rng)


def _thin(rng: np.random.Generator) -> np.ndarray:
    """A few curved lines, 2 to 8 pixels wide."""
    picture = Image.new("L", (_SIDE, _SIDE))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        heading, place = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.85, 2) * _SIDE
        bend, width, points = rng.normal(0, 0.25), int(rng.integers(2, 9)), [tuple(place)]
        for _ in range(int(rng.integers(6, 20))):
            heading += bend + rng.normal(0, 0.15)
            place = place + 14 * np.array([math.cos(heading), math.sin(heading)])
            points.append(tuple(place))
        pen.line(points, 255, width, joint="curve")
    return np.asarray(picture) > 0


def _holed(rng: np.random.Generator) -> np.ndarray:
    """A blob with one to four holes, some of which reach its edge."""
    centre, radius = rng.uniform(0.35, 0.65, 2), rng.uniform(0.2, 0.4)
    mask = _blob(rng, centre, radius)
    for _ in range(int(rng.integers(1, 5))):
        mask &= ~_blob(rng, centre + rng.uniform(-0.4, 0.4, 2) * radius, radius * rng.uniform(0.12, 0.4))
    return mask


def _in_parts(rng: np.random.Generator) -> np.ndarray:
    """Two to six blobs."""
    blobs = [
        _blob(rng, rng.uniform(0.1, 0.9, 2), rng.uniform(0.04, 0.2)) for _ in range(int(rng.integers(2, 7)))
    ]
    return np.logical_or.reduce(blobs)


def _at_the_border(rng: np.random.Generator) -> np.ndarray:
    """A blob that one or two sides of the picture cut off."""
    centre = rng.uniform(0, 1, 2)
    centre[rng.integers(2)] = rng.choice([-0.03, 0.0, 1.0, 1.03])
    return _blob(rng, centre, rng.uniform(0.1, 0.45))


def _tiny(rng: np.random.Generator) -> np.ndarray:
    """A blob of 2 to 6 % of the side across."""
    return _blob(rng, rng.uniform(0.08, 0.92, 2), rng.uniform(0.012, 0.03))


def _huge(rng: np.random.Generator) -> np.ndarray:
    """Nearly everything: what one to three blobs leave over."""
    blobs = [_blob(rng, rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3)) for _ in range(int(rng.integers(1, 4)))]
    return ~np.logical_or.reduce(blobs)


def _blob(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A smooth outline around a centre (x, y), all in shares of the side, stretched and turned at random."""
    turns = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    waves = sum(
        rng.normal(0, 0.22 / order) * np.cos(order * turns + rng.uniform(0, 2 * math.pi))
        for order in range(1, 6)
    )
    reach = radius * np.clip(1 + waves, 0.35, 1.8)
    stretch, tilt = math.exp(rng.normal(0, 0.35)), rng.uniform(0, math.pi)
    x, y = reach * np.cos(turns) * stretch, reach * np.sin(turns) / stretch
    x, y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
    picture = Image.new("L", (_SIDE, _SIDE))
    outline = [(_SIDE * (centre[0] + dx), _SIDE * (centre[1] + dy)) for dx, dy in zip(x, y, strict=True)]
    ImageDraw.Draw(picture).polygon(outline, 255)
    return np.asarray(picture) > 0


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "thin": _thin,
    "holed": _holed,
    "in parts": _in_parts,
    "at the border": _at_the_border,
    "tiny": _tiny,
    "huge": _huge,
}
