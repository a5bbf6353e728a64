"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and whatever is laid out like them.

Knows three layouts: `refs(unc).p` beside COCO's `instances.json`, `grefs(unc).json` beside the same, and
the JSON that PSALM converts both to, where every item carries its annotations. Pictures are not opened here.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import DataError
from .coco import Instances, mask_of, read_instances, read_json, size_of
from .problems import DataProblems

NO_TARGET = -1  # gRefCOCO's "ann_id" of an expression that fits nothing
# What unpickling is known to raise on damaged files.
_DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
    MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reference:
    """What is referred to in one picture, with every expression for it.

    Attributes:
        id: unique in its file.
        file_name: of the picture, as COCO names it.
        size: (width, height) of the picture in pixels.
        sentences: (id, text) of every expression; texts are not empty. The ids are the data set's own
            "sent_id" where it has one, so they are the same in all layouts.
        annotations: the objects as COCO annotations; empty if the expressions fit nothing.
        where: file and place in it.
    """

    id: str
    file_name: str
    size: tuple[int, int]
    sentences: tuple[tuple[str, str], ...]
    annotations: tuple[dict, ...]
    where: str

    def mask(self) -> np.ndarray:
        """All objects in one bool mask [height, width]; DataError if an annotation holds no mask."""
        merged = np.zeros((self.size[1], self.size[0]), dtype=bool)
        for annotation in self.annotations:
            merged |= mask_of(annotation.get("segmentation"), self.size)
        return merged


def read_references(
    path: Path,
    problems: DataProblems,
    split: str | None = None,
    instances: Path | None = None,
) -> Iterator[Reference]:
    """Reads a file of referring expressions in any of the three layouts, in the order of the file.

    Args:
        path: `refs(unc).p`, `refs(umd).p`, `grefs(unc).json` or PSALM's JSON.
        problems: gets what cannot be used: an object or picture that is not in `instances`, an expression
            without words.
        split: "train", "val", "testA", ...; None for everything. PSALM's files are one split each and do
            not say which.
        instances: COCO's `instances.json`; by default the one beside `path`. PSALM's JSON needs none.

    Raises:
        DataError: if a file is missing, unsafe or of another layout, or has nothing of that split.
    """
    entries = read_pickle(path) if path.suffix == ".p" else read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise DataError(f"{path} is no file of referring expressions: it should hold a list of entries.")
    if "instruction" in entries[0]:
        if split is not None:
            raise DataError(f"{path} is one split as a whole: choose the file, not --split {split}.")
        found = _psalm(path, entries, problems)
    elif "sentences" in entries[0]:
        splits = sorted({str(entry.get("split")) for entry in entries})
        if split is not None and split not in splits:
            raise DataError(f"{path} has no split {split!r}, only {', '.join(splits)}.")
        chosen = [entry for entry in entries if split is None or entry.get("split") == split]
        found = _original(path, chosen, read_instances(instances or path.parent / "instances.json"), problems)
    else:
        raise DataError(f'{path} has entries with neither "sentences" (as published) nor "instruction".')
    return found


def read_pickle(path: Path) -> object:
    """The plain data of a pickle: lists, tuples, sets, dicts, text, bytes, numbers, booleans, None.

    A pickle is a program that may name any function of the machine and call it. The published files of
    referring expressions need none, so one that names anything at all is refused. They were written by
    Python 2, whose texts arrive as bytes and are read as UTF-8.

    Raises:
        DataError: if the file cannot be read, is damaged, or asks for more than plain data.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except _DAMAGED as error:
        raise DataError(f"{path} is no pickle, or a damaged one ({error}).") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(f"The pickle asks for {module}.{name}: only plain lists, dicts, texts and numbers "
                        "are read, because anything else could run as a program.")  # fmt: skip


def _original(
    path: Path, entries: list[dict], instances: Instances, problems: DataProblems
) -> Iterator[Reference]:
    for entry in entries:
        reference = str(entry.get("ref_id"))
        where = f"{path.name}: ref {reference}"
        image = instances.images.get(entry.get("image_id"))
        if image is None:
            problems.report(where, f"picture {entry.get('image_id')!r} is not in instances.json")
            continue
        ids = entry.get("ann_id")
        ids = [ids] if not isinstance(ids, list) else ids
        annotations = [instances.annotations.get(number) for number in ids if number != NO_TARGET]
        if not ids or None in annotations:
            problems.report(where, f"annotation {ids} is not in instances.json")
            continue
        yield from _checked(reference, image, entry.get("sentences"), annotations, where, problems)


def _psalm(path: Path, entries: list[dict], problems: DataProblems) -> Iterator[Reference]:
    for number, entry in enumerate(entries):
        where = f"{path.name}: item {number}"
        image, annotations = entry.get("image_info"), entry.get("anns")
        if not isinstance(image, dict) or not isinstance(annotations, list):
            problems.report(where, 'the item needs "image_info" and the list "anns"')
            continue
        name = str(entry.get("new_img_id", number))
        yield from _checked(name, image, entry.get("instruction"), annotations, where, problems)


def _checked(
    name: str, image: dict, sentences: object, annotations: list, where: str, problems: DataProblems
) -> Iterator[Reference]:
    """One reference, or none and a problem."""
    try:
        size = size_of(image)
    except DataError as error:
        problems.report(where, str(error))
        return
    if not isinstance(image.get("file_name"), str) or not all(isinstance(a, dict) for a in annotations):
        problems.report(where, "the picture has no file_name, or an annotation is no JSON object")
        return
    if not isinstance(sentences, list) or not sentences:
        problems.report(where, "there is no expression")
        return
    kept = []
    for number, sentence in enumerate(sentences):
        text = sentence.get("sent") if isinstance(sentence, dict) else None
        if not isinstance(text, str) or not text.strip():
            problems.report(f"{where}, expression {number + 1}", "the expression is empty")
            continue
        kept.append((str(sentence.get("sent_id", f"{name}.{number}")), text.strip()))
    if kept:
        yield Reference(name, image["file_name"], size, tuple(kept), tuple(annotations), where)
