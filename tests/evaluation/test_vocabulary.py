"""Open-vocabulary segmentation: masks of single classes become one map, with mIoU and PQ worked by hand."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core import cli
from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from himtok_core.evaluation.saved import row_of_reply
from himtok_core.evaluation.task import Sample
from himtok_core.evaluation.vocabulary import OpenVocabularySegmentation
from himtok_core.reply import Reply, ReplyObject
from tests.evaluation.datasets import CIRCLE, NOTHING, SIZE, SQUARE, write_maps, write_panoptic

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")


def start(data: Path, classes: Path | None = None) -> tuple[OpenVocabularySegmentation, list[Sample]]:
    task = OpenVocabularySegmentation()
    pictures = data.parent / "pictures"
    options = argparse.Namespace(data=data, pictures=pictures, maps=None, classes=classes)
    return task, list(task.samples(options, DataProblems()))


def says(*masks: tuple[np.ndarray, float]) -> Reply:
    objects = []
    for mask, sureness in masks:
        soft = np.full((4, 4), sureness, dtype=np.float32)
        objects.append(ReplyObject("", None, mask, soft))
    return Reply("", tuple(objects), SIZE)


def rows(task: OpenVocabularySegmentation, samples: list[Sample], replies: list[Reply]) -> list[dict]:
    pairs = zip(samples, replies, strict=True)
    return [{"id": s.id, **row_of_reply(r), **task.row(s, r, "field")} for s, r in pairs]


LOWER = np.zeros_like(SQUARE)
LOWER[4:] = True  # everything that is labelled


def test_every_class_is_asked_for_in_every_picture(tmp_path: Path) -> None:
    _, samples = start(write_panoptic(tmp_path))
    assert [(sample.id, sample.prompt.text) for sample in samples] == [
        ("1/10", "Segment <ref>red square</ref>."),
        ("1/20", "Segment <ref>blue circle</ref>."),
        ("1/30", "Segment <ref>wall</ref>."),
    ]
    assert not samples[0].prompt.expects_mask  # the class may not be there


def test_a_perfect_model_in_both_layouts(tmp_path: Path) -> None:
    wall = says((LOWER & ~SQUARE & ~CIRCLE, 0.9))
    square, circle = says((SQUARE, 0.9)), says((CIRCLE, 0.9))
    task, samples = start(write_panoptic(tmp_path / "panoptic"))
    found = task.summary(rows(task, samples, [square, circle, wall]), "field")
    assert found["mIoU"] == found["PQ"] == found["PQ_things"] == found["PQ_stuff"] == 1.0
    assert found["classes"] == {"red square": 1.0, "blue circle": 1.0, "wall": 1.0}
    task, samples = start(write_maps(tmp_path / "maps"), tmp_path / "maps" / "classes.txt")
    found = task.summary(rows(task, samples, [wall, square, circle]), "field")
    assert found["mIoU"] == 1.0 and found["pictures"] == 1 and "PQ" not in found


def test_the_surer_mask_is_on_top(tmp_path: Path) -> None:
    task, samples = start(write_panoptic(tmp_path))
    everything = np.ones_like(SQUARE)
    square, circle = int(SQUARE.sum()), int(CIRCLE.sum())
    total = int(LOWER.sum())
    # The wall covers all but is less sure than the square and surer than the circle.
    replies = [says((SQUARE, 0.9)), says((CIRCLE, 0.6)), says((everything, 0.7))]
    found = task.summary(rows(task, samples, replies), "field")
    wall = total - square - circle
    assert found["classes"] == pytest.approx(
        {"red square": 1.0, "blue circle": 0.0, "wall": wall / (total - square)}
    )
    assert found["mIoU"] == pytest.approx((1 + 0 + wall / (total - square)) / 3)
    # Unlabelled rows leave the union; the hidden circle is a missed thing.
    assert found["PQ_things"] == pytest.approx((1 + 0) / 2)
    assert found["PQ_stuff"] == pytest.approx(wall / (total - square))


def test_masks_of_a_thing_are_instances_and_those_of_stuff_are_one_segment(tmp_path: Path) -> None:
    task, samples = start(write_panoptic(tmp_path))
    upper = SQUARE.copy()
    upper[20:] = False
    wall, left = LOWER & ~SQUARE & ~CIRCLE, np.zeros_like(SQUARE)
    left[:, :48] = True
    halves = says((wall & left, 0.8), (wall & ~left, 0.9))
    replies = [says((upper, 0.9), (SQUARE & ~upper, 0.9)), says((CIRCLE, 0.9)), halves]
    found = task.summary(rows(task, samples, replies), "field")
    assert found["mIoU"] == 1.0 and found["PQ_stuff"] == 1.0
    # Neither half of the square has an IoU over 0.5: two wrong segments and a missed one.
    assert found["PQ_things"] == pytest.approx((0 + 1) / 2)


def test_nothing_said_scores_nothing(tmp_path: Path) -> None:
    task, samples = start(write_panoptic(tmp_path))
    found = task.summary(rows(task, samples, [says(), says(), says((NOTHING, 0.9))]), "field")
    assert found["mIoU"] == 0.0 and found["PQ"] == 0.0 and found["pictures"] == 1


def test_a_picture_that_was_not_asked_for_all_classes_does_not_count(tmp_path: Path) -> None:
    task, samples = start(write_panoptic(tmp_path))
    found = task.summary(rows(task, samples, [says(), says(), says()])[:2], "field")
    assert found["pictures"] == 0 and np.isnan(found["mIoU"])


def test_class_maps_need_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--classes"):
        start(write_maps(tmp_path))


def test_himtok_mini_answers_and_saved_masks(tmp_path: Path) -> None:
    data, out = write_panoptic(tmp_path), tmp_path / "out"
    words = ["evaluate", "ovseg", "--data", str(data), "--pictures", str(tmp_path / "pictures"), "--out"]
    assert cli.main([*words, str(out), "--model", MINI, "--device", "cpu", "--batch", "2"]) == 0
    scores = json.loads((out / "results.json").read_text(encoding="utf-8"))["scores"]
    assert scores["classes"]["red square"] > 0.5 and scores["classes"]["blue circle"] > 0.5
    again = tmp_path / "again"
    assert cli.main([*words, str(again), "--predictions", str(out / "rows.jsonl")]) == 0
    saved = json.loads((again / "results.json").read_text(encoding="utf-8"))["scores"]
    assert saved["classes"]["red square"] > 0.5 and saved["pictures"] == 1
    assert (again / "index.html").is_file()
