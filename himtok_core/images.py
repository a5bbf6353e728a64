"""Opens and checks a picture, and prepares it for the model: tiles, thumbnail, normalisation.

Knows files, Pillow and the preprocessing of the reference implementation. What a processor does with the
numbers is left to others. Every picture that comes out of `open_picture` is RGB, upright and opaque.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import PictureError

MAX_PIXELS = 64_000_000

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PictureSource = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray

# What Pillow's readers are known to raise on damaged files, each format in its own way.
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError,
    AttributeError, struct.error, zlib.error,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def open_picture(source: PictureSource) -> Image.Image:
    """Opens a picture: a path, the bytes of a file, an open binary file, a Pillow image, or uint8 [H, W, 3].

    Returns a new RGB image: turned as its EXIF data says, transparency laid over white, 16-bit and float
    levels scaled to 8 bits, the first frame of an animation. Raises PictureError for what is not a picture,
    is damaged, or has more than 64 megapixels; the size is checked before the pixels are decoded.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise PictureError(f"There is no picture file at {os.fspath(source)!r}.")
    elif isinstance(source, bytes | bytearray):
        source = BytesIO(source)
    elif not isinstance(source, Image.Image) and not hasattr(source, "read"):
        raise PictureError(f"A picture is a path, bytes, an open file, a Pillow image or an array, "
                           f"not {type(source).__name__}.")
    try:
        if isinstance(source, Image.Image):
            return _decode(source)
        with Image.open(source) as image:
            return _decode(image)
    except UnidentifiedImageError as error:
        raise PictureError("The file is not a picture that can be read. "
                           "PNG, JPEG, WebP, GIF, BMP and TIFF are fine.") from error
    except _BOMB as error:
        raise PictureError(f"The picture is far larger than {MAX_PIXELS // 10**6} megapixels.") from error
    except MemoryError as error:
        raise PictureError("There is not enough memory to decode the picture.") from error
    except _DAMAGED as error:
        raise PictureError(f"The picture is damaged or cut off and cannot be decoded ({error}).") from error


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int) -> tuple[int, int]:
    """How many (columns, rows) of tiles of `tile_size` pixels a picture is stretched to, at most `max_tiles`.

    The grid whose aspect ratio is nearest to the picture's; of equally near ones a larger grid only if the
    picture has more than half of that grid's pixels.
    """
    lengths = range(1, max_tiles + 1)
    grids = [(columns, rows) for columns in lengths for rows in lengths if columns * rows <= max_tiles]
    grids.sort(key=lambda grid: grid[0] * grid[1])
    best, best_distance = (1, 1), float("inf")
    for columns, rows in grids:
        distance = abs(width / height - columns / rows)
        large_enough = width * height > 0.5 * tile_size * tile_size * columns * rows
        if distance < best_distance or (distance == best_distance and large_enough):
            best, best_distance = (columns, rows), distance
    return best


def tile_picture(image: Image.Image, tile_size: int, max_tiles: int) -> list[Image.Image]:
    """Cuts an RGB picture into square tiles, row by row; if more than one, the whole picture comes last.

    The picture is stretched (bicubic) to the grid of `choose_grid` first, its aspect ratio is not kept.
    """
    columns, rows = choose_grid(*image.size, max_tiles, tile_size)
    stretched = image.resize((columns * tile_size, rows * tile_size), Image.Resampling.BICUBIC)
    tiles = [
        stretched.crop((left, top, left + tile_size, top + tile_size))
        for top in range(0, rows * tile_size, tile_size)
        for left in range(0, columns * tile_size, tile_size)
    ]
    if len(tiles) > 1:
        tiles.append(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    return tiles


def normalise(tiles: Sequence[Image.Image]) -> np.ndarray:
    """RGB tiles of S x S pixels as float32 [T, 3, S, S]: 0..1, minus ImageNet's mean, over its deviation."""
    pixels = np.stack([np.asarray(tile, dtype=np.float32) for tile in tiles]) / 255  # (T, S, S, 3)
    pixels = (pixels - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # (T, 3, S, S)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise PictureError(f"A picture as an array is uint8 of shape (height, width, 3), "
                           f"not {array.dtype} of shape {array.shape}.")
    _check_size(array.shape[1], array.shape[0])
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(image: Image.Image) -> Image.Image:
    """Decodes an image whose header has been read and brings it to upright opaque RGB."""
    _check_size(*image.size)
    image.load()
    _check_size(*image.size)  # Icons may turn out larger than their header says.
    return _to_rgb(_upright(image))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError(f"The picture has no pixels, it is {width} x {height}.")
    if width * height > MAX_PIXELS:
        raise PictureError(f"The picture has {width} x {height} pixels, more than "
                           f"{MAX_PIXELS // 10**6} megapixels. Make it smaller first.")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        return image  # Damaged EXIF data say nothing about the picture itself.


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_levels(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])  # Premultiplied: one way out only.
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_levels(image: Image.Image) -> Image.Image:
    """Grey levels of 16 or 32 bits or floats as 8 bits.

    I;16 spans 0..65535. The modes I and F do not say their range, so the values do: 0..1 (floats only),
    0..255 or 0..65535 if they fit, else from their own least to their greatest.
    """
    levels = np.asarray(image).astype(np.float64)
    if not np.isfinite(levels).all():
        raise PictureError("The picture holds values that are no numbers (NaN or infinite).")
    low, high = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        fitting = [1.0, 255.0, 65535.0] if image.mode == "F" else [255.0, 65535.0]
        low, high = levels.min(), levels.max()
        if low >= 0:
            low, high = 0.0, next((limit for limit in fitting if levels.max() <= limit), high)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[levels == transparent] = high
    levels = (levels - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")
