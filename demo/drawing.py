"""Pixels for the page: the picture, coloured masks over it, and the mask file to download, as data URLs.

Knows colours and image formats. Everything is sent inside the page, so nothing of a visitor's is ever served
as a file that another visitor could fetch. Where a layer goes and what it is called is left to `views`.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

# Told apart on light and on dark, also by most colour-blind eyes; neighbours in the list differ most.
OBJECT_COLOURS = (
    "#e4572e", "#2f7fe0", "#12a37a", "#e6a417", "#8f5bd6", "#e0559b", "#14a3b8", "#7fa821",
)
LARGEST_SIDE = 1600  # of the picture as it is shown; the model and the mask file keep its own size
LAYER_SIDE = 960
OUTLINE = 3


def colour_of(number: int) -> str:
    """The colour of the object with this number in a conversation, as #rrggbb; colours repeat after eight."""
    return OBJECT_COLOURS[number % len(OBJECT_COLOURS)]


def picture_url(picture: Image.Image, largest_side: int = LARGEST_SIDE) -> str:
    """The picture as it is shown, at most this large, as a JPEG."""
    shown = picture.copy()
    shown.thumbnail((largest_side, largest_side))
    return _data_url(shown, "JPEG", quality=92)


def thumbnail_url(path: Path, side: int = 160) -> str:
    """A picture file as a small square, cut from its middle."""
    with Image.open(path) as picture:
        return _data_url(ImageOps.fit(picture.convert("RGB"), (side, side)), "JPEG", quality=88)


def mask_url(mask: np.ndarray) -> str:
    """A mask, bool [H, W], as a PNG of exactly W x H pixels: white (255) inside, black (0) outside."""
    return _data_url(Image.fromarray(mask).convert("1"), "PNG")


def layer_urls(mask: np.ndarray, colour: str) -> tuple[str, str]:
    """A mask, bool [H, W], as two transparent layers in one colour: its area, and its outline.

    Both are drawn at a size of their own and with round pixel corners: the page stretches small pictures.
    """
    scale = LAYER_SIDE / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    if scale > 1:
        smooth = smooth.filter(ImageFilter.GaussianBlur(scale / 2))
    shown = np.asarray(smooth) > 127
    return _layer(shown, colour), _layer(outline(shown, OUTLINE), colour)


def coverage_url(masks: Sequence[tuple[np.ndarray, str]], side: int = 96) -> str:
    """Several masks, bool [H, W] each, as one small transparent picture, each in the colour beside it."""
    height, width = masks[0][0].shape
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.new("RGBA", size)
    for mask, colour in masks:
        # Smoothed while shrinking: at this size a hard edge would hide what the tokens change.
        alpha = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        small.paste(Image.new("RGBA", size, colour), mask=alpha)
    return _data_url(small, "PNG")


def outline(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of a mask, bool [H, W], that lie within `thickness` of its edge, bool [H, W].

    The border of the picture is no edge: a mask that leaves the picture is open there.
    """
    inner = mask
    for _ in range(thickness):
        padded = np.pad(inner, 1, mode="edge")
        inner = (inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
    return mask & ~inner


def _layer(mask: np.ndarray, colour: str) -> str:
    layer = Image.fromarray(mask.astype(np.uint8)).convert("P")
    rgb = tuple(bytes.fromhex(colour.removeprefix("#")))
    layer.putpalette((0, 0, 0, *rgb))
    return _data_url(layer, "PNG", transparency=0, bits=1)


def _data_url(image: Image.Image, file_format: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
