"""ReasonSeg's folders, and polygons pixel by pixel as OpenCV 5.0 draws them (polylines, then fillPoly)."""

import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core.data.polygons import fill_polygon
from himtok_core.data.problems import DataProblems
from himtok_core.data.reasonseg import IGNORED, TARGET, read_reasonseg
from himtok_core.errors import DataError
from tests.evaluation.datasets import SIZE, write_json, write_reasonseg

LEAF = [(3, 2), (20, 5), (12, 9), (25, 22), (9, 17), (1, 23), (6, 11)]
LEAF_DRAWN = """
............................
............................
...###......................
...#########................
....##############..........
....#################.......
....################........
.....#############..........
.....###########............
.....#########..............
......########..............
......#########.............
......##########............
.....############...........
.....#############..........
....###############.........
....################........
...##################.......
...######..###########......
...#####......#########.....
..####............######....
..###................####...
.###....................##..
.#..........................
"""
BOW = [(2, 2), (17, 13), (17, 2), (2, 13)]
BOW_DRAWN = """
....................
....................
..#..............#..
..###..........###..
..####........####..
..#####......#####..
..#######..#######..
..################..
..################..
..#######..#######..
..#####......#####..
..####........####..
..###..........###..
..#..............#..
"""


@pytest.mark.parametrize(("corners", "drawn"), [(LEAF, LEAF_DRAWN), (BOW, BOW_DRAWN)])
def test_polygons_are_opencvs(corners: list, drawn: str) -> None:
    expected = np.array([[sign == "#" for sign in line] for line in drawn.split()])
    height, width = expected.shape
    assert np.array_equal(fill_polygon(corners, (width, height)), expected)
    assert np.array_equal(fill_polygon(corners[::-1], (width, height)), expected)


def test_a_point_a_line_and_a_corner_outside() -> None:
    assert np.argwhere(fill_polygon([(3, 1)], (6, 4))).tolist() == [[1, 3]]
    assert np.argwhere(fill_polygon([(0, 2), (5, 2)], (6, 4))).tolist() == [[2, x] for x in range(6)]
    assert fill_polygon([(-9, -9), (20, -9), (20, 20), (-9, 20)], (6, 4)).all()


def test_a_folder(tmp_path: Path) -> None:
    problems = DataProblems()
    long, short = read_reasonseg(write_reasonseg(tmp_path), problems)
    assert not problems
    assert (long.id, long.text, long.is_sentence) == ("a", "Which figure has four corners?", True)
    assert (short.id, short.is_sentence, short.picture) == ("b", False, tmp_path / "b.jpg")
    labels = long.labels(SIZE)
    # Corners are cut, 8.9 to 8 and 31.7 to 31, and outlines belong to the shape; the hole stays on top.
    assert labels.shape == (64, 96) and (labels > 0).sum() == 24 * 24
    assert (labels == IGNORED).sum() == 4 * 4 and labels[12, 12] == IGNORED and labels[8, 8] == TARGET
    assert (short.labels(SIZE) == TARGET).sum() == 24 * 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": [""]}, "question is empty"),
        ({"text": []}, "question is empty"),
        ({"is_sentence": "yes"}, "is_sentence"),
        ({"shapes": None}, '"shapes"'),
        ({"shapes": [{"points": [[1, 2]]}]}, "no label"),
        ({"shapes": [{"label": "target", "points": []}]}, "no points"),
        ({"shapes": [{"label": "target", "points": [[1, "2"]]}]}, "not \\[x, y\\]"),
    ],
)
def test_what_does_not_fit_is_named_and_left_out(change: dict, message: str, tmp_path: Path) -> None:
    write_reasonseg(tmp_path)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "a.json", content | change)
    problems = DataProblems()
    assert [item.id for item in read_reasonseg(tmp_path, problems)] == ["b"]
    assert len(problems) == 1 and problems.lines[0].startswith("a.json: ")
    with pytest.raises(DataError, match=message):
        list(read_reasonseg(tmp_path, DataProblems(fatal=True)))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split of ReasonSeg"):
        list(read_reasonseg(tmp_path, DataProblems()))
    write_reasonseg(tmp_path)
    (tmp_path / "b.jpg").unlink()
    problems = DataProblems()
    assert [item.id for item in read_reasonseg(tmp_path, problems)] == ["a"]
    assert problems.lines == ["b.json: there is no picture b.jpg beside it"]
