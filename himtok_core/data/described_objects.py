"""Objects of pictures with the expressions that mean them and nothing else there, from any source.

Knows data sets of referring expressions and drawn scenes as sources. What is made of the objects is left to
others.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import references
from .problems import DataProblems
from .refcoco import Reference
from .scenes import Scene
from .words import plain

_SCENE_WAYS = (references.by_name, references.by_synonym, references.by_position, references.by_size)


@dataclass(frozen=True, eq=False)
class DescribedObject:
    """An object of a picture.

    Attributes:
        id: the same for the same object in every data set that describes it.
        picture: name of its picture.
        expressions: what means this object and nothing else in the picture.
        kind: its class, for what is certainly another kind of thing; None if unknown.
        mask: gives its bool mask [H, W] at the picture's size, not empty.
    """

    id: str
    picture: str
    expressions: tuple[str, ...]
    kind: str | int | None
    mask: Callable[[], np.ndarray]


def from_references(
    found: Iterable[Reference], images: Path | None, problems: DataProblems
) -> Iterator[DescribedObject]:
    """The objects of a data set of referring expressions, without expressions for several objects or none.

    Args:
        images: folder of the pictures, to make sure that they are there; None does not look.
        problems: gets objects without a usable mask or picture.
    """
    missing: dict[str, bool] = {}
    for reference in found:
        if len(reference.annotations) != 1:
            continue
        name, annotation = reference.file_name, reference.annotations[0]
        if images is not None and missing.setdefault(name, not (images / name).is_file()):
            problems.report(reference.where, f"there is no picture {name} in {images}")
            continue
        try:
            empty = not reference.mask().any()
        except DataError as error:
            problems.report(reference.where, str(error))
            continue
        if empty:
            problems.report(reference.where, "the mask is empty")
            continue
        # COCO numbers its annotations through, so RefCOCO, + and g mean the same object by the same number.
        identity = f"{name}:{annotation.get('id', reference.id)}"
        texts = tuple(text for _, text in reference.sentences)
        yield DescribedObject(identity, name, texts, annotation.get("category_id"), reference.mask)


def from_scene(scene: Scene, picture: str) -> Iterator[DescribedObject]:
    """The objects of a drawn scene with names, places and sizes that mean only them."""
    for index, item in enumerate(scene.objects):
        phrases = [
            reference.phrase
            for way in _SCENE_WAYS
            for reference in way(scene)
            if reference.target == (index,)
        ]
        if phrases:
            mask = item.mask
            yield DescribedObject(
                f"{picture}:{index}", picture, tuple(phrases), item.name, lambda mask=mask: mask
            )


def merge_objects(objects: Iterable[DescribedObject]) -> list[DescribedObject]:
    """Objects by id, each with all expressions that any entry has for it, without repetitions."""
    found: dict[str, DescribedObject] = {}
    texts: dict[str, dict[str, str]] = {}
    for item in objects:
        found.setdefault(item.id, item)
        distinct = texts.setdefault(item.id, {})
        for text in item.expressions:
            if plain(text):
                distinct.setdefault(plain(text), text)
    return [
        replace(item, expressions=tuple(texts[name].values())) for name, item in found.items() if texts[name]
    ]
