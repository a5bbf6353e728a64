"""Referring expression comprehension: one expression, one box.

Knows the JSON Lines that Qwen-VL made of RefCOCO's boxes, and how replies are scored against them.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import geometry, prompts
from ..data.coco import read_lines
from ..data.problems import DataProblems
from ..errors import DataError, PromptError
from ..reply import Prompt, Reply
from . import metrics, reference
from .task import REFERENCE, Sample, Task

THRESHOLDS = (0.5, 0.7, 0.9)


@dataclass(frozen=True)
class TrueBox:
    """(x0, y0, x1, y1) in pixels of a picture of size (width, height)."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]


class Grounding(Task):
    """RefCOCO, RefCOCO+ and RefCOCOg as boxes: part of the expressions whose box has an IoU of at least 0.5.

    The question asks for a mask first and then for the box (the paper's bidirectional flow, table 14).
    """

    name = "rec"
    help = "referring comprehension (boxes): RefCOCO, RefCOCO+, RefCOCOg as Qwen-VL's JSONL"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--pictures."""
        parser.add_argument("--pictures", type=Path, metavar="DIR",
                            help="COCO's train2014 (default: the paths in the file, from its folder)")

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample a line: {"image", "width", "height", "sent", "bbox": [x0, y0, x1, y1]}."""
        any_line = False
        for where, line in read_lines(options.data, problems):
            any_line = True
            try:
                truth = _true_box(line)
                text = line.get("sent")
                if not isinstance(text, str) or not text.strip():
                    raise DataError("the expression is empty")
                if not isinstance(line.get("image"), str):
                    raise DataError('the line has no "image"')
                if options.protocol == REFERENCE:
                    text = f"Meet all the descriptions: 1. {text}. 2. {text}. "
                    prompt = prompts.TEMPLATES["segment_then_ground"].variants[0].format(phrase=text)
                else:
                    prompt = prompts.render("segment_then_ground", phrase=text)
            except (DataError, PromptError) as error:
                problems.report(where, str(error))
                continue
            picture = options.data.parent / line["image"]
            if options.pictures is not None:
                picture = options.pictures / picture.name
            yield Sample(where, picture, Prompt(prompt, expects_mask=True), truth, where)
        if not any_line:
            raise DataError(f"{options.data} has no lines.")

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The IoU of the reply's first box, and whether there is one."""
        truth: TrueBox = sample.truth
        if truth.size != reply.size:
            raise DataError(f"the box is for {truth.size[0]} x {truth.size[1]} pixels, "
                            f"the picture has {reply.size[0]} x {reply.size[1]}")  # fmt: skip
        boxes = [item.box for item in reply.objects if item.box is not None]
        if protocol == REFERENCE:
            value = reference.box_iou(reference.box_in_pixels(reply.text, truth.size), truth.box)
        else:
            value = geometry.box_iou(boxes[0], truth.box) if boxes else 0.0
        return {"score": value, "box_found": bool(boxes), "truth": truth.box}

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """Accuracy at IoU 0.5, 0.7 and 0.9, the mean IoU, and how many replies had no box."""
        ious = [row["score"] for row in rows]
        return {
            **{f"accuracy@{limit}": metrics.accuracy_at(ious, limit) for limit in THRESHOLDS},
            "mean_iou": metrics.mean(ious),
            "without_box": sum(not row["box_found"] for row in rows),
        }


def _true_box(line: dict) -> TrueBox:
    match line:
        case {"width": int(width), "height": int(height), "bbox": [x0, y0, x1, y1]}:
            box = (x0, y0, x1, y1)
            numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in box)
            if numbers and x0 < x1 and y0 < y1 and width > 0 and height > 0:
                return TrueBox(tuple(float(value) for value in box), (width, height))
    raise DataError('the line needs "width", "height" and "bbox": [x0, y0, x1, y1] with x0 < x1 and y0 < y1')
