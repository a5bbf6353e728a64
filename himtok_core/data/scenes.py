"""Drawn scenes with exact ground truth: a few objects over a background, seeded and reproducible.

Knows how to place, draw and occlude objects. What is asked about a scene is `questions`' work.
"""

import io
import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from .sprites import Concept, load_concepts, load_sprite

COLOURS = {
    "red": (221, 36, 40),
    "orange": (247, 138, 22),
    "yellow": (252, 215, 40),
    "green": (52, 168, 76),
    "blue": (42, 104, 222),
    "purple": (136, 62, 190),
    "pink": (246, 130, 178),
    "black": (30, 30, 34),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
BACKGROUNDS = ("flat", "gradient", "noise", "stripes", "checkerboard", "sky")

# Seeds below this are for training; evaluation counts up from it, so that the two never meet.
HELD_OUT_SEED = 1_000_000_000


@dataclass(frozen=True)
class World:
    """What scenes are made of.

    Attributes:
        concepts: the named drawings.
        shapes, colours: the plain figures and their colours.
        max_objects: 1 to this many objects a scene.
        sizes: smallest and largest longer side of an object, as a fraction of the picture's shorter side.
        hidden: the largest part of an object that others may cover.
    """

    concepts: tuple[Concept, ...] = field(default_factory=load_concepts)
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    max_objects: int = 4
    sizes: tuple[float, float] = (0.4, 0.7)
    hidden: float = 0.25

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of all plain figures, e.g. "red circle"."""
        return tuple(f"{colour} {shape}" for colour in self.colours for shape in self.shapes)


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene.

    Attributes:
        name: what it is called, e.g. "red apple" or "blue circle"; never with an article.
        synonyms: other names for it.
        shape, colour: of a plain figure; both None for a drawing.
        style: drawing style ("fluent3d", "noto", "twemoji") or "figure".
        mask: bool [H, W], the visible part.
        box: (x0, y0, x1, y1) of the visible part in pixels, x1 and y1 exclusive.
    """

    name: str
    synonyms: tuple[str, ...]
    shape: str | None
    colour: str | None
    style: str
    mask: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Visible pixels."""
        return int(self.mask.sum())

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box (x, y) in pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (RGB) and its objects, back to front."""

    seed: int
    picture: Image.Image
    objects: tuple[SceneObject, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.picture.size


@dataclass(frozen=True)
class _Item:
    """An object before it is drawn."""

    name: str
    synonyms: tuple[str, ...]
    shape: str | None
    colour: str | None
    style: str
    code: str | None


def make_scene(seed: int, world: World, size: tuple[int, int] | None = None) -> Scene:
    """Draw one scene.

    Args:
        seed: the same seed, world and size give the same pixels.
        world: what scenes are made of.
        size: (width, height) in pixels; None picks an aspect ratio between 5:8 and 8:5 at about 160 x 160.
    """
    rng = np.random.default_rng(seed)
    if size is None:
        ratio = math.exp(np.clip(rng.normal(0, 0.2), -math.log(1.6), math.log(1.6)))
        size = (round(160 * math.sqrt(ratio)), round(160 / math.sqrt(ratio)))
    picture = _background(rng, size)
    count = int(rng.integers(1, world.max_objects + 1))
    owner = np.full((size[1], size[0]), -1, dtype=np.int16)  # which object each pixel shows
    items: list[_Item] = []
    full_areas: list[int] = []
    for item in _choose_items(rng, world, count):
        for _ in range(12):
            sprite, (x, y), solid = _place(rng, item, world, size, count)
            window = _window(size, (x, y), sprite.size)
            inside = solid[window.inner]
            trial = owner[window.outer].copy()
            if inside.sum() < 0.8 * solid.sum() or inside.sum() < 30:
                continue
            trial[inside] = len(items)
            areas = np.bincount(owner[owner >= 0], minlength=len(items)) - (
                np.bincount(owner[window.outer][inside & (owner[window.outer] >= 0)], minlength=len(items))
            )
            if all(now >= (1 - world.hidden) * full for now, full in zip(areas, full_areas, strict=True)):
                owner[window.outer] = trial
                picture.paste(sprite, (x, y), sprite)
                items.append(item)
                full_areas.append(int(inside.sum()))
                break
    picture = _camera(rng, picture)
    return Scene(seed, picture, tuple(_finish(item, owner == i) for i, item in enumerate(items)))


def _finish(item: _Item, mask: np.ndarray) -> SceneObject:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return SceneObject(item.name, item.synonyms, item.shape, item.colour, item.style, mask, box)


def _choose_items(rng: np.random.Generator, world: World, count: int) -> list[_Item]:
    """Kinds of the objects; now and then several of one kind, so that questions have to tell them apart."""
    items = [_choose_item(rng, world) for _ in range(count)]
    if count > 1 and rng.random() < 0.35:
        first = items[0]
        for i in range(1, int(rng.integers(2, count + 1))):
            items[i] = first
    return [items[i] for i in rng.permutation(count)]


def _choose_item(rng: np.random.Generator, world: World) -> _Item:
    if rng.random() < 0.25:
        shape, colour = str(rng.choice(world.shapes)), str(rng.choice(world.colours))
        return _Item(f"{colour} {shape}", (), shape, colour, "figure", None)
    concept = world.concepts[rng.integers(len(world.concepts))]
    return _Item(concept.name, concept.synonyms, None, None, str(rng.choice(concept.styles)), concept.code)


def _place(
    rng: np.random.Generator, item: _Item, world: World, size: tuple[int, int], count: int
) -> tuple[Image.Image, tuple[int, int], np.ndarray]:
    """Draw one object at a random size and angle -> (RGBA, top left corner, bool solid part)."""
    low, high = world.sizes
    high = high if count <= 3 else low + 0.6 * (high - low)
    side = min(size) * math.exp(rng.uniform(math.log(low), math.log(high)))
    if item.code is None:
        drawing = _figure(rng, item.shape, item.colour, max(6, round(side)))
        angle = rng.uniform(-15, 15)
    else:
        drawing = load_sprite(item.code, item.style)
        scale = side / max(drawing.size)
        extent = [max(4, round(length * scale)) for length in drawing.size]
        drawing = drawing.resize(extent, Image.Resampling.BOX)
        if rng.random() < 0.5:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        angle = rng.uniform(-25, 25)
    if rng.random() < 0.7:
        drawing = drawing.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    drawing = drawing.crop(drawing.getchannel("A").getbbox())
    width, height = drawing.size
    slack = 0.1  # up to a tenth may leave the picture
    x = rng.uniform(-slack * width, size[0] - (1 - slack) * width)
    y = rng.uniform(-slack * height, size[1] - (1 - slack) * height)
    return drawing, (round(x), round(y)), np.asarray(drawing.getchannel("A")) > 127


@dataclass(frozen=True)
class _Windows:
    outer: tuple[slice, slice]  # in the picture
    inner: tuple[slice, slice]  # in the drawing


def _window(size: tuple[int, int], at: tuple[int, int], extent: tuple[int, int]) -> _Windows:
    x0, y0 = max(at[0], 0), max(at[1], 0)
    x1, y1 = min(at[0] + extent[0], size[0]), min(at[1] + extent[1], size[1])
    outer = (slice(y0, y1), slice(x0, x1))
    return _Windows(outer, (slice(y0 - at[1], y1 - at[1]), slice(x0 - at[0], x1 - at[0])))


def _figure(rng: np.random.Generator, shape: str, colour: str, side: int) -> Image.Image:
    """A plain figure, drawn at three times its size and reduced."""
    big = 3 * side
    fill = tuple(int(np.clip(c + rng.normal(0, 8), 0, 255)) for c in COLOURS[colour])
    picture = Image.new("RGBA", (big, big), (*fill, 0))
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse((0, 0, big - 1, big - 1), fill)
    elif shape == "square":
        draw.rectangle((0, 0, big - 1, big - 1), fill)
    elif shape == "ring":
        draw.ellipse((0, 0, big - 1, big - 1), fill)
        inset = 0.27 * big
        draw.ellipse((inset, inset, big - 1 - inset, big - 1 - inset), (*fill, 0))
    elif shape == "cross":
        third = big / 3
        draw.rectangle((third, 0, 2 * third, big - 1), fill)
        draw.rectangle((0, third, big - 1, 2 * third), fill)
    elif shape == "triangle":
        draw.polygon([(big / 2, 0), (big - 1, 0.92 * big), (0, 0.92 * big)], fill)
    elif shape == "star":
        points = []
        for i in range(10):
            radius, turn = big / 2 * (1 if i % 2 == 0 else 0.42), math.pi * (i / 5 - 0.5)
            points.append((big / 2 + radius * math.cos(turn), big / 2 + radius * math.sin(turn)))
        draw.polygon(points, fill)
    else:
        raise ValueError(f"no such shape: {shape}")
    return picture.reduce(3)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    kind = str(rng.choice(BACKGROUNDS))
    width, height = size
    first, second = (_soft_colour(rng) for _ in range(2))
    if kind == "flat":
        return Image.new("RGB", size, tuple(int(c) for c in first))
    if kind == "gradient":
        turn = rng.uniform(0, 2 * math.pi)
        across, down = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
        ramp = across * math.cos(turn) + down * math.sin(turn)
        blend = ((ramp + 1.42) / 2.84)[..., None]
    elif kind == "noise":
        coarse = rng.random((int(rng.integers(3, 12)), int(rng.integers(3, 12)))).astype(np.float32)
        blend = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))[..., None]
    elif kind == "sky":
        horizon = rng.uniform(0.4, 0.8) * height
        hills = horizon + 3 * np.sin(np.arange(width) / rng.uniform(6, 25))
        blend = (np.arange(height)[:, None] > hills)[..., None]
        first = np.array([rng.uniform(120, 200), rng.uniform(180, 225), rng.uniform(215, 250)])
        second = np.array([rng.uniform(90, 190), rng.uniform(130, 190), rng.uniform(60, 120)])
    else:
        second = np.clip(first + rng.uniform(-45, 45, 3), 0, 255)
        period = rng.uniform(6, 24)
        stripes = np.floor(np.arange(width) / period)[None]
        if kind == "checkerboard":
            stripes = stripes + np.floor(np.arange(height) / period)[:, None]
        else:
            stripes = stripes + np.floor(np.arange(height)[:, None] * rng.uniform(-1, 1) / period)
        blend = (stripes % 2)[..., None]
    pixels = first * (1 - blend) + second * blend
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).reshape(height, width, 3))


def _soft_colour(rng: np.random.Generator) -> np.ndarray:
    """Backgrounds are paler than most objects, but any grey level occurs."""
    base = rng.uniform(60, 245)
    return np.clip(base + rng.normal(0, 28, 3), 20, 250)


def _camera(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Light, sensor noise and compression."""
    if rng.random() < 0.5:
        gain = rng.uniform(0.85, 1.12)
        picture = picture.point(lambda value: min(255, value * gain))
    if rng.random() < 0.2:
        pixels = np.asarray(picture).astype(np.float32)
        picture = Image.fromarray(np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8))
    if rng.random() < 0.2:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(50, 95)))
        picture = Image.open(buffer).convert("RGB")
    return picture
