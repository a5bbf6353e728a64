"""Drawn scenes and COCO photographs as sources of pictures with true masks."""

import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core.data.scenes import HELD_OUT_SEED, make_scene
from himtok_core.data.world import World
from himtok_core.errors import DataError
from himtok_core.training.sam_sources import CocoSource, SceneSource


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_scenes(world: World) -> None:
    source = SceneSource(world)
    held_out = source.held_out(2)
    assert np.array_equal(held_out[1].picture, make_scene(HELD_OUT_SEED + 1, world).picture)
    first, again = source.draw(rng()), source.draw(rng())
    assert np.array_equal(first.picture, again.picture)
    assert first.masks and first.masks[0].shape == first.picture.size[::-1]


def test_photographs_are_drawn_or_held_out_but_not_both(coco_folder: Path, world: World) -> None:
    source = CocoSource(coco_folder / "masks.json", coco_folder, held_out=2)
    scenes = {make_scene(number, world).picture.tobytes(): number for number in range(4)}
    kept = {scenes[each.picture.tobytes()] for each in source.held_out(2)}
    generator = rng()
    drawn = {scenes[source.draw(generator).picture.tobytes()] for _ in range(30)}
    assert len(kept) == len(drawn) == 2 and not kept & drawn
    other = CocoSource(coco_folder / "masks.json", coco_folder, held_out=2)
    assert {scenes[each.picture.tobytes()] for each in other.held_out(2)} == kept


def test_masks_are_those_of_the_file(coco_folder: Path, world: World) -> None:
    source = CocoSource(coco_folder / "masks.json", coco_folder, held_out=3)
    pictured = source.draw(rng())
    (scene,) = [s for s in (make_scene(n, world) for n in range(4)) if s.picture == pictured.picture]
    assert len(pictured.masks) == len(scene.objects)
    for mask, item in zip(pictured.masks, scene.objects, strict=True):
        assert np.array_equal(mask, item.mask)


def test_crowds_and_specks_are_passed_over(coco_folder: Path) -> None:
    path = coco_folder / "masks.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="0 pictures with objects"):
        CocoSource(path, coco_folder, held_out=0)
    for entry in content["annotations"]:
        entry |= {"iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="no object of 100 pixels"):
        CocoSource(path, coco_folder, held_out=1).draw(rng())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file_name": "gone.png"}, "picture 2: There is no picture file"),
        ({"width": 17}, "picture 2: the mask is"),
        ({"width": None}, "picture 2: the entry of picture 2 has no usable width"),
    ],
)
def test_what_is_wrong_with_a_photograph_is_said(coco_folder: Path, change: dict, words: str) -> None:
    path = coco_folder / "masks.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"] = [content["images"][2] | change]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        CocoSource(path, coco_folder, held_out=0).draw(rng())
