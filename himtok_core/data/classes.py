"""Pictures in which every pixel has a class: COCO-panoptic sets, and plain maps with a list of names.

Knows both layouts and brings them to one: segments with classes, and pixels without any. Pictures are not
opened here.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ..images import MAX_PIXELS
from .coco import read_json, size_of
from .problems import DataProblems

VOID = 255  # class number of unlabelled pixels in a plain map
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
# COCO's panoptic names tell how they came about from COCO-Stuff's.
_SUFFIXES = ("-merged", "-other", "-stuff")


@dataclass(frozen=True, eq=False)
class Segments:
    """The truth of one picture.

    Attributes:
        numbers: int32 [height, width], the segment of every pixel; 0 where there is none.
        classes: segment -> class number.
        crowds: segments that stand for many things at once.
    """

    numbers: np.ndarray
    classes: dict[int, int]
    crowds: frozenset[int]


@dataclass(frozen=True, eq=False)
class Labelled:
    """One picture of a set. id: unique. picture, map: files. info: a panoptic set's own entry, else None."""

    id: str
    picture: Path
    map: Path
    size: tuple[int, int] | None
    info: dict | None
    where: str

    def segments(self) -> Segments:
        """Reads the map. Raises DataError if that is not possible, or if it is of another size."""
        pixels = _read_map(self.map, colours=self.info is not None)
        if self.size is not None and self.size != (pixels.shape[1], pixels.shape[0]):
            raise DataError(f"the map {self.map.name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, "
                            f"the picture {self.size[0]} x {self.size[1]}")  # fmt: skip
        if self.info is None:
            numbers = np.where(pixels == VOID, 0, pixels.astype(np.int32) + 1)
            return Segments(numbers, {int(n): int(n) - 1 for n in np.unique(numbers) if n}, frozenset())
        entries = self.info["segments_info"]
        classes = {entry["id"]: entry["category_id"] for entry in entries}
        crowds = frozenset(entry["id"] for entry in entries if entry.get("iscrowd"))
        unnamed = set(np.unique(pixels).tolist()) - set(classes) - {0}
        if unnamed:
            raise DataError(f"the map {self.map.name} has segments {sorted(unnamed)[:5]} without an entry")
        return Segments(pixels.astype(np.int32), classes, crowds)


@dataclass(frozen=True, eq=False)
class ClassSet:
    """A set of labelled pictures.

    Attributes:
        names: class number -> name, as it is asked for. Pixels of other classes count as unlabelled.
        things: the classes that come in instances, for which segments are told apart; None in plain maps.
        pictures: in the order of the file or of the names.
    """

    names: dict[int, str]
    things: frozenset[int] | None
    pictures: tuple[Labelled, ...]


def read_panoptic(path: Path, maps: Path | None, pictures: Path, problems: DataProblems) -> ClassSet:
    """Reads a COCO-panoptic JSON.

    Args:
        maps: the folder of the PNGs; by default the one beside `path` with its name, as COCO has it.
        pictures: the folder of the pictures.

    Raises:
        DataError: if the file is of another layout.
    """
    match read_json(path):
        case {"images": list(images), "annotations": list(annotations), "categories": list(categories)}:
            pass
        case _:
            raise DataError(f'{path} is no panoptic set: it needs "images", "annotations", "categories".')
    try:
        names = {entry["id"]: _spoken(entry["name"]) for entry in categories}
        things = frozenset(entry["id"] for entry in categories if entry.get("isthing"))
        by_id = {entry["id"]: entry for entry in images}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} has a category or picture without {error}.") from error
    folder = path.with_suffix("") if maps is None else maps
    found = []
    for number, entry in enumerate(annotations, 1):
        where = f"{path.name}: annotation {number}"
        match entry:
            case {"image_id": name, "file_name": str(file), "segments_info": list(segments)} if name in by_id:
                pass
            case _:
                problems.report(where, 'it needs "image_id" of a picture, "file_name" and "segments_info"')
                continue
        if not all(isinstance(item, dict) and {"id", "category_id"} <= item.keys() for item in segments):
            problems.report(where, 'a segment needs "id" and "category_id"')
            continue
        try:
            size = size_of(by_id[name])
        except DataError as error:
            problems.report(where, str(error))
            continue
        picture = pictures / str(by_id[name].get("file_name"))
        found.append(Labelled(str(name), picture, folder / file, size, entry, where))
    return ClassSet(names, things, tuple(found))


def read_maps(folder: Path, classes: Path, pictures: Path, problems: DataProblems) -> ClassSet:
    """Reads a folder of PNGs whose grey levels (or palette indices) are class numbers, VOID for none.

    Args:
        classes: a text file: "NUMBER: NAME" a line, or only names, which count from 0.
        pictures: the folder of the pictures, which have the maps' names with their own ending.

    Raises:
        DataError: if there is no map, or the names cannot be read.
    """
    maps = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not maps:
        raise DataError(f"{folder} has no class maps: it should be a folder of PNGs, or a panoptic JSON.")
    found = []
    for path in maps:
        candidates = [pictures / f"{path.stem}{suffix}" for suffix in _PICTURES]
        picture = next((candidate for candidate in candidates if candidate.is_file()), None)
        if picture is None:
            problems.report(path.name, f"there is no picture {path.stem}.jpg in {pictures}")
            continue
        found.append(Labelled(path.stem, picture, path, None, None, path.name))
    return ClassSet(read_names(classes), None, tuple(found))


def read_names(path: Path) -> dict[int, str]:
    """Class number -> name from a text file. Raises DataError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The class names in {path} cannot be read: {error}.") from error
    numbered = [re.fullmatch(r"(\d+)\s*:(.*)", line) for line in lines]
    if any(numbered):
        names = {int(found[1]): found[2].strip() for found in numbered if found}
    else:
        names = dict(enumerate(lines))
    if not names or len(names) != len(lines) or not all(names.values()):
        raise DataError(f'{path} should hold "NUMBER: NAME" a line, or one name a line, each number once.')
    return names


def _read_map(path: Path, colours: bool) -> np.ndarray:
    """A PNG as integers [H, W]: panoptic colours as R + 256 G + 65536 B, else the levels themselves."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"the map {path.name} is larger than any picture may be")
            if colours:
                red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.int32), 2, 0)
                return red + 256 * green + 65536 * blue
            if image.mode not in ("L", "P", "I", "I;16", "1"):
                raise DataError(f"the map {path.name} has colours: grey levels or a palette are wanted")
            return np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"the map {path.name} cannot be read: {error}") from error


def _spoken(name: str) -> str:
    for suffix in _SUFFIXES * 2:
        name = name.removesuffix(suffix)
    return name.replace("_", " ")
