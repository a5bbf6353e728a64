"""Saved replies: what is written is what is read, and what does not fit is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core.data.problems import DataProblems
from himtok_core.errors import DataError
from himtok_core.evaluation.saved import SavedReplies, row_of_reply
from himtok_core.reply import Reply, ReplyObject
from tests.evaluation.datasets import CIRCLE, CIRCLE_RLE, SIZE, SQUARE, SQUARE_POLYGON, write_json


def test_a_row_is_read_back(tmp_path: Path) -> None:
    objects = (
        ReplyObject("a", None, SQUARE, None),
        ReplyObject("b", (1.5, 2.0, 3.0, 4.0), None, None),
        ReplyObject("c", (0, 0, 5, 5), CIRCLE, None),
    )
    row = {"id": "x", **row_of_reply(Reply("said", objects, SIZE))}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    saved = SavedReplies(tmp_path / "rows.jsonl", DataProblems())
    assert saved.size("x") == SIZE
    reply = saved.reply("x", SIZE)
    assert reply.text == "said"
    assert [item.box for item in reply.objects] == [None, (1.5, 2.0, 3.0, 4.0), (0, 0, 5, 5)]
    assert np.array_equal(reply.objects[0].mask, SQUARE) and reply.objects[1].mask is None
    assert np.array_equal(reply.objects[2].mask, CIRCLE)


def test_coco_results_with_several_entries_for_a_sample(tmp_path: Path) -> None:
    entries = [
        {"id": 7, "segmentation": CIRCLE_RLE},
        {"id": "8", "bbox": [1, 2, 3, 4], "text": "a box"},
        {"image_id": 7, "segmentation": SQUARE_POLYGON},
        {"id": 9},
    ]
    saved = SavedReplies(write_json(tmp_path / "x.json", entries), DataProblems())
    assert [np.count_nonzero(item.mask) for item in saved.reply("7", SIZE).objects] == [CIRCLE.sum(), 576]
    assert saved.reply("8", SIZE).objects[0].box == (1, 2, 4, 6) and saved.reply("8", SIZE).text == "a box"
    assert saved.reply("9", SIZE).objects == ()
    assert saved.size("7") == SIZE and saved.size("8") is None
    with pytest.raises(DataError, match="x.json has no prediction for sample 3"):
        saved.size("3")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": 2}, "no prediction for sample 1"),
        ({"id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}, "2 x 2 pixels, the picture 96 x 64"),
        ({"id": 1, "segmentation": "mask"}, "list of polygons"),
        ({"id": 1, "bbox": [1, 2, 3]}, "does not fit"),
        ({"id": 1, "bbox": [90, 2, 30, 4]}, "inside the picture"),
        ({"id": 1, "masks": [None]}, "does not fit"),
    ],
)
def test_what_does_not_fit(entry: dict, message: str, tmp_path: Path) -> None:
    saved = SavedReplies(write_json(tmp_path / "x.json", [entry]), DataProblems())
    with pytest.raises(DataError, match=message):
        saved.reply("1", SIZE)


@pytest.mark.parametrize("content", [{"a": 1}, [1], [{"segmentation": []}]])
def test_other_files_are_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        SavedReplies(write_json(tmp_path / "x.json", content), DataProblems())
