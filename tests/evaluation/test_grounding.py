"""Boxes of expressions, from Qwen-VL's lines to the accuracy."""

import argparse
import json
from pathlib import Path

import pytest

from himtok_core import cli
from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from himtok_core.evaluation.grounding import Grounding, TrueBox
from himtok_core.evaluation.task import Sample
from himtok_core.reply import Reply, ReplyObject
from tests.evaluation.datasets import SIZE, write_json, write_rec

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")


def samples(data: Path, protocol: str = "field", pictures: Path | None = None) -> list[Sample]:
    options = argparse.Namespace(data=data, protocol=protocol, pictures=pictures)
    return list(Grounding().samples(options, DataProblems()))


def test_questions(tmp_path: Path) -> None:
    data = write_rec(tmp_path)
    first, second = samples(data)
    assert (first.id, second.id) == ("refcoco_val.jsonl:1", "refcoco_val.jsonl:2")
    assert first.picture == tmp_path / "data/coco/train2014/1.png"
    assert samples(data, pictures=tmp_path / "pictures")[0].picture == tmp_path / "pictures" / "1.png"
    question = "First create the segmentation mask for <ref>{}</ref>, then identify its bounding box."
    assert first.prompt.text == question.format("red square")
    twice = "Meet all the descriptions: 1. red square. 2. red square. "
    assert samples(data, "reference")[0].prompt.text == question.format(twice)


def test_scores(tmp_path: Path) -> None:
    task = Grounding()
    sample = samples(write_rec(tmp_path))[0]
    boxes = [(8, 8, 32, 32), (8, 8, 32, 28), (8, 8, 32, 22), (8, 8, 32, 18), None]
    expected = [1, 20 / 24, 14 / 24, 10 / 24, 0]
    rows = []
    for box in boxes:
        objects = () if box is None else (ReplyObject("", box, None, None),)
        rows.append(task.row(sample, Reply("", objects, SIZE), "field"))
    assert [row["score"] for row in rows] == pytest.approx(expected)
    summary = task.summary(rows, "field")
    assert summary == pytest.approx(
        {
            "accuracy@0.5": 3 / 5,
            "accuracy@0.7": 2 / 5,
            "accuracy@0.9": 1 / 5,
            "mean_iou": sum(expected) / 5,
            "without_box": 1,
        }
    )


def test_the_references_scale_ends_at_999() -> None:
    task = Grounding()
    sample = Sample("1", None, None, TrueBox((0, 0, *SIZE), SIZE), "")
    text = "<box>[[0, 0, 1000, 1000]]</box>"
    reply = Reply(text, (ReplyObject("", (0, 0, *SIZE), None, None),), SIZE)
    assert task.row(sample, reply, "field")["score"] == 1.0
    assert task.row(sample, reply, "reference")["score"] == pytest.approx((999 / 1000) ** 2, abs=1e-6)


def test_a_picture_of_another_size_is_not_scored(tmp_path: Path) -> None:
    sample = samples(write_rec(tmp_path))[0]
    with pytest.raises(DataError, match="96 x 64 pixels, the picture has 10 x 10"):
        Grounding().row(sample, Reply("", (), (10, 10)), "field")


def test_lines_that_do_not_fit(tmp_path: Path) -> None:
    path = write_rec(tmp_path)
    good = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    changes = [{}, {"sent": ""}, {"bbox": [1, 2, 3]}, {"bbox": [5, 5, 5, 9]}, {"width": None}, {"image": 3}]
    lines = [json.dumps(good | change) for change in changes] + ["{"]
    path.write_text("\n".join(lines), encoding="utf-8")
    problems = DataProblems()
    options = argparse.Namespace(data=path, protocol="field", pictures=None)
    assert len(list(Grounding().samples(options, problems))) == 1
    assert [line.split(": ")[0] for line in problems.lines] == [f"refcoco_val.jsonl:{n}" for n in range(2, 8)]
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="has no lines"):
        list(Grounding().samples(options, problems))


def test_himtok_mini_answers_and_saved_boxes(tmp_path: Path) -> None:
    data, out = write_rec(tmp_path), tmp_path / "out"
    words = ["evaluate", "rec", "--data", str(data), "--pictures", str(tmp_path / "pictures"), "--out"]
    assert cli.main([*words, str(out), "--model", MINI, "--device", "cpu"]) == 0
    scores = json.loads((out / "results.json").read_text(encoding="utf-8"))["scores"]
    assert scores["accuracy@0.5"] == 1.0 and scores["without_box"] == 0
    # The rows say the same when they are read back, and so do boxes as COCO writes them.
    again = tmp_path / "again"
    assert cli.main([*words, str(again), "--predictions", str(out / "rows.jsonl")]) == 0
    assert json.loads((again / "results.json").read_text(encoding="utf-8"))["scores"] == scores
    results = [{"id": f"refcoco_val.jsonl:{n}", "bbox": [8, 8, 24, 12 * n]} for n in (1, 2)]
    saved = write_json(tmp_path / "boxes.json", results)
    assert cli.main([*words, str(tmp_path / "coco"), "--predictions", str(saved)]) == 0
    coco = json.loads((tmp_path / "coco" / "results.json").read_text(encoding="utf-8"))["scores"]
    assert coco["accuracy@0.5"] == 1.0 and coco["accuracy@0.7"] == 0.5
