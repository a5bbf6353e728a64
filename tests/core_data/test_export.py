"""`python -m himtok_core scenes`: its files say of each picture what is really in it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from himtok_core import cli
from himtok_core.data.export import categories
from himtok_core.data.scenes import World, make_scene

SEEDS = range(20, 28)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "made" / "here"
    assert cli.main(["scenes", "--count", "8", "--seed", "20", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[dict]:
    text = (folder / "conversations.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_pictures_are_those_of_the_seeds(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "images").iterdir()) == [f"{seed}.png" for seed in SEEDS]
    for seed in SEEDS:
        picture = Image.open(folder / "images" / f"{seed}.png")
        assert picture.mode == "RGB"
        assert picture.tobytes() == make_scene(seed, World()).picture.tobytes()


def test_annotations_are_read_by_coco_tools(folder: Path, capsys: pytest.CaptureFixture) -> None:
    coco = COCO(folder / "annotations.json")
    names = {kind["id"]: kind["name"] for kind in coco.loadCats(coco.getCatIds())}
    for image in coco.loadImgs(coco.getImgIds()):
        scene = make_scene(int(Path(image["file_name"]).stem), World())
        assert (image["width"], image["height"]) == scene.size
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert [names[a["category_id"]] for a in annotations] == [item.name for item in scene.objects]
        for annotation, item in zip(annotations, scene.objects, strict=True):
            assert np.array_equal(coco.annToMask(annotation) > 0, item.mask)
            assert annotation["area"] == item.mask.sum() and annotation["iscrowd"] == 0
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()


def test_category_ids_do_not_depend_on_what_was_drawn(folder: Path) -> None:
    kinds = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["categories"]
    assert kinds == categories(World())
    assert [kind["id"] for kind in kinds] == list(range(1, len(kinds) + 1))
    assert len({kind["name"] for kind in kinds}) == len(kinds)


def test_conversations_have_a_mask_for_every_placeholder(folder: Path, lines: list[dict]) -> None:
    assert {line["image"] for line in lines} == {f"{seed}.png" for seed in SEEDS}
    assert sum(bool(line["masks"]) for line in lines) > 5
    for line in lines:
        assert [turn["from"] for turn in line["conversations"]] == ["human", "gpt"] * len(line["kinds"])
        text = "".join(turn["value"] for turn in line["conversations"])
        assert text.startswith("<image>\n") and text.count("<image>") == 1
        assert text.count("<mask>") == len(line["masks"])
        for mask in line["masks"]:
            decoded = coco_mask.decode(mask)
            assert decoded.shape == (line["height"], line["width"]) and decoded.any()
        assert len(line["mask_tokens"]) == len(line["kinds"])
        assert all(count is None or 1 <= count <= 32 for count in line["mask_tokens"])


def test_masks_of_conversations_are_made_of_objects(lines: list[dict]) -> None:
    for line in lines:
        scene = make_scene(int(Path(line["image"]).stem), World())
        for mask in (coco_mask.decode(mask) > 0 for mask in line["masks"]):
            parts = [item.mask for item in scene.objects if (item.mask & mask).any()]
            assert parts and np.array_equal(np.logical_or.reduce(parts), mask)


def test_the_same_command_writes_the_same_files(folder: Path, tmp_path: Path) -> None:
    assert cli.main(["scenes", "--count", "8", "--seed", "20", "--out", str(tmp_path)]) == 0
    for name in ("annotations.json", "conversations.jsonl", "images/22.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_scenes_of_the_full_world_come_with_whole_conversations(tmp_path: Path) -> None:
    assert cli.main(["scenes", "--world", "full", "--count", "6", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "conversations.jsonl").read_text(encoding="utf-8")
    turns = [len(json.loads(line)["kinds"]) for line in text.splitlines()]
    assert len(turns) == 6 and max(turns) > 2 and all(1 <= count <= 6 for count in turns)
    listed = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    assert len(listed["categories"]) > 900 and len(listed["images"]) == 6


def test_what_was_written_is_said_as_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["scenes", "--count", "2", "--size", "200x100", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    lines = (tmp_path / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    objects = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))["annotations"]
    assert told == {
        "out": str(tmp_path),
        "images": 2,
        "annotations": len(objects),
        "conversations": len(lines),
    }
    assert {Image.open(path).size for path in (tmp_path / "images").iterdir()} == {(200, 100)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "{folder}"], "--count"),
        (["--count", "1"], "--out"),
        (["--count", "-1", "--out", "{folder}"], "--count"),
        (["--count", "few", "--out", "{folder}"], "not few"),
        (["--count", "1", "--seed", "x", "--out", "{folder}"], "--seed"),
        (["--count", "1", "--size", "640", "--out", "{folder}"], "WIDTHxHEIGHT"),
        (["--count", "1", "--size", "640x9999", "--out", "{folder}"], "64 to 2048"),
        (["--count", "1", "--out", "{folder}/file"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], words: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["scenes", *(text.format(folder=tmp_path) for text in arguments)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and words in err and err.count("\n") == 1
