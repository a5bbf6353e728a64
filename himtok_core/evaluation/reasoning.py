"""Reasoning segmentation: a question that takes some thought, one mask (ReasonSeg)."""

import argparse
from collections.abc import Iterator

import numpy as np

from .. import prompts
from ..data.problems import DataProblems
from ..data.reasonseg import IGNORED, TARGET, read_reasonseg
from ..errors import PromptError
from ..images import open_picture
from ..reply import Prompt, Reply
from . import metrics, reference
from .referring import first_probability, marked, overlap_scores
from .task import REFERENCE, Sample, Task


class ReasoningSegmentation(Task):
    """ReasonSeg: gIoU and cIoU, for short and long questions too.

    Pixels that the data set says to ignore are left out; the reference's protocol counts them as found.
    """

    name = "reasonseg"
    help = "reasoning segmentation: a split's folder of ReasonSeg"

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample a picture, in the released model's wording for sentences and for phrases."""
        for truth in read_reasonseg(options.data, problems):
            try:
                text = prompts.render("reason", variant=0 if truth.is_sentence else 1, phrase=truth.text)
            except PromptError as error:
                problems.report(truth.where, str(error))
                continue
            yield Sample(truth.id, truth.picture, Prompt(text, expects_mask=True), truth, truth.where)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The overlap in pixels and whether the question is a whole sentence."""
        labels = sample.truth.labels(reply.size)
        if protocol == REFERENCE:
            pair = reference.overlap(first_probability(reply), labels)
            value = reference.iou(pair)
        else:
            pair = metrics.overlap(marked(reply), labels == TARGET, labels == IGNORED)
            value = metrics.iou(pair)
        is_sentence = sample.truth.is_sentence
        return {"score": value, "intersection": pair[0], "union": pair[1], "is_sentence": is_sentence}

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """gIoU and cIoU of all, of short and of long questions."""
        parts = {"short": False, "long": True}
        split = {name: [row for row in rows if row["is_sentence"] is long] for name, long in parts.items()}
        return {
            **overlap_scores(rows, protocol),
            **{name: {**overlap_scores(part, protocol), "count": len(part)} for name, part in split.items()},
        }

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The target, without what is to be ignored."""
        return [sample.truth.labels(open_picture(sample.picture).size) == TARGET]
