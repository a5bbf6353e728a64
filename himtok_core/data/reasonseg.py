"""ReasonSeg: pictures with a question that takes some thought, and polygons as Labelme writes them.

Knows a split's folder: `NAME.jpg` beside `NAME.json`, which holds "text" (questions), "is_sentence" and
"shapes" with the labels "target" and "ignore". Pictures are not opened here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .coco import FARTHEST, read_json
from .polygons import fill_polygon
from .problems import DataProblems

TARGET, IGNORED = 1, 255  # values of `Reasoning.labels`
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class Reasoning:
    """One picture with its question.

    Attributes:
        id: the name of its files.
        picture: the picture's file.
        text: the question; the first one where there are several, as the field does.
        is_sentence: a whole sentence ("long") or a phrase ("short").
        shapes: (label, [(x, y), ...]) each, in pixels.
        where: the JSON file.
    """

    id: str
    picture: Path
    text: str
    is_sentence: bool
    shapes: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    where: str

    def labels(self, size: tuple[int, int]) -> np.ndarray:
        """uint8 [height, width] of a picture of size (width, height): 0, TARGET or IGNORED.

        Larger shapes are drawn first, so that a small region to be ignored inside an object stays. Corners
        are cut to whole pixels and outlines belong to the shape, as in the data set's own tools.
        """
        drawn = []
        for label, points in self.shapes:
            drawn.append((label, fill_polygon([(int(x), int(y)) for x, y in points], size)))
        drawn.sort(key=lambda shape: -int(shape[1].sum()))
        labels = np.zeros((size[1], size[0]), dtype=np.uint8)
        for label, mask in drawn:
            labels[mask] = IGNORED if "ignore" in label.lower() else TARGET
        return labels


def read_reasonseg(folder: Path, problems: DataProblems) -> Iterator[Reasoning]:
    """Reads a split's folder in the order of the names.

    Raises:
        DataError: if there is no JSON file in it.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder} is no split of ReasonSeg: it should be a folder with NAME.jpg, NAME.json.")
    for path in paths:
        try:
            yield _read(path)
        except DataError as error:
            problems.report(path.name, str(error))


def _read(path: Path) -> Reasoning:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError('the file needs "text", "is_sentence" and "shapes"')
    text, is_sentence = content.get("text"), content.get("is_sentence")
    text = text[0] if isinstance(text, list) and text else text
    if not isinstance(text, str) or not text.strip():
        raise DataError("the question is empty")
    if not isinstance(is_sentence, bool):
        raise DataError('"is_sentence" is neither true nor false')
    pictures = [path.with_suffix(suffix) for suffix in _PICTURES if path.with_suffix(suffix).is_file()]
    if not pictures:
        raise DataError(f"there is no picture {path.stem}.jpg beside it")
    shapes = []
    for number, shape in enumerate(content["shapes"], 1):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str):
            raise DataError(f"shape {number} has no label")
        if label.lower() == "flag":  # a remark of the annotators, no region
            continue
        shapes.append((label, _points(shape.get("points"), number)))
    return Reasoning(path.stem, pictures[0], text.strip(), is_sentence, tuple(shapes), path.name)


def _points(points: object, number: int) -> tuple[tuple[float, float], ...]:
    found = []
    for point in points if isinstance(points, list) else []:
        match point:
            case [int() | float() as x, int() | float() as y] if abs(x) <= FARTHEST and abs(y) <= FARTHEST:
                found.append((x, y))
            case _:
                raise DataError(f"shape {number} has a point that is not [x, y] near the picture")
    if not found:
        raise DataError(f"shape {number} has no points")
    return tuple(found)
