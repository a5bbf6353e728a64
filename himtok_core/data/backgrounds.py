"""Backgrounds of scenes: what is decided about one, and the formula that paints it.

Every background blends two colours by a function of the place.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Background:
    """What was decided about a background.

    Attributes:
        kind: its name in `world.BACKGROUNDS`.
        first, second: the two colours, float (3,), 0..255.
        values: numbers of the kind's formula, lengths in pixels.
        grids: float32 arrays of random numbers 0..1, stretched over the picture where a formula needs noise.
    """

    kind: str
    first: np.ndarray
    second: np.ndarray
    values: tuple[float, ...] = ()
    grids: tuple[np.ndarray, ...] = ()


def choose(rng: np.random.Generator, kinds: tuple[str, ...], size: tuple[int, int]) -> Background:
    """A background for a picture of (width, height) pixels."""
    kind = str(rng.choice(kinds))
    height = size[1]
    first, second = (_soft_colour(rng) for _ in range(2))
    if kind == "flat":
        return Background(kind, first, second)
    if kind == "gradient":
        return Background(kind, first, second, (rng.uniform(0, 2 * math.pi),))
    if kind == "noise":
        grid = rng.random((int(rng.integers(3, 12)), int(rng.integers(3, 12)))).astype(np.float32)
        return Background(kind, first, second, (), (grid,))
    if kind == "sky":
        values = (rng.uniform(0.4, 0.8) * height, rng.uniform(6, 25))
        first = np.array([rng.uniform(120, 200), rng.uniform(180, 225), rng.uniform(215, 250)])
        second = np.array([rng.uniform(90, 190), rng.uniform(130, 190), rng.uniform(60, 120)])
        return Background(kind, first, second, values)
    if kind in ("stripes", "checkerboard"):
        second = np.clip(first + rng.uniform(-45, 45, 3), 0, 255)
        period = rng.uniform(6, 24)
        return Background(
            kind, first, second, (period, rng.uniform(-1, 1)) if kind == "stripes" else (period,)
        )
    return _choose_rich(rng, kind, first, second, size)


def _choose_rich(
    rng: np.random.Generator, kind: str, first: np.ndarray, second: np.ndarray, size: tuple[int, int]
) -> Background:
    """Textures as photographs have them, and patterns."""
    if kind != "glow":  # patterns of two quite different colours would look like objects
        second = np.clip(first + rng.uniform(0.3, 1) * np.clip(second - first, -60, 60), 0, 255)
    if kind == "glow":
        values = (rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.5, 1.2) * max(size))
    elif kind in ("tiles", "bricks"):
        values = (rng.uniform(14, 50), rng.uniform(1, 3))
    elif kind == "dots":
        values = (rng.uniform(10, 32), rng.uniform(0.04, 0.12))
    elif kind == "plaid":
        values = (rng.uniform(10, 40), rng.uniform(10, 40))
    elif kind == "waves":
        values = (rng.uniform(4, 14), rng.uniform(8, 40), rng.uniform(0.5, 3))
    elif kind == "marble":
        values = (rng.uniform(0, 2 * math.pi), rng.uniform(8, 25), rng.uniform(4, 10))
    elif kind == "wood":
        values = (rng.uniform(8, 24), rng.uniform(4, 12))
    else:
        values = ()
    if kind == "grass":
        first = np.array([rng.uniform(60, 130), rng.uniform(110, 170), rng.uniform(40, 90)])
        second = first * rng.uniform(0.55, 0.8)
    elif kind == "wood":
        first = np.array([rng.uniform(150, 215), rng.uniform(105, 155), rng.uniform(60, 105)])
        second = first * rng.uniform(0.6, 0.85)
    shapes = {
        "clouds": ((4, 4), (9, 9), (21, 21)),
        "marble": ((4, 4), (9, 9), (21, 21)),
        "wood": ((12, 3), (30, 5)),
        "grass": ((11, 9), (24, 64), (48, 96)),
    }
    grids = tuple(rng.random(shape).astype(np.float32) for shape in shapes.get(kind, ()))
    return Background(kind, first, second, values, grids)


def paint(background: Background, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] for a picture of (width, height) pixels."""
    width, height = size
    share = np.broadcast_to(_share_of_second(background, size), (height, width))
    pixels = np.empty((height, width, 3), np.uint8)
    for channel, (first, second) in enumerate(zip(background.first, background.second, strict=True)):
        pixels[..., channel] = np.clip(first * (1 - share) + second * share, 0, 255)
    return pixels


def _share_of_second(background: Background, size: tuple[int, int]) -> np.ndarray:
    """The share of the second colour, mostly 0..1: an array that broadcasts to [H, W]."""
    kind, values = background.kind, background.values
    x, y = np.arange(size[0])[None], np.arange(size[1])[:, None]
    noise = [
        np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)) for grid in background.grids
    ]
    if kind == "flat":
        return 0 * (x + y)
    if kind == "gradient":
        across, down = x * (2 / (size[0] - 1)) - 1, y * (2 / (size[1] - 1)) - 1
        return (across * math.cos(values[0]) + down * math.sin(values[0]) + 1.42) / 2.84
    if kind == "noise":
        return noise[0]
    if kind == "sky":
        return 1.0 * (y > values[0] + 3 * np.sin(x / values[1]))
    if kind == "stripes":
        return (np.floor(x / values[0]) + np.floor(y * values[1] / values[0])) % 2
    if kind == "checkerboard":
        return (np.floor(x / values[0]) + np.floor(y / values[0])) % 2
    if kind == "glow":
        return (((x - values[0]) ** 2 + (y - values[1]) ** 2) ** 0.5 / values[2]).clip(0, 1)
    if kind in ("tiles", "bricks"):
        period, line = values
        shift, length = (0, period) if kind == "tiles" else (period * (np.floor(y / period) % 2), 2 * period)
        return 1.0 * (((x + shift) % length < line) | (y % period < line))
    if kind == "dots":
        period, size_of_dots = values
        return 1.0 * ((x / period % 1 - 0.5) ** 2 + (y / period % 1 - 0.5) ** 2 < size_of_dots)
    if kind == "plaid":
        return 0.5 * (np.floor(x / values[0]) % 2) + 0.5 * (np.floor(y / values[1]) % 2)
    if kind == "waves":
        return 0.5 + 0.5 * np.sin(y / values[0] + values[2] * np.sin(x / values[1]))
    if kind == "grass":
        return 0.4 * noise[0] + 0.3 * noise[1] + 0.3 * noise[2]
    if kind == "wood":
        return 0.5 + 0.35 * np.sin(y / values[0] + values[1] * noise[0]) + 0.3 * (noise[1] - 0.5)
    clouds = 0.55 * noise[0] + 0.3 * noise[1] + 0.15 * noise[2]
    if kind == "clouds":
        return clouds
    along = x * math.cos(values[0]) + y * math.sin(values[0])
    return 0.5 + 0.5 * np.sin(along / values[1] + values[2] * clouds)  # marble


def _soft_colour(rng: np.random.Generator) -> np.ndarray:
    """Backgrounds are paler than most objects, but any grey level occurs."""
    base = rng.uniform(60, 245)
    return np.clip(base + rng.normal(0, 28, 3), 20, 250)
