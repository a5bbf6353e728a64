"""Objects with their expressions, from data sets and from drawn scenes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from himtok_core.data.described_objects import from_references, from_scene, merge_objects
from himtok_core.data.problems import DataProblems
from himtok_core.data.refcoco import Reference
from himtok_core.data.scenes import World, make_scene

SQUARE = {"id": 7, "category_id": 3, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}


def reference(
    *texts: str, annotations: tuple[dict, ...] = (SQUARE,), where: str = "refs.p: ref 1"
) -> Reference:
    sentences = tuple((str(number), text) for number, text in enumerate(texts))
    return Reference("1", "a.jpg", (8, 6), sentences, annotations, where)


def test_an_object_of_two_data_sets_is_one() -> None:
    found = [reference("red car", "car on the left"), reference("The red car!", "parked car")]
    (item,) = merge_objects(from_references(found, None, DataProblems()))
    assert item.expressions == ("red car", "car on the left", "parked car")
    assert (item.picture, item.kind) == ("a.jpg", 3)
    assert item.mask().shape == (6, 8) and item.mask().sum() == 16


def test_expressions_for_several_objects_or_none_are_left_out() -> None:
    both = reference("both cars", annotations=(SQUARE, {**SQUARE, "id": 8}))
    found = [both, reference("bus", annotations=())]
    assert list(from_references(found, None, DataProblems())) == []


def test_unusable_objects_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    other_size = {**SQUARE, "segmentation": {"size": [3, 3], "counts": [9]}}
    empty = {**SQUARE, "segmentation": {"size": [6, 8], "counts": [48]}}
    found = [
        reference("one", annotations=(other_size,), where="refs.p: ref 1"),
        reference("two", annotations=(empty,), where="refs.p: ref 2"),
        reference("three", where="refs.p: ref 3"),
    ]
    problems = DataProblems()
    assert [item.expressions for item in from_references(found, tmp_path, problems)] == [("three",)]
    assert [line.split(": ", 2)[1] for line in problems.lines] == ["ref 1", "ref 2"]
    assert "3 x 3" in problems.lines[0] and "empty" in problems.lines[1]
    assert list(from_references(found, tmp_path / "nowhere", problems)) == []
    assert "no picture a.jpg" in problems.lines[-1]


@pytest.mark.parametrize("seed", range(8))
def test_every_phrase_of_a_scene_means_its_object_only(seed: int) -> None:
    scene = make_scene(seed, World())
    found = list(from_scene(scene, "a.png"))
    phrases = [text for item in found for text in item.expressions]
    assert len(phrases) == len(set(phrases))
    for item in found:
        index = int(item.id.split(":")[1])
        assert item.kind == scene.objects[index].name
        assert np.array_equal(item.mask(), scene.objects[index].mask)
