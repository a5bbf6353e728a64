"""Drawn scenes with exact ground truth: a few objects over a background, seeded and reproducible.

Knows how a layout becomes a picture and which pixels are whose. What is in a scene is `layouts`' work, what
is asked about it that of `questions`.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from . import backgrounds
from .layouts import Camera, Layout, Thing, draw, make_layout
from .world import World

# Seeds below this are for training; evaluation counts up from it, so that the two never meet.
HELD_OUT_SEED = 1_000_000_000


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
        texture: "plain", "striped", "dotted" or "checkered" of a plain figure; None for a drawing.
    """

    name: str
    synonyms: tuple[str, ...]
    shape: str | None
    colour: str | None
    style: str
    mask: np.ndarray
    box: tuple[int, int, int, int]
    texture: str | None = None

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


def make_scene(seed: int, world: World, size: tuple[int, int] | None = None) -> Scene:
    """Decide and draw one scene. Arguments as of `layouts.make_layout`; they decide every pixel."""
    return render(make_layout(seed, world, size), world)


def render(layout: Layout, world: World) -> Scene:
    """Draw a layout."""
    picture = Image.fromarray(backgrounds.paint(layout.background, layout.size))
    for placement in layout.placements:
        drawing = draw(placement, world)
        picture.paste(drawing, placement.at, drawing)
    return Scene(layout.seed, _photograph(picture, layout.camera), objects_of(layout))


def objects_of(layout: Layout) -> tuple[SceneObject, ...]:
    """The objects of a layout, back to front."""
    return tuple(_finish(p.thing, layout.owner == i) for i, p in enumerate(layout.placements))


def _finish(thing: Thing, mask: np.ndarray) -> SceneObject:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return SceneObject(
        thing.name, thing.synonyms, thing.shape, thing.colour, thing.style, mask, box, thing.texture
    )


def _photograph(picture: Image.Image, camera: Camera) -> Image.Image:
    if camera.gain is not None:
        gain = camera.gain
        picture = picture.point(lambda value: min(255, value * gain))
    if camera.blur is not None:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur))
    if camera.noise is not None:
        pixels = np.asarray(picture).astype(np.float32)
        picture = Image.fromarray(np.clip(pixels + camera.noise, 0, 255).astype(np.uint8))
    if camera.quality is not None:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=camera.quality)
        picture = Image.open(buffer).convert("RGB")
    return picture
