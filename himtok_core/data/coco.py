"""COCO's annotation files: masks as polygons or run lengths, indexed by id.

Knows `instances.json` and the three ways in which it writes a mask. What is asked about an object is left to
the readers of single data sets.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from .. import geometry
from ..errors import DataError, MaskError
from ..images import MAX_PIXELS
from .problems import DataProblems

FARTHEST = 100_000  # a polygon's corner in pixels


@dataclass(frozen=True, eq=False)
class Instances:
    """An `instances.json`, by id.

    Attributes:
        images: {"id", "file_name", "width", "height", ...} each.
        annotations: {"id", "image_id", "segmentation", ...} each, as they stand in the file.
    """

    images: dict[int, dict] = field(default_factory=dict)
    annotations: dict[int, dict] = field(default_factory=dict)


def read_json(path: Path) -> object:
    """A JSON file in UTF-8 (or Windows' code page, as some old annotation tools write). Raises DataError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from error


def read_lines(path: Path, problems: DataProblems) -> Iterator[tuple[str, dict]]:
    """The objects of a JSON Lines file with their places, "FILE:LINE"; what is not JSON is a problem.

    Empty lines are passed over. Raises DataError if the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path.name}:{number}"
                try:
                    item = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    problems.report(where, f"the line is not JSON: {error}")
                    continue
                if isinstance(item, dict):
                    yield where, item
                else:
                    problems.report(where, "the line is not a JSON object")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_instances(path: Path) -> Instances:
    """The images and annotations of an `instances.json`. Raises DataError for another layout."""
    match read_json(path):
        case {"images": list(images), "annotations": list(annotations)}:
            pass
        case _:
            raise DataError(f'{path} is no COCO file: it needs the lists "images" and "annotations".')
    return Instances(_by_id(images), _by_id(annotations))


def size_of(image: dict) -> tuple[int, int]:
    """(width, height) of an entry of COCO's "images". Raises DataError if they are missing or no sizes."""
    match image:
        case {"width": int(width), "height": int(height)} if 0 < width * height <= MAX_PIXELS and width > 0:
            return width, height
    raise DataError(f"the entry of picture {image.get('id')!r} has no usable width and height")


def mask_of(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    """COCO's "segmentation" as a bool mask [height, width].

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...] in pixels, or {"size": [height, width], "counts": ...}
            with the run lengths as a list or as compressed text.
        size: (width, height) of the picture.

    Raises:
        DataError: if it is none of these, or of another size than the picture.
    """
    width, height = size
    if isinstance(segmentation, list):
        return _polygons(segmentation, width, height)
    try:
        match segmentation:
            case {"size": [int(rows), int(columns)], "counts": list(counts)}:
                mask = _uncompressed(counts, rows, columns)
            case {"size": [int(), int()], "counts": str()}:
                mask = geometry.rle_to_mask(segmentation)
            case _:
                raise DataError("a mask is a list of polygons or COCO RLE with size and counts")
    except MaskError as error:
        raise DataError(str(error)) from error
    if mask.shape != (height, width):
        raise DataError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels, the picture {width} x {height}"
        )
    return mask


def _by_id(entries: list) -> dict[int, dict]:
    return {entry["id"]: entry for entry in entries if isinstance(entry, dict) and "id" in entry}


def _polygons(polygons: Sequence[object], width: int, height: int) -> np.ndarray:
    for polygon in polygons:
        # pycocotools takes four numbers for a box, and trusts the rest with its memory.
        if not (
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and all(isinstance(value, int | float) and abs(value) <= FARTHEST for value in polygon)
        ):
            raise DataError("a polygon is a list of at least three x, y pairs near the picture")
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    return coco.decode(coco.merge(coco.frPyObjects(list(polygons), height, width))).astype(bool)


def _uncompressed(counts: list, height: int, width: int) -> np.ndarray:
    """Run lengths of zeros and ones in turn, column by column."""
    whole = all(isinstance(count, int) and count >= 0 for count in counts)
    if not whole or sum(counts) != height * width or not 0 < height * width <= MAX_PIXELS:
        raise DataError(f"the counts of a COCO RLE of {height} x {width} pixels must add up to that many")
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return runs.reshape((width, height)).T.copy()
