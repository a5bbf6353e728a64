"""COCO's three ways to write a mask agree with pycocotools, and what is none of them is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from himtok_core.data.coco import mask_of, read_instances, read_json, read_lines, size_of
from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from tests.evaluation.datasets import CIRCLE, CIRCLE_RLE, SIZE, SQUARE, uncompressed, write_refcoco


def test_every_layout_agrees_with_pycocotools(tmp_path: Path) -> None:
    write_refcoco(tmp_path)
    theirs = COCO(str(tmp_path / "instances.json"))
    ours = read_instances(tmp_path / "instances.json")
    assert list(ours.annotations) == [11, 12, 21] and list(ours.images) == [1, 2]
    for number, annotation in ours.annotations.items():
        expected = theirs.annToMask(theirs.anns[number]).astype(bool)
        assert np.array_equal(mask_of(annotation["segmentation"], SIZE), expected)


def test_several_polygons_are_one_mask() -> None:
    halves = [[0, 0, 10, 0, 10, 10, 0, 10], [20, 0, 30, 0, 30, 10, 20, 10]]
    mask = mask_of(halves, (40, 20))
    assert mask.sum() == 200 and mask[:10, :10].all() and mask[:10, 20:30].all()


def test_runs_and_compressed_runs() -> None:
    assert np.array_equal(mask_of(uncompressed(SQUARE), SIZE), SQUARE)
    assert np.array_equal(mask_of(CIRCLE_RLE, SIZE), CIRCLE)
    assert not mask_of([], SIZE).any()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "list of polygons"),
        ({"counts": "abc"}, "list of polygons"),
        ([[1, 2, 3]], "polygon"),
        ([[1, 2, 3, 4]], "polygon"),
        ([[1, 2, 3, float("nan"), 5, 6]], "polygon"),
        ([[1, 2, 3, 1e30, 5, 6]], "polygon"),
        ([["1", "2", "3", "4", "5", "6"]], "polygon"),
        ({"size": [64, 96], "counts": [5, 5]}, "add up"),
        ({"size": [64, 96], "counts": [64 * 96 + 5, -5]}, "add up"),
        ({"size": [64, 96], "counts": "!!"}, "character"),
        (uncompressed(SQUARE.T), "64 x 96 pixels"),
        ({"size": [64 * 2, 96], "counts": [64 * 2 * 96]}, "96 x 128 pixels"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mask_of(segmentation, SIZE)


@pytest.mark.parametrize("entry", [{"id": 3}, {"width": 0, "height": 4}, {"width": "9", "height": 4}])
def test_a_picture_needs_a_size(entry: dict) -> None:
    with pytest.raises(DataError, match="width and height"):
        size_of(entry)


def test_lines_that_are_not_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n[1]\n{"a": 2}\n', encoding="utf-8")
    problems = DataProblems()
    assert list(read_lines(path, problems)) == [("some.jsonl:1", {"a": 1}), ("some.jsonl:5", {"a": 2})]
    assert [line.split(" ")[0] for line in problems.lines] == ["some.jsonl:3:", "some.jsonl:4:"]
    with pytest.raises(DataError, match="some.jsonl:3"):
        list(read_lines(path, DataProblems(fatal=True)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"images": [', encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        read_json(tmp_path / "half.json")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match='"annotations"'):
        read_instances(tmp_path / "list.json")
    (tmp_path / "old.json").write_bytes(json.dumps({"text": "café"}, ensure_ascii=False).encode("cp1252"))
    assert read_json(tmp_path / "old.json") == {"text": "café"}
