"""Pictures are found by whatever a data set calls them."""

from pathlib import Path

import pytest

from himtok_core.data.pictures import find_picture, picture_folder
from himtok_core.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "a.jpg").touch()
    return tmp_path


def test_by_path_by_name_and_by_a_path_of_another_machine(folder: Path) -> None:
    found = folder / "val2014" / "a.jpg"
    assert find_picture("val2014/a.jpg", [folder]) == found
    assert find_picture("data/coco/val2014/a.jpg", [folder / "val2014"]) == found
    assert find_picture("C:\\data\\a.jpg", [folder, folder / "val2014"]) == found
    assert find_picture(f"{found}", [folder / "val2014"]) == found


def test_what_is_not_there(folder: Path) -> None:
    assert find_picture("a.jpg", [folder]) is None
    assert find_picture("", [folder]) is None
    assert find_picture(str(folder / "val2014" / "a.jpg"), [folder]) is None  # a full path elsewhere


def test_the_usual_folder(folder: Path) -> None:
    assert picture_folder(None, [folder / "train2014", folder / "val2014"]) == folder / "val2014"
    assert picture_folder(folder, []) == folder
    with pytest.raises(DataError, match="--images"):
        picture_folder(None, [folder / "train2014"])
    with pytest.raises(DataError, match="test2015"):
        picture_folder(folder / "test2015", [folder])
