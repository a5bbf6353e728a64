"""Layouts: everything that is decided about a scene before a pixel of its picture is drawn.

Knows what turns up, where, how large, in which order, and who hides whom; for that it needs the outlines of
things, but no colours. Drawing a layout is left to `scenes`.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from . import backgrounds, figures
from .backgrounds import Background
from .figures import Fill
from .sprites import load_sprite
from .world import COLOURS, World

_TRIALS = 12  # places tried for a thing before it is left out


@dataclass(frozen=True)
class Thing:
    """What an object is, before it has a place: a drawing (`code` and `style`) or a plain figure (`fill`).

    Attributes:
        name, synonyms, shape, colour, texture, style: as of `scenes.SceneObject`.
        code: of a drawing, None for a figure. fill: of a figure, None for a drawing.
    """

    name: str
    synonyms: tuple[str, ...]
    shape: str | None
    colour: str | None
    texture: str | None
    style: str
    code: str | None
    fill: Fill | None = None


@dataclass(frozen=True)
class Placement:
    """A thing and its place.

    Attributes:
        extent: (width, height) of the drawing in pixels before it is turned.
        flipped: mirrored from left to right. angle: then turned by so many degrees counter-clockwise.
        at: (x, y) of the top left corner of the turned drawing, margins cut off, in pixels.
    """

    thing: Thing
    extent: tuple[int, int]
    flipped: bool
    angle: float
    at: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Camera:
    """What the camera does, None for nothing.

    Attributes:
        gain: factor of all values. blur: radius in pixels. noise: float [H, W, 3], added to values 0..255.
        quality: of JPEG compression.
    """

    gain: float | None
    blur: float | None
    noise: np.ndarray | None
    quality: int | None


@dataclass(frozen=True, eq=False)
class Layout:
    """A scene as it was decided.

    Attributes:
        size: (width, height) in pixels. placements: back to front.
        owner: int16 [H, W], the index of the placement that each pixel shows, -1 for the background.
    """

    seed: int
    size: tuple[int, int]
    background: Background
    placements: tuple[Placement, ...]
    owner: np.ndarray
    camera: Camera


def make_layout(seed: int, world: World, size: tuple[int, int] | None = None) -> Layout:
    """Decide one scene.

    Args:
        seed: the same seed, world and size give the same scene.
        world: what scenes are made of.
        size: (width, height) in pixels; None lets the scene choose its own, within the world's limits.
    """
    rng = np.random.default_rng(seed)
    if size is None:
        limit = math.log(world.elongation)
        ratio = math.exp(np.clip(rng.normal(0, world.elongation_spread), -limit, limit))
        size = (round(world.side * math.sqrt(ratio)), round(world.side / math.sqrt(ratio)))
    background = backgrounds.choose(rng, world.backgrounds, size)
    count = int(rng.integers(1, world.max_objects + 1))
    owner = np.full((size[1], size[0]), -1, dtype=np.int16)
    placements: list[Placement] = []
    full_areas: list[int] = []
    areas = np.zeros(0, dtype=np.int64)  # visible now
    for thing in _choose_things(rng, world, background, count):
        for _ in range(_TRIALS):
            placement, solid = _place(rng, thing, world, size, count)
            outer, inner = _windows(size, placement.at, solid.shape)
            inside = solid[inner]
            shown = int(inside.sum())
            if shown < 0.8 * solid.sum() or shown < 30:
                continue
            window = owner[outer]
            covered = window[inside & (window >= 0)]
            left = areas - np.bincount(covered, minlength=len(areas))
            if all(now >= (1 - world.hidden) * full for now, full in zip(left, full_areas, strict=True)):
                window[inside] = len(placements)
                placements.append(placement)
                full_areas.append(shown)
                areas = np.append(left, shown)
                break
    return Layout(seed, size, background, tuple(placements), owner, _choose_camera(rng, world, size))


def draw(placement: Placement, world: World) -> Image.Image:
    """The turned drawing of a placement, RGBA, margins cut off; it belongs at `placement.at`."""
    thing = placement.thing
    if thing.fill is not None:
        drawing = figures.draw(thing.shape, placement.extent[0], thing.fill)
    else:
        drawing = load_sprite(thing.code, thing.style, world.sprites)
    drawing = _turned(drawing, placement.extent, placement.flipped, placement.angle)
    return drawing.crop(drawing.getchannel("A").getbbox())


def _choose_things(rng: np.random.Generator, world: World, background: Background, count: int) -> list[Thing]:
    """Kinds of the objects; now and then several of one kind, so that questions have to tell them apart."""
    things = [_choose_thing(rng, world, background) for _ in range(count)]
    if count > 1 and rng.random() < 0.35:
        first = things[0]
        for i in range(1, int(rng.integers(2, count + 1))):
            things[i] = first
    return [things[i] for i in rng.permutation(count)]


def _choose_thing(rng: np.random.Generator, world: World, background: Background) -> Thing:
    if rng.random() < 0.25:
        shape, colour = str(rng.choice(world.shapes)), str(rng.choice(world.colours))
        texture = str(rng.choice(world.textures)) if len(world.textures) > 1 else world.textures[0]
        while world.contrast and _distance(colour, background) < world.contrast:
            colour = str(rng.choice(world.colours))
        fill = Fill(texture, COLOURS[colour], COLOURS[colour])
        return Thing(f"{colour} {shape}", (), shape, colour, texture, "figure", None, fill)
    concept = world.concepts[rng.integers(len(world.concepts))]
    style = str(rng.choice(concept.styles))
    code = concept.codes[rng.integers(len(concept.codes))] if len(concept.codes) > 1 else concept.codes[0]
    return Thing(concept.name, concept.synonyms, None, None, None, style, code)


def _distance(colour: str, background: Background) -> float:
    """Between a figure's colour and the nearer one of the background's."""
    rgb = np.array(COLOURS[colour])
    return min(float(np.linalg.norm(rgb - other)) for other in (background.first, background.second))


def _place(
    rng: np.random.Generator, thing: Thing, world: World, size: tuple[int, int], count: int
) -> tuple[Placement, np.ndarray]:
    """A random size, angle and place, and the solid part of the turned drawing, bool [h, w]."""
    low, high = world.sizes
    high = high if count <= 3 else low + 0.6 * (high - low)
    if world.even_sizes:
        side = min(size) * rng.uniform(low, high)
    else:
        side = min(size) * math.exp(rng.uniform(math.log(low), math.log(high)))
    flipped = False
    if thing.fill is not None:
        pixels = max(6, round(side))
        extent = (pixels, pixels)
        thing = replace(thing, fill=_vary(rng, thing.fill))
        drawing = figures.outline(thing.shape, pixels)
        angle = rng.uniform(-15, 15)
    else:
        drawing = load_sprite(thing.code, thing.style, world.sprites).getchannel("A")
        scale = side / max(drawing.size)
        extent = (max(4, round(drawing.width * scale)), max(4, round(drawing.height * scale)))
        flipped = bool(rng.random() < 0.5)
        angle = rng.uniform(-25, 25)
    if rng.random() >= 0.7:
        angle = 0.0
    turned = _turned(drawing, extent, flipped, angle)
    box = turned.getbbox()
    width, height = box[2] - box[0], box[3] - box[1]
    slack = 0.1  # up to a tenth may leave the picture
    x = round(rng.uniform(-slack * width, size[0] - (1 - slack) * width))
    y = round(rng.uniform(-slack * height, size[1] - (1 - slack) * height))
    solid = np.asarray(turned.crop(box)) > 127
    return Placement(thing, extent, flipped, angle, (x, y)), solid


def _vary(rng: np.random.Generator, fill: Fill) -> Fill:
    """No two reds are quite the same; the second colour of a texture is a lighter or darker one."""
    first = tuple(int(np.clip(c + rng.normal(0, 8), 0, 255)) for c in fill.first)
    if fill.texture == "plain":
        return replace(fill, first=first)
    light = sum(first) > 330
    second = tuple(round(0.72 * c) if light else round(0.65 * c + 89) for c in first)
    count = int(rng.integers(3, 7)) if fill.texture == "striped" else int(rng.integers(3, 5))
    return replace(fill, first=first, second=second, count=count, turn=rng.uniform(0, math.pi))


def _turned(drawing: Image.Image, extent: tuple[int, int], flipped: bool, angle: float) -> Image.Image:
    if drawing.size != extent:
        drawing = drawing.resize(extent, Image.Resampling.BOX)
    if flipped:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return drawing.rotate(angle, Image.Resampling.BICUBIC, expand=True) if angle else drawing


def _windows(
    size: tuple[int, int], at: tuple[int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a drawing of [h, w] pixels lies in the picture, and which part of it that is."""
    x0, y0 = max(at[0], 0), max(at[1], 0)
    x1, y1 = min(at[0] + shape[1], size[0]), min(at[1] + shape[0], size[1])
    outer = (slice(y0, y1), slice(x0, x1))
    return outer, (slice(y0 - at[1], y1 - at[1]), slice(x0 - at[0], x1 - at[0]))


def _choose_camera(rng: np.random.Generator, world: World, size: tuple[int, int]) -> Camera:
    """Light, focus, sensor noise and compression."""
    gain = rng.uniform(0.85, 1.12) if rng.random() < 0.5 else None
    blur = rng.uniform(0.4, 1.4) if world.blur and rng.random() < world.blur else None
    noise = rng.normal(0, 6, (size[1], size[0], 3)) if rng.random() < 0.2 else None
    quality = int(rng.integers(50, 95)) if rng.random() < 0.2 else None
    return Camera(gain, blur, noise, quality)
