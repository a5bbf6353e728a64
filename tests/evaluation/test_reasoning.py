"""ReasonSeg from the folder to the scores: what is to be ignored, short and long."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core import cli
from himtok_core.data.problems import DataProblems
from himtok_core.evaluation.reasoning import ReasoningSegmentation
from himtok_core.reply import Reply, ReplyObject
from tests.evaluation.datasets import CIRCLE, SIZE, SQUARE, write_reasonseg

MINI = str(Path(__file__).parents[2] / "assets" / "himtok-mini")


def says(mask: np.ndarray) -> Reply:
    return Reply("", (ReplyObject("", None, mask, None),), SIZE)


def test_questions_and_scores(tmp_path: Path) -> None:
    task = ReasoningSegmentation()
    options = argparse.Namespace(data=write_reasonseg(tmp_path))
    long, short = task.samples(options, DataProblems())
    assert long.prompt.text == "Which figure has four corners?\nWhat is the object and mask in the image?"
    assert short.prompt.text == (
        "What is the figure that could serve as a box?\nWhat is the object and mask in the image?"
    )
    holed = SQUARE.copy()
    holed[12:16, 12:16] = False  # exactly what is to be ignored
    square = 24 * 24
    # In the field ignored pixels count nowhere; in the reference they count as found.
    for predicted in (SQUARE, holed):
        row = task.row(long, says(predicted), "field")
        assert (row["intersection"], row["union"], row["score"]) == (square - 16, square - 16, 1.0)
    row = task.row(long, says(CIRCLE), "field")
    assert row["score"] == 0.0 and row["union"] == square - 16 + CIRCLE.sum()
    row = task.row(long, says(CIRCLE), "reference")
    assert (row["intersection"], row["union"]) == (16, square + CIRCLE.sum())
    rows = [task.row(long, says(CIRCLE), "field"), task.row(short, says(SQUARE), "field")]
    summary = task.summary(rows, "field")
    assert summary["gIoU"] == 0.5 and summary["short"]["gIoU"] == 1.0 and summary["long"]["gIoU"] == 0.0
    assert summary["cIoU"] == pytest.approx(square / (square + square - 16 + CIRCLE.sum()))
    assert summary["short"]["count"] == summary["long"]["count"] == 1
    assert np.array_equal(task.truth_masks(short)[0], SQUARE)


def test_himtok_mini_answers(tmp_path: Path) -> None:
    data = write_reasonseg(tmp_path / "val")
    out = tmp_path / "out"
    words = ["--data", str(data), "--out", str(out), "--model", MINI, "--device", "cpu"]
    assert cli.main(["evaluate", "reasonseg", *words]) == 0
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert result["scored"] == 2 and 0 <= result["scores"]["gIoU"] <= 1 and not result["problems"]
