"""Training conversations in the reference implementation's layout: JSON lines, listed by a meta file.

Knows the files and checks what a line says; opens no picture. A data set may have millions of lines, so only
their places are kept and a line is read when it is asked for. Which lines a run takes, and in what order, is
`mixture`'s work; turning one into numbers is `training`'s.

The meta file names data sets, as InternVL's does:

    {"name": {"root": "pictures", "annotation": "lines.jsonl", "repeat_time": 1, "data_augment": false}}

and a line of an annotation file is

    {"image": "a.jpg", "mask": "a.png", "conversations": [{"from": "human", "value": "<image>\\nSegment ..."},
     {"from": "gpt", "value": "The mask appears at <|mt_start|><|mt_0|>...<|mt_end|>."}]}

"image" may be a list of pictures or absent (text only). "mask" may be a list too: one for every run that
stands for a mask, in the order of the text. "system" may be the first speaker.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

PICTURE = "<image>"  # where a picture stands in a question
_EMPTY_PHRASE = re.compile(r"<ref>\s*</ref>")


@dataclass(frozen=True)
class TrainingSample:
    """A conversation to learn from.

    Attributes:
        turns: (question, answer) pairs, at least one, with `<image>` where a picture stands.
        system: the system message, None for the model's own.
        pictures: files, one for every `<image>` in the questions, in order.
        masks: files, for the mask runs in the text.
    """

    turns: tuple[tuple[str, str], ...]
    system: str | None
    pictures: tuple[Path, ...]
    masks: tuple[Path, ...]


class AnnotationFile:
    """The lines of one data set.

    Attributes:
        name: of the data set. path: of its JSONL file. root: folder of its pictures and masks.
        repeat: how often each sample comes in an epoch; below 1, the part of them that comes.
        augment: whether the pictures are spoiled a little (JPEG) while training.
        max_tiles: of a picture, None for the run's own limit.

    Raises:
        DataError: if the file cannot be read or has no lines.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        root: Path,
        repeat: float = 1.0,
        augment: bool = False,
        max_tiles: int | None = None,
    ):
        self.name, self.path, self.root = name, path, root
        self.repeat, self.augment, self.max_tiles = repeat, augment, max_tiles
        places, numbers, place = [], [], 0
        try:
            with open(path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        places.append(place)
                        numbers.append(number)
                    place += len(line)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if not places:
            raise DataError(f"{path} has no lines: one JSON object a line is wanted")
        self._places = np.array(places, dtype=np.int64)
        self._numbers = np.array(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def where(self, index: int) -> str:
        """File and line of a sample, for problems."""
        return f"{self.path}:{self._numbers[index]}"

    def sample(self, index: int) -> TrainingSample:
        """Read a line.

        Raises:
            DataError: if it is no JSON object, or no conversation that can be learned from.
        """
        with open(self.path, "rb") as file:
            file.seek(self._places[index])
            line = file.readline()
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"the line is not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"the line must be a JSON object, not {type(row).__name__}")
        if row.get("video"):
            raise DataError("the sample is about a video; pictures and text alone are fine")
        pictures, masks = _files(row, "image", self.root), _files(row, "mask", self.root)
        system, turns = _conversation(row.get("conversations"))
        return TrainingSample(_with_pictures(turns, len(pictures)), system, pictures, masks)


def read_meta(path: str | Path) -> tuple[AnnotationFile, ...]:
    """The data sets that a meta file names; relative paths in it start from the working directory.

    "root", "annotation", "repeat_time" (default 1), "data_augment" (default false) and "max_dynamic_patch"
    (tiles of a picture) are read. "length" says what the file itself says, and is not.

    Raises:
        DataError: if the meta file or an annotation file cannot be used.
    """
    try:
        meta = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(meta, dict) or not meta:
        raise DataError(f'{path} must be a JSON object of data sets: {{"name": {{"root": ...}}}}')
    return tuple(_data_set(path, name, entry) for name, entry in meta.items())


def _data_set(path: str | Path, name: str, entry: object) -> AnnotationFile:
    match entry:
        case {"root": str(root), "annotation": str(annotation)}:
            pass
        case _:
            raise DataError(f'{path}: data set {name!r} needs "root" and "annotation", both texts')
    repeat, tiles = entry.get("repeat_time", 1), entry.get("max_dynamic_patch")
    if isinstance(repeat, bool) or not isinstance(repeat, int | float) or not 0 < repeat < float("inf"):
        raise DataError(f'{path}: "repeat_time" of {name!r} must be a number above 0, not {repeat!r}')
    if tiles is not None and (isinstance(tiles, bool) or not isinstance(tiles, int) or tiles < 1):
        raise DataError(f'{path}: "max_dynamic_patch" of {name!r} must be a number from 1 on, not {tiles!r}')
    augment = bool(entry.get("data_augment", False))
    return AnnotationFile(name, Path(annotation), Path(root), float(repeat), augment, tiles)


def _files(row: dict, key: str, root: Path) -> tuple[Path, ...]:
    named = row.get(key) or []
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(name, str) and name for name in named):
        raise DataError(f'"{key}" must be a file name or a list of file names, not {row[key]!r}')
    return tuple(root / name for name in named)


def _conversation(said: object) -> tuple[str | None, list[tuple[str, str]]]:
    """What "conversations" holds: the system message, and questions with their answers."""
    if not isinstance(said, list) or not said:
        raise DataError('the conversation is empty: "conversations" must be a list of what human and gpt say')
    speakers, texts = [], []
    for turn in said:
        match turn:
            case {"from": str(speaker), "value": str(text)}:
                speakers.append(speaker)
                texts.append(text)
            case _:
                raise DataError(f'a turn must be {{"from": ..., "value": text}}, not {str(turn)[:80]}')
    system = texts.pop(0) if speakers[0] == "system" else None
    speakers = speakers[1:] if system is not None else speakers
    if not speakers or speakers != ["human", "gpt"] * (len(speakers) // 2):
        raise DataError(f"human and gpt must speak in turns, human first and gpt last, not {speakers}")
    for number, text in enumerate(texts, start=1):
        if not text.replace(PICTURE, "").strip():
            raise DataError(f"turn {number} of the conversation is empty")
        if _EMPTY_PHRASE.search(text):
            raise DataError(f"turn {number} of the conversation has an empty <ref></ref>")
    return system, list(zip(texts[::2], texts[1::2]))


def _with_pictures(turns: list[tuple[str, str]], count: int) -> tuple[tuple[str, str], ...]:
    """The turns with one `<image>` a picture: a single one may be left out and comes first then."""
    if any(PICTURE in answer for _, answer in turns):
        raise DataError(f"an answer holds {PICTURE}; pictures stand in questions only")
    places = sum(question.count(PICTURE) for question, _ in turns)
    if count == 1 and places == 0:
        question, answer = turns[0]
        turns, places = [(f"{PICTURE}\n{question}", answer), *turns[1:]], 1
    if places != count:
        raise DataError(f"the questions hold {places} times {PICTURE}, but the sample has {count} pictures")
    return tuple(turns)
