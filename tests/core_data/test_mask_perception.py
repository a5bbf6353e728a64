"""Mask Perception files: what the builder writes is what the evaluation reads."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from himtok_core import cli, geometry
from himtok_core.data.coco import read_json
from himtok_core.data.jsonl import AnnotationFile
from himtok_core.data.mask_perception import PLACEHOLDER, read_mask_perception
from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from himtok_core.markup import mask_run

RUN = mask_run([5, 900, 17])
OPTIONS = "A. red apple\nB. left mask\nC. dog\nD. vitamin C"
NOUNS = ("cat", "dog", "car", "tree", "boat", "chair", "lamp", "horse")


def write(path: Path, items: list) -> Path:
    path.write_text(json.dumps(items))
    return path


def item(**changes: object) -> dict:
    plain = {"image": "coco/train2014/a.png", "question": f"<image>\nWhich? {RUN}\n{OPTIONS}", "answer": "B"}
    return {**plain, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    return tmp_path


def test_a_published_item(folder: Path) -> None:
    path = write(folder / "mask_perception.json", [item(), item(answer="C. dog")])
    problems = DataProblems()
    first, second = read_mask_perception(path, None, problems)
    assert first.text == f"Which? {RUN}\n{OPTIONS}"  # the run as it stands, the picture's place without
    assert first.options == {"A": "red apple", "B": "left mask", "C": "dog", "D": "vitamin C"}
    assert (first.id, first.answer, first.masks) == ("0", "B", ())
    assert first.picture == folder / "a.png"
    assert (second.answer, second.where) == ("C. dog", "mask_perception.json: item 1")
    assert len(problems) == 0


def test_masks_in_the_file_take_the_place_of_runs(folder: Path) -> None:
    rle = geometry.mask_to_rle(np.eye(6, 8, dtype=bool))
    path = write(folder / "items.json", [item(masks=[rle]), item(question=f"<mask>\n{OPTIONS}", masks=[rle])])
    first, second = read_mask_perception(path, folder, DataProblems())
    assert first.text == f"Which? <mask>\n{OPTIONS}"
    assert second.text == f"<mask>\n{OPTIONS}"
    assert first.masks == second.masks == (rle,)


def test_bad_items_are_named(folder: Path) -> None:
    rle = geometry.mask_to_rle(np.eye(6, 8, dtype=bool))
    bad = [
        item(image="b.png"),
        item(question="Which of them?"),
        item(question="<mask> or <mask>?", masks=[rle]),
        item(question="<mask>?", masks=[{**rle, "counts": "1"}]),
        item(question="<mask>?", masks="none"),
        item(answer=3),
        "nothing",
    ]
    path = write(folder / "items.json", [*bad, item()])
    problems = DataProblems()
    assert [found.id for found in read_mask_perception(path, None, problems)] == ["7"]
    wanted = ["no picture", "no mask", "2 places", "add up", "list of COCO RLE", "needs the texts", "needs"]
    assert len(problems) == len(wanted)
    for number, (line, what) in enumerate(zip(problems.lines, wanted)):
        assert line.startswith(f"items.json: item {number}: ") and what in line
    with pytest.raises(DataError, match="item 0"):
        list(read_mask_perception(path, None, DataProblems(fatal=True)))


def test_another_layout(folder: Path) -> None:
    with pytest.raises(DataError, match="list"):
        list(read_mask_perception(write(folder / "items.json", {"image": "a.png"}), None, DataProblems()))


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    """refs(unc).p and instances.json as published: 8 pictures of two things each, half of them for tests."""
    images, annotations, entries = [], [], []
    (tmp_path / "train2014").mkdir()
    for picture in range(8):
        name = f"COCO_train2014_{picture:012d}.jpg"
        Image.new("RGB", (40, 30)).save(tmp_path / "train2014" / name)
        images.append({"id": picture, "file_name": name, "width": 40, "height": 30})
        for side in range(2):
            number = 2 * picture + side
            noun = NOUNS[(picture + 3 * side) % 8]
            left = 20 * side + 2
            polygon = [left, 5, left + 10, 5, left + 10, 25, left, 25]
            kind = 1 + NOUNS.index(noun)
            annotations.append(
                {"id": number, "image_id": picture, "category_id": kind, "segmentation": [polygon]}
            )
            texts = [noun, f"{noun} on the {('left', 'right')[side]}", f"shiny {noun}"]
            sentences = [{"sent_id": 10 * number + i, "sent": text} for i, text in enumerate(texts)]
            entries.append(
                {
                    "ref_id": number,
                    "ann_id": number,
                    "image_id": picture,
                    "split": "val" if picture % 2 else "train",
                    "sentences": sentences,
                }
            )
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(entries, protocol=2))
    return tmp_path / "refs(unc).p"


def build(capsys: pytest.CaptureFixture, *flags: str) -> dict:
    assert cli.main(["data", "mask-perception", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_items_from_referring_expressions(refs: Path, capsys: pytest.CaptureFixture) -> None:
    out, images = refs.parent / "made" / "map.json", refs.parent / "train2014"
    flags = ("--refs", f"{refs}@val", "--images", str(images), "--out", str(out))
    facts = build(capsys, *flags, "--count", "16")
    assert facts["items"] == 16 and facts["letters"] == dict.fromkeys("ABCD", 4)
    assert facts["positives"] == {"1": 16} and facts["problems"] == 0
    assert (facts["choices"], facts["source"]) == ("single", [f"{refs}@val"])

    expressions = {
        entry["ann_id"]: {sentence["sent"] for sentence in entry["sentences"]}
        for entry in pickle.loads(refs.read_bytes())
        if entry["split"] == "val"
    }
    problems = DataProblems()
    found = list(read_mask_perception(out, images, problems))
    assert len(found) == 16 and len(problems) == 0
    for question in found:
        mask = geometry.rle_to_mask(question.masks[0])
        assert mask.shape == (30, 40) and mask.sum() == 200
        picture = int(question.picture.stem[-12:])
        meant = expressions[2 * picture + (1 if mask[:, 20:].any() else 0)]
        assert [letter for letter, text in question.options.items() if text in meant] == [question.answer]

    first = out.read_text()
    build(capsys, *flags, "--count", "16")
    assert out.read_text() == first
    build(capsys, *flags, "--count", "16", "--seed", "1")
    assert out.read_text() != first


def test_splits_and_data_sets_come_together(refs: Path, capsys: pytest.CaptureFixture) -> None:
    """An object of two files is one object, so no item of it comes twice."""
    out = str(refs.parent / "map.json")
    val = build(capsys, "--refs", f"{refs}@val", "--out", out)
    both = build(capsys, "--refs", f"{refs}@val,train", "--out", out)
    again = build(capsys, "--refs", f"{refs}@train", str(refs), "--out", out)
    assert (val["objects"], both["objects"], again["objects"]) == (8, 16, 16)
    assert (val["items"], both["items"], again["items"]) == (24, 48, 48)


def test_training_conversations(refs: Path, capsys: pytest.CaptureFixture) -> None:
    """The other form is a line of training data, and training's own reader takes it."""
    out = refs.parent / "map.jsonl"
    facts = build(capsys, "--refs", str(refs), "--choices", "multiple", "--count", "20", "--out", str(out))
    assert set(facts["positives"]) == {"1", "2", "3"}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    data = AnnotationFile("map", out, refs.parent)
    assert len(data) == len(lines) == 20
    for number, line in enumerate(lines):
        sample = data.sample(number)
        ((question, answer),) = sample.turns
        assert question.count(PLACEHOLDER) == 1 and question.endswith("Select all that fit.")
        assert set(answer.split(", ")) <= set("ABCD")
        assert sample.pictures == (refs.parent / line["image"],)
        mask = np.asarray(Image.open(sample.masks[0]))
        assert mask.shape == (30, 40) and np.count_nonzero(mask) == 200


