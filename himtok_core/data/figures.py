"""Plain figures: twelve shapes, filled with one colour or a texture of two.

Knows outlines and textures in the figure's own square. Where a figure goes is `layouts`' work.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

_OVERSAMPLING = 3  # figures are drawn so many times larger and reduced


@dataclass(frozen=True)
class Fill:
    """How a figure is filled.

    Attributes:
        texture: "plain", "striped", "dotted" or "checkered".
        first, second: colours (r, g, b) 0..255; a plain figure has the first only, others mostly.
        count: how often the texture repeats across the figure. turn: of its stripes, in radians.
    """

    texture: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    count: int = 1
    turn: float = 0.0


def outline(shape: str, side: int) -> Image.Image:
    """A figure's shape: "L", `side` x `side` pixels, 255 inside and 0 outside, softened at the edge.

    Raises:
        ValueError: for a shape that is none of the twelve.
    """
    return _large_outline(shape, side).reduce(_OVERSAMPLING)


def draw(shape: str, side: int, fill: Fill) -> Image.Image:
    """A figure: RGBA, `side` x `side` pixels."""
    large = _OVERSAMPLING * side
    picture = Image.new("RGBA", (large, large), fill.first)
    if fill.texture != "plain":
        steps = (np.arange(large) + 0.5) / large
        second = _in_second_colour(fill, steps[None, :], steps[:, None])
        pixels = np.where(second[..., None], np.uint8(fill.second), np.uint8(fill.first))
        picture = Image.fromarray(pixels)
    picture.putalpha(_large_outline(shape, side))
    return picture.reduce(_OVERSAMPLING)


def _in_second_colour(fill: Fill, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where a texture shows its second colour: bool; u, v: places across and down the square, 0..1."""
    if fill.texture == "striped":
        place = (u * math.cos(fill.turn) + v * math.sin(fill.turn)) * fill.count
        return place - np.floor(place) < 0.42
    across, down = u * fill.count, v * fill.count
    if fill.texture == "dotted":
        return (across - np.floor(across) - 0.5) ** 2 + (down - np.floor(down) - 0.5) ** 2 < 0.1
    return (np.floor(across) + np.floor(down)) % 2 == 1


def _large_outline(shape: str, side: int) -> Image.Image:
    big = _OVERSAMPLING * side
    picture = Image.new("L", (big, big))
    pen = ImageDraw.Draw(picture)
    if shape == "circle":
        pen.ellipse((0, 0, big - 1, big - 1), 255)
    elif shape == "square":
        pen.rectangle((0, 0, big - 1, big - 1), 255)
    elif shape == "ring":
        pen.ellipse((0, 0, big - 1, big - 1), 255)
        inset = 0.27 * big
        pen.ellipse((inset, inset, big - 1 - inset, big - 1 - inset), 0)
    elif shape == "cross":
        third = big / 3
        pen.rectangle((third, 0, 2 * third, big - 1), 255)
        pen.rectangle((0, third, big - 1, 2 * third), 255)
    elif shape == "triangle":
        pen.polygon([(big / 2, 0), (big - 1, 0.92 * big), (0, 0.92 * big)], 255)
    elif shape == "star":
        points = []
        for i in range(10):
            radius, turn = big / 2 * (1 if i % 2 == 0 else 0.42), math.pi * (i / 5 - 0.5)
            points.append((big / 2 + radius * math.cos(turn), big / 2 + radius * math.sin(turn)))
        pen.polygon(points, 255)
    elif shape == "oval":
        pen.ellipse((0, 0.2 * big, big - 1, 0.8 * big), 255)
    elif shape == "rectangle":
        pen.rectangle((0, 0.24 * big, big - 1, 0.76 * big), 255)
    elif shape == "diamond":
        pen.polygon([(0.5 * big, 0), (0.84 * big, big / 2), (0.5 * big, big - 1), (0.16 * big, big / 2)], 255)
    elif shape in ("pentagon", "hexagon"):
        corners = 5 if shape == "pentagon" else 6
        turns = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
        pen.polygon([(big / 2 * (1 + math.cos(t)), big / 2 * (1 + math.sin(t))) for t in turns], 255)
    elif shape == "semicircle":
        pen.pieslice((0, 0.25 * big, big - 1, 1.25 * big), 180, 360, 255)
    else:
        raise ValueError(f"no such shape: {shape}")
    return picture
