"""POPE's and MME's files, written by hand in the layouts they are published in."""

import json
from pathlib import Path

import pytest
from PIL import Image

from himtok_core.data.problems import DataProblems
from himtok_core.data.yes_no import read_mme, read_pope
from himtok_core.errors import DataError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def pope_line(number: int, image: str = "COCO_val2014_000000000001.jpg", label: str = "yes") -> str:
    line = {"question_id": number, "image": image, "text": "Is there a dog in the image?", "label": label}
    return json.dumps(line) + "\n"


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    """The layout of the reference implementation's guide: coco/coco_pope_*.json beside val2014/."""
    (tmp_path / "coco").mkdir()
    picture(tmp_path / "val2014" / "COCO_val2014_000000000001.jpg")
    (tmp_path / "coco" / "coco_pope_random.json").write_text(pope_line(1) + pope_line(2, label="no"))
    (tmp_path / "coco" / "coco_pope_popular.json").write_text(pope_line(1, label="no"))
    return tmp_path


def test_pope_as_published(pope: Path) -> None:
    problems = DataProblems()
    found = list(read_pope(pope, None, problems))
    assert [(item.id, item.group, item.yes) for item in found] == [
        ("random:1", "random", True),
        ("random:2", "random", False),
        ("popular:1", "popular", False),
    ]
    assert found[0].text == "Is there a dog in the image?"
    assert found[0].picture.name == "COCO_val2014_000000000001.jpg"
    assert found[1].where == "coco_pope_random.json:2"
    assert len(problems) == 0


def test_pope_of_one_file(pope: Path) -> None:
    file = pope / "coco" / "coco_pope_popular.json"
    assert [item.id for item in read_pope(file, pope / "val2014", DataProblems())] == ["popular:1"]


def test_bad_lines_of_pope_are_named(pope: Path) -> None:
    bad = pope_line(3, image="gone.jpg") + pope_line(4, label="perhaps") + "{\n" + '{"question_id": 5}\n'
    bad += pope_line(6).replace("Is there a dog in the image?", " ")
    (pope / "coco" / "coco_pope_adversarial.json").write_text(bad + pope_line(7))
    problems = DataProblems()
    found = [item.id for item in read_pope(pope, None, problems)]
    assert found[-1] == "adversarial:7" and len(found) == 4
    wanted = ["gone.jpg", "perhaps", "not JSON", "label", "empty"]
    assert len(problems) == len(wanted)
    for number, (line, what) in enumerate(zip(problems.lines, wanted), 1):
        assert line.startswith(f"coco_pope_adversarial.json:{number}: ") and what in line
    with pytest.raises(DataError, match="adversarial.json:1"):
        list(read_pope(pope, None, DataProblems(fatal=True)))


def test_pope_that_is_not_there(tmp_path: Path, pope: Path) -> None:
    with pytest.raises(DataError, match="coco_pope_random"):
        list(read_pope(tmp_path / "empty", None, DataProblems()))
    (pope / "val2014").rename(pope / "elsewhere")
    with pytest.raises(DataError, match="--images"):
        list(read_pope(pope, None, DataProblems()))


@pytest.fixture
def mme(tmp_path: Path) -> Path:
    """As published: side by side in one sub-task, in two folders in another."""
    folder = tmp_path / "MME_Benchmark_release_version"
    picture(folder / "existence" / "0006.jpg")
    (folder / "existence" / "0006.txt").write_text(
        "Is there a dog? Please answer yes or no.\tYes\nIs there a cat? Please answer yes or no.\tNo\n"
    )
    picture(folder / "landmark" / "images" / "tower.png")
    (folder / "landmark" / "questions_answers_YN").mkdir()
    (folder / "landmark" / "questions_answers_YN" / "tower.txt").write_text("Is it Big Ben?\tYes\r\n")
    (folder / "eval_tool").mkdir()
    return folder


def test_mme_as_published(mme: Path) -> None:
    problems = DataProblems()
    found = list(read_mme(mme, None, problems))
    assert [(item.group, item.picture.name, item.yes) for item in found] == [
        ("existence", "0006.jpg", True),
        ("existence", "0006.jpg", False),
        ("landmark", "tower.png", True),
    ]
    assert found[1].text == "Is there a cat? Please answer yes or no."
    assert found[1].where == "existence/0006.txt:2"
    assert len({item.id for item in found}) == 3
    assert len(problems) == 0


def test_mme_as_lists(mme: Path, tmp_path: Path) -> None:
    lists = tmp_path / "Your_Results"
    lists.mkdir()
    (lists / "existence.txt").write_text("0006.jpg\tIs there a dog?\tYes\n0006.jpg\tIs there a cat?\tNo\n")
    (lists / "landmark.txt").write_text("tower.png\tIs it Big Ben?\tYes\n")
    found = list(read_mme(lists, mme, DataProblems()))
    assert [(item.group, item.picture.name, item.yes) for item in found] == [
        ("existence", "0006.jpg", True),
        ("existence", "0006.jpg", False),
        ("landmark", "tower.png", True),
    ]


def test_bad_files_of_mme_are_named(mme: Path) -> None:
    (mme / "existence" / "0007.txt").write_text("Is there a bus?\tYes\n")
    (mme / "existence" / "0006.txt").write_text("No tab here\nIs there a cat?\tMaybe\n\nIs there?\tno\n")
    problems = DataProblems()
    assert [item.where for item in read_mme(mme, None, problems)][0] == "existence/0006.txt:4"
    assert [line.split(": ")[0] for line in problems.lines] == [
        "existence/0006.txt:1",
        "existence/0006.txt:2",
        "existence/0007.txt",
    ]


def test_a_folder_that_is_not_mme(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="existence"):
        list(read_mme(tmp_path, None, DataProblems()))