def test_items_from_drawn_scenes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "map.json"
    facts = build(capsys, "--scenes", "12", "--count", "8", "--out", str(out))
    assert facts["items"] == 8 and facts["letters"] == dict.fromkeys("ABCD", 2)
    problems = DataProblems()
    for question in read_mask_perception(out, None, problems):
        width, height = Image.open(question.picture).size
        assert question.masks[0]["size"] == [height, width]
        assert len(question.options) == 4 and question.answer in question.options
    assert len(problems) == 0


def test_masks_as_tokens_of_a_model(refs: Path, tiny_folder: Path, capsys: pytest.CaptureFixture) -> None:
    """As on the hub: the question holds a run, and the file can be read without the masks."""
    out = refs.parent / "map.json"
    model = ("--model", str(tiny_folder), "--device", "cpu")
    build(capsys, "--refs", str(refs), "--count", "4", "--out", str(out), *model)
    for entry in read_json(out):
        assert entry["question"].count("<|mt_start|>") == 1 and "<mask>" not in entry["question"]
        assert len(entry["question"].split("<|mt_start|>")[1].split("<|mt_end|>")[0].split("><")) == 32


def test_what_cannot_be_built_is_said_in_one_line(
    refs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["data", "mask-perception", "--out", str(tmp_path / "map.json"), "--refs"]
    assert cli.main([*flags, f"{refs}@val,test"]) == 2
    assert cli.main([*flags, str(tmp_path / "nothing.p")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no split 'test'" in lines[0] and "nothing.p" in lines[1]
    assert cli.main([*flags, str(refs), "--count", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: argument --count: a whole number of at least 1")
