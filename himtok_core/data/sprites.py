"""The drawings that scenes are made of, and their names: folders of sprite sheets.

Knows how a sheet is laid out and which names go with which drawing. How the sheets were made is
`build_sprites`' work, what is done with a drawing that of `layouts` and `scenes`.
"""

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "sprites"
MINI_FOLDER, FULL_FOLDER = FOLDER / "mini", FOLDER / "full"
COLUMNS = 32  # drawings side by side in a sheet


@dataclass(frozen=True)
class Concept:
    """A thing with a name.

    Attributes:
        name: in lower case, without article.
        codes: Unicode code points (hex, joined by "-"), one for each drawing that a style has of it.
        synonyms: further names.
        styles: the drawing styles that have it.
        held_out: what no training may see: "all", one of the styles, or "" for nothing.
    """

    name: str
    codes: tuple[str, ...]
    synonyms: tuple[str, ...]
    styles: tuple[str, ...]
    held_out: str = ""


@lru_cache(maxsize=8)
def load_concepts(folder: Path) -> tuple[Concept, ...]:
    """The concepts of a sprite folder, in the order of its `sprites.json`.

    Raises:
        DataError: if there is no such file, or it does not say what it should.
    """
    try:
        entries = json.loads((folder / "sprites.json").read_text(encoding="utf-8"))["concepts"]
        return tuple(
            Concept(
                entry["name"],
                tuple(entry["codes"]),
                tuple(entry["synonyms"]),
                tuple(entry["styles"]),
                entry.get("held_out", ""),
            )
            for entry in entries
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder} is no sprite folder (a sprites.json with concepts is expected): {error}"
        raise DataError(message) from error


@cache
def places(folder: Path) -> dict[str, int]:
    """Code -> its place in every sheet of a folder, counted in rows of COLUMNS cells."""
    codes = [code for concept in load_concepts(folder) for code in concept.codes]
    return {code: place for place, code in enumerate(codes)}


@lru_cache(maxsize=8)
def load_sheet(style: str, folder: Path) -> np.ndarray:
    """All drawings of one style: uint8 (N, side, side, 4), RGBA with straight alpha, N as in `places`.

    Each drawing stands in the top left corner of its cell, its longer side as long as the cell; a cell is
    empty where the style does not have the drawing.

    Raises:
        DataError: if the sheet cannot be read, or is too small for the concepts of the folder.
    """
    path, count = folder / f"{style}.webp", len(places(folder))
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
    except OSError as error:
        raise DataError(f"the sprite sheet {path} cannot be read: {error}") from error
    height, width = pixels.shape[:2]
    side = width // COLUMNS
    rows = height // max(side, 1)
    if rows * COLUMNS < count or (height, width) != (rows * side, COLUMNS * side):
        raise DataError(f"the sprite sheet {path} is {width} x {height}, too small for {count} drawings")
    cells = pixels.reshape(rows, side, COLUMNS, side, 4).transpose(0, 2, 1, 3, 4)
    return cells.reshape(-1, side, side, 4)[:count]


@cache
def load_sprite(code: str, style: str, folder: Path) -> Image.Image:
    """One drawing, RGBA with straight alpha, cut to its outline.

    Raises:
        DataError: if the folder has no such drawing.
    """
    if code not in places(folder):
        raise DataError(f"{folder} has no drawing {code}")
    cell = load_sheet(style, folder)[places(folder)[code]]
    rows, columns = np.flatnonzero(cell[..., 3].any(1)), np.flatnonzero(cell[..., 3].any(0))
    if len(rows) == 0:
        raise DataError(f"{folder} has no drawing {code} in the style {style}")
    return Image.fromarray(np.ascontiguousarray(cell[: rows[-1] + 1, : columns[-1] + 1]))
