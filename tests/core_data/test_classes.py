"""Sets in which every pixel has a class: panoptic and plain maps come to the same, and damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from himtok_core.data.classes import read_maps, read_names, read_panoptic
from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from tests.evaluation.datasets import CIRCLE, SQUARE, write_maps, write_panoptic

STUFF = 3 + 256 * 7 + 65536 * 9


def test_a_panoptic_set(tmp_path: Path) -> None:
    problems = DataProblems()
    found = read_panoptic(write_panoptic(tmp_path), None, tmp_path / "pictures", problems)
    assert not problems
    assert found.names == {10: "red square", 20: "blue circle", 30: "wall"}
    assert found.things == {10, 20}
    (picture,) = found.pictures
    assert picture.picture == tmp_path / "pictures" / "1.png" and picture.id == "1"
    truth = picture.segments()
    assert truth.classes == {1: 10, 2: 20, STUFF: 30} and truth.crowds == frozenset()
    assert np.array_equal(truth.numbers == 1, SQUARE) and np.array_equal(truth.numbers == 2, CIRCLE)
    assert (truth.numbers[:4] == 0).all() and (truth.numbers == STUFF).any()


def test_plain_maps(tmp_path: Path) -> None:
    problems = DataProblems()
    folder = write_maps(tmp_path)
    Image.new("L", (4, 4)).save(folder / "none.png")
    found = read_maps(folder, tmp_path / "classes.txt", tmp_path / "pictures", problems)
    assert found.names == {0: "wall", 1: "red square", 2: "blue circle"} and found.things is None
    assert problems.lines == [f"none.png: there is no picture none.jpg in {tmp_path / 'pictures'}"]
    (picture,) = found.pictures
    truth = picture.segments()
    assert truth.classes == {1: 0, 2: 1, 3: 2}
    assert np.array_equal(truth.numbers == 2, SQUARE) and np.array_equal(truth.numbers == 3, CIRCLE)
    assert (truth.numbers[:4] == 0).all()


@pytest.mark.parametrize(
    ("text", "names"),
    [("sky\ntree: oak\n", {0: "sky", 1: "tree: oak"}), ("3: sky\n\n7 : tree\n", {3: "sky", 7: "tree"})],
)
def test_names(text: str, names: dict, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == names


@pytest.mark.parametrize("text", ["", "1: sky\n1: tree\n", "3: sky\ntree\n", "1:\n2: tree"])
def test_names_that_are_not_clear(text: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="NUMBER: NAME"):
        read_names(tmp_path / "names.txt")


def test_maps_that_do_not_fit(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path)
    png = tmp_path / "panoptic_val" / "1.png"

    def segments() -> object:
        problems = DataProblems()
        return read_panoptic(path, None, tmp_path / "pictures", problems).pictures[0].segments()

    Image.new("RGB", (10, 5)).save(png)
    with pytest.raises(DataError, match="10 x 5 pixels, the picture 96 x 64"):
        segments()
    Image.new("RGB", (96, 64), (4, 0, 0)).save(png)
    with pytest.raises(DataError, match=r"segments \[4\] without an entry"):
        segments()
    png.write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        segments()
    png.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        segments()


def test_a_coloured_map_is_no_class_map(tmp_path: Path) -> None:
    folder = write_maps(tmp_path)
    Image.new("RGB", (96, 64)).save(folder / "1.png")
    (picture,) = read_maps(folder, tmp_path / "classes.txt", tmp_path / "pictures", DataProblems()).pictures
    with pytest.raises(DataError, match="has colours"):
        picture.segments()


def test_damaged_panoptic_files(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    good = content["annotations"][0]
    content["annotations"] = [good, good | {"image_id": 5}, good | {"segments_info": [{}]}, 3]
    path.write_text(json.dumps(content), encoding="utf-8")
    problems = DataProblems()
    assert len(read_panoptic(path, None, tmp_path, problems).pictures) == 1
    assert [line.split(":")[1] for line in problems.lines] == [f" annotation {n}" for n in (2, 3, 4)]
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="no panoptic set"):
        read_panoptic(path, None, tmp_path, problems)
    with pytest.raises(DataError, match="no class maps"):
        read_maps(tmp_path / "nowhere", tmp_path / "classes.txt", tmp_path, problems)
