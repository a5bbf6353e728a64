"""Referring segmentation from the files to the scores: perfect, partly right, and himtok-mini's replies."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core import cli, geometry
from himtok_core.data.problems import DataProblems
from himtok_core.evaluation import segmentation
from himtok_core.evaluation.referring import GeneralizedSegmentation, ReferringSegmentation
from himtok_core.evaluation.task import Sample, Task
from himtok_core.reply import Reply, ReplyObject
from tests.evaluation.datasets import (
    CIRCLE,
    NOTHING,
    SIZE,
    SQUARE,
    refs,
    write_grefcoco,
    write_json,
    write_psalm,
    write_refcoco,
)

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")


def options(data: Path, **changes: object) -> argparse.Namespace:
    chosen = {"data": data, "pictures": data.parent / "pictures", "split": None, "instances": None}
    return argparse.Namespace(**chosen | {"protocol": "field", "small": False} | changes)


def samples(task: Task, data: Path, **changes: object) -> tuple[list[Sample], DataProblems]:
    problems = DataProblems()
    return list(task.samples(options(data, **changes), problems)), problems


def says(*masks: np.ndarray) -> Reply:
    return Reply("", tuple(ReplyObject("", None, mask, None) for mask in masks), SIZE)


def evaluate(*words: str) -> int:
    return cli.main(["evaluate", *words])


def scores(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))["scores"]


def test_both_layouts_ask_the_same(tmp_path: Path) -> None:
    task = ReferringSegmentation()
    original, _ = samples(task, write_refcoco(tmp_path / "original"), split="val")
    converted, _ = samples(task, write_psalm(tmp_path / "psalm"))
    assert [(sample.id, sample.prompt.text) for sample in original] == [
        ("1000", "Segment <ref>red square</ref>."),
        ("1001", "Segment <ref>the square</ref>."),
        ("1002", "Segment <ref>blue circle</ref>."),
        ("1003", "Segment <ref>blue circle</ref>."),
    ]
    assert [(sample.id, sample.prompt) for sample in converted] == [
        (sample.id, sample.prompt) for sample in original
    ]
    assert all(sample.picture.is_file() and sample.prompt.expects_mask for sample in original)


def test_a_number_that_comes_twice_stays_two_samples(tmp_path: Path) -> None:
    entries = refs()
    entries[1]["sentences"][0]["sent_id"] = entries[2]["sentences"][0]["sent_id"] = 1000
    found, _ = samples(ReferringSegmentation(), write_refcoco(tmp_path, entries), split="val")
    assert [sample.id for sample in found] == ["1000", "1001", "1000#2", "1000#3"]


def test_the_reference_asks_with_all_expressions_at_once(tmp_path: Path) -> None:
    found, _ = samples(ReferringSegmentation(), write_psalm(tmp_path), protocol="reference")
    assert [sample.id for sample in found] == ["all:1000", "all:1002", "all:1003"]
    asked = "Segment <ref>Meet all the descriptions: 1. red square. 2. the square. </ref>."
    assert found[0].prompt.text == asked


def test_saved_masks_are_scored_without_pictures(tmp_path: Path) -> None:
    data = write_refcoco(tmp_path)
    half = SQUARE.copy()
    half[20:] = False  # 12 of 24 rows: IoU 0.5
    predicted = [
        {"id": 1000, "segmentation": geometry.mask_to_rle(SQUARE)},
        {"id": 1001, "segmentation": geometry.mask_to_rle(half)},
        {"id": 1002, "segmentation": geometry.mask_to_rle(CIRCLE)},
        {"id": 1003, "segmentation": geometry.mask_to_rle(NOTHING)},
    ]
    saved = write_json(tmp_path / "predictions.json", predicted)
    asked = ["res", "--data", str(data), "--split", "val", "--predictions", str(saved)]
    assert evaluate(*asked, "--out", str(tmp_path / "out")) == 0
    square, circle = 24 * 24, int(CIRCLE.sum())
    expected = {
        "cIoU": (square + square / 2 + circle) / (2 * square + 2 * circle),
        "gIoU": (1 + 0.5 + 1 + 0) / 4,
        "boundary_f": (1 + segmentation.boundary_f(half, SQUARE) + 1 + 0) / 4,
    }
    found = scores(tmp_path / "out")
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    # A prediction that is missing is named, not scored as empty.
    write_json(saved, predicted[:1])
    assert evaluate(*asked, "--out", str(tmp_path / "missing")) == 0
    result = json.loads((tmp_path / "missing" / "results.json").read_text(encoding="utf-8"))
    assert result["scored"] == 1 and result["scores"]["gIoU"] == 1.0
    assert len(result["problems"]) == 3 and "no prediction for sample 1001" in result["problems"][0]


def test_several_masks_of_a_reply_count_together(tmp_path: Path) -> None:
    task = ReferringSegmentation()
    (sample, *_), _ = samples(task, write_refcoco(tmp_path), split="val")
    upper, lower = SQUARE.copy(), SQUARE.copy()
    upper[20:], lower[:20] = False, False
    assert task.row(sample, says(upper, lower), "field")["score"] == 1.0
    assert task.row(sample, says(), "field")["score"] == 0.0
    # The reference implementation looks at the first only.
    assert task.row(sample, says(upper, lower), "reference")["score"] == pytest.approx(0.5)


def test_the_reference_cuts_the_soft_mask_at_the_truths_size(tmp_path: Path) -> None:
    task = ReferringSegmentation()
    (sample, *_), _ = samples(task, write_refcoco(tmp_path), split="val")
    soft = np.zeros((8, 8), dtype=np.float32)
    soft[1:4, 1:3] = 0.7  # columns 12 to 36, rows 8 to 32 of the picture, by the nearest
    reply = Reply("", (ReplyObject("", None, SQUARE, soft),), SIZE)
    row = task.row(sample, reply, "reference")
    assert (row["intersection"], row["union"]) == (24 * 20, 24 * 28)
    assert task.row(sample, reply, "field")["score"] == 1.0


def test_small_objects(tmp_path: Path) -> None:
    data = write_refcoco(tmp_path)
    instances = json.loads((tmp_path / "instances.json").read_text(encoding="utf-8"))
    instances["annotations"][0]["segmentation"] = [[8, 8, 23, 8, 23, 23, 8, 23]]  # 15 x 15 of 96 x 64: 3.7 %
    instances["annotations"][2]["segmentation"] = {"size": [1, 1], "counts": "?"}
    write_json(tmp_path / "instances.json", instances)
    found, problems = samples(ReferringSegmentation(), data, split="val", small=True)
    assert [sample.id for sample in found] == ["1000", "1001"]
    assert len(problems) == 1 and problems.lines[0].startswith("refs(unc).p: ref 102: ")
    task = ReferringSegmentation()
    everything, _ = samples(task, data, split="val")
    rows = [task.row(sample, says(sample.truth.mask()), "field") for sample in everything[:3]]
    rows[0] = task.row(everything[0], says(NOTHING), "field")
    summary = task.summary(rows, "field")
    assert summary["gIoU"] == pytest.approx(2 / 3) and summary["small"]["gIoU"] == pytest.approx(1 / 2)
    assert summary["small"]["count"] == 2


def test_an_expression_for_nothing_belongs_to_gres(tmp_path: Path) -> None:
    found, problems = samples(ReferringSegmentation(), write_grefcoco(tmp_path))
    assert [sample.id for sample in found] == ["1", "2"]
    assert problems.lines == ["grefs(unc).json: ref 3: nothing fits the expression, which is a case for gres"]


def test_gres_scores(tmp_path: Path) -> None:
    task = GeneralizedSegmentation()
    one, both, star, dog = samples(task, write_grefcoco(tmp_path), split="val")[0]
    speck = NOTHING.copy()
    speck[0, :49] = True  # under 50 pixels say that there is nothing
    replies = [(one, says(SQUARE)), (both, says(SQUARE)), (star, says(speck)), (dog, says(CIRCLE))]
    rows = [task.row(sample, reply, "field") for sample, reply in replies]
    assert [row["score"] for row in rows][2:] == [1.0, 0.0]
    square, circle = int(SQUARE.sum()), int(CIRCLE.sum())
    summary = task.summary(rows, "field")
    assert summary == pytest.approx(
        {
            "gIoU": (1 + square / (square + circle) + 1 + 0) / 4,
            "cIoU": 2 * square / (square + square + circle + circle),
            "N-acc": 0.5,
            "T-acc": 1.0,
        }
    )
    assert task.row(both, says(SQUARE, CIRCLE), "field")["score"] == 1.0
    speck[1, 0] = True
    assert not task.row(star, says(speck), "field")["said_none"]


def test_the_reference_has_no_accuracy_for_nothing(tmp_path: Path) -> None:
    task = GeneralizedSegmentation()
    found, _ = samples(task, write_grefcoco(tmp_path), protocol="reference")
    assert [sample.id for sample in found] == ["all:1", "all:2", "all:3"]
    rows = [task.row(sample, says(), "reference") for sample in found]
    assert [row["score"] for row in rows] == [0.0, 0.0, 1.0]
    assert set(task.summary(rows, "reference")) == {"cIoU", "gIoU"}


def test_himtok_mini_answers(tmp_path: Path) -> None:
    data = write_grefcoco(tmp_path)
    words = ["gres", "--data", str(data), "--pictures", str(tmp_path / "pictures"), "--model", MINI]
    assert evaluate(*words, "--out", str(tmp_path / "out"), "--device", "cpu", "--batch", "4") == 0
    found = scores(tmp_path / "out")
    assert found["gIoU"] > 0.3 and found["N-acc"] == 1.0
    assert (tmp_path / "out" / "index.html").stat().st_size > 2000
