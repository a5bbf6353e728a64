"""Pictures with the true masks of their objects to train a refiner on: drawn scenes, or COCO photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..data.coco import mask_of, read_instances, size_of
from ..data.scenes import HELD_OUT_SEED, make_scene
from ..data.world import World
from ..errors import DataError, PictureError
from ..images import open_picture

LEAST_PIXELS = 100  # of an object in a photograph; smaller ones have no edge to speak of
SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Pictured:
    """A picture (RGB) and the masks of its objects, bool [H, W], at least one."""

    picture: Image.Image
    masks: list[np.ndarray]


class Source(Protocol):
    """Where pictures come from. Those that are held out are never drawn."""

    def draw(self, rng: np.random.Generator) -> Pictured:
        """A picture to train on."""

    def held_out(self, count: int) -> list[Pictured]:
        """Pictures to score on, the same ones every time."""


class SceneSource:
    """Scenes of a world, as many as there are seeds."""

    def __init__(self, world: World):
        self.world = world

    def draw(self, rng: np.random.Generator) -> Pictured:
        """A scene whose seed is one for training."""
        while not (pictured := self._scene(int(rng.integers(2**29)))).masks:
            pass
        return pictured

    def held_out(self, count: int) -> list[Pictured]:
        """The first held-out scenes; those that are empty are left out."""
        scenes = [self._scene(HELD_OUT_SEED + number) for number in range(count)]
        return [scene for scene in scenes if scene.masks]

    def _scene(self, seed: int) -> Pictured:
        scene = make_scene(seed, self.world)
        return Pictured(scene.picture, [item.mask for item in scene.objects])


class CocoSource:
    """The photographs of a COCO instances.json.

    Args:
        annotations: that file. folder: where the pictures lie under their "file_name".
        held_out: how many of them, chosen at random once and for all, are kept from training.

    Raises:
        DataError: if the file cannot be read or leaves no picture with an object to train on.
    """

    def __init__(self, annotations: Path, folder: Path, held_out: int):
        self.annotations, self.folder = annotations, folder
        found = read_instances(annotations)
        self._images = found.images
        self._objects: dict[int, list[dict]] = {}
        for entry in found.annotations.values():
            if not entry.get("iscrowd") and entry.get("image_id") in found.images:
                self._objects.setdefault(entry["image_id"], []).append(entry)
        ids = sorted(self._objects)
        shuffled = [ids[place] for place in np.random.default_rng(SPLIT_SEED).permutation(len(ids))]
        self._held_out, self._training = shuffled[:held_out], shuffled[held_out:]
        if not self._training:
            told = f"{len(ids)} pictures with objects: {held_out} held out, none left"
            raise DataError(f"{annotations} has {told}.")

    def draw(self, rng: np.random.Generator) -> Pictured:
        """A photograph with an object of at least LEAST_PIXELS."""
        for place in rng.permutation(len(self._training)):
            if (pictured := self._open(self._training[place])).masks:
                return pictured
        raise DataError(f"{self.annotations} has no object of {LEAST_PIXELS} pixels or more.")

    def held_out(self, count: int) -> list[Pictured]:
        """Photographs that are kept from training and have such an object."""
        pictures = [self._open(number) for number in self._held_out[:count]]
        return [pictured for pictured in pictures if pictured.masks]

    def _open(self, number: int) -> Pictured:
        entry = self._images[number]
        where = f"{self.annotations.name}: picture {number}"
        try:
            size = size_of(entry)
            masks = [mask_of(each.get("segmentation"), size) for each in self._objects[number]]
            picture = open_picture(self.folder / str(entry.get("file_name")))
        except (DataError, PictureError) as error:
            raise DataError(f"{where}: {error}") from error
        if picture.size != size:
            raise DataError(f"{where} is {picture.size} pixels, but the file of masks says {size}.")
        return Pictured(picture, [mask for mask in masks if np.count_nonzero(mask) >= LEAST_PIXELS])
