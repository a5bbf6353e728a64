"""Referring expression segmentation: one expression, one mask; and its generalisation to none or many.

Knows how RefCOCO's and gRefCOCO's expressions become questions and how replies to them are scored. Their
files are `data.refcoco`'s work.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import prompts
from ..data.problems import DataProblems
from ..data.refcoco import Reference, read_references
from ..errors import DataError, PromptError
from ..reply import Prompt, Reply
from . import metrics, reference, segmentation
from .task import REFERENCE, Sample, Task

SMALL = 0.04  # of the picture: what the supplement's table 12 counts as small


class ReferringSegmentation(Task):
    """RefCOCO, RefCOCO+ and RefCOCOg: cIoU and gIoU, of small objects too, and the boundary F-score.

    Every expression is asked for itself; in the reference's protocol all expressions for an object together.
    """

    name = "res"
    help = "referring segmentation: RefCOCO, RefCOCO+, RefCOCOg"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--pictures, --split, --instances and --small."""
        _add_source(parser)
        parser.add_argument("--small", action="store_true", help="only objects under 4%% of the picture")

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample for each expression (or each object, in the reference's protocol)."""
        seen: Counter[str] = Counter()
        for truth in read_references(options.data, problems, options.split, options.instances):
            if not truth.annotations:
                problems.report(truth.where, "nothing fits the expression, which is a case for gres")
                continue
            if options.small:
                try:
                    if truth.mask().mean() >= SMALL:
                        continue
                except DataError as error:
                    problems.report(truth.where, str(error))
                    continue
            yield from expression_samples(truth, options, problems, seen)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The overlap in pixels, the boundary F-score, and the object's share of the picture."""
        truth = true_mask(sample.truth, reply)
        predicted = marked(reply)
        if protocol == REFERENCE:
            pair = reference.overlap(first_probability(reply), truth.astype(np.uint8))
            value = reference.iou(pair)
        else:
            pair = metrics.overlap(predicted, truth)
            value = metrics.iou(pair)
        return {
            "score": value,
            "intersection": pair[0],
            "union": pair[1],
            "boundary_f": segmentation.boundary_f(predicted, truth),
            "share": float(truth.mean()),
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """cIoU, gIoU, boundary F-score, and both IoUs of small objects with their number."""
        small = [row for row in rows if row["share"] < SMALL]
        return {
            **overlap_scores(rows, protocol),
            "boundary_f": metrics.mean([row["boundary_f"] for row in rows]),
            "small": {**overlap_scores(small, protocol), "count": len(small)},
        }

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The object's mask."""
        return [sample.truth.mask()]


class GeneralizedSegmentation(Task):
    """gRefCOCO, whose expressions fit nothing, one object or several: gIoU, cIoU, N-acc and T-acc.

    A model without a special output for "nothing" is taken to say so where it marks less than 50 pixels, as
    the authors of the data set do.
    """

    name = "gres"
    help = "generalised referring segmentation: gRefCOCO, with expressions for nothing and for several things"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--pictures, --split and --instances."""
        _add_source(parser)

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample for each expression (or each set of objects, in the reference's protocol)."""
        seen: Counter[str] = Counter()
        for truth in read_references(options.data, problems, options.split, options.instances):
            yield from expression_samples(truth, options, problems, seen)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The overlap in pixels, whether there is a target, and whether the reply says so."""
        truth = true_mask(sample.truth, reply)
        predicted = marked(reply)
        no_target = not sample.truth.annotations
        said_none = int(np.count_nonzero(predicted)) < segmentation.NO_TARGET_PIXELS
        if protocol == REFERENCE:
            # It knows no empty answers: two empty masks agree, anything else is an overlap as any other.
            pair = reference.overlap(first_probability(reply), truth.astype(np.uint8))
            value = reference.iou(pair)
        else:
            pair = metrics.overlap(predicted, truth)
            value = segmentation.GeneralizedCase(pair, no_target, said_none).iou
        return {
            "score": value,
            "intersection": pair[0],
            "union": pair[1],
            "no_target": no_target,
            "said_none": said_none,
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """gIoU, cIoU, N-acc, T-acc; the reference's protocol has the IoUs only."""
        if protocol == REFERENCE:
            return overlap_scores(rows, protocol)
        cases = [
            segmentation.GeneralizedCase(
                (row["intersection"], row["union"]), row["no_target"], row["said_none"]
            )
            for row in rows
        ]
        return segmentation.generalized_scores(cases)

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """All objects in one mask."""
        return [sample.truth.mask()]


def expression_samples(
    truth: Reference, options: argparse.Namespace, problems: DataProblems, seen: Counter[str]
) -> Iterator[Sample]:
    """The questions for one reference, in the wording of the released model.

    Args:
        seen: how often each sentence's number came in the file so far; one that comes again becomes "7#2".
    """
    picture = options.pictures / truth.file_name
    if options.protocol == REFERENCE:
        phrase = reference.all_descriptions([text for _, text in truth.sentences])
        prompt = Prompt(f"Segment <ref>{phrase}</ref>.", expects_mask=True)  # with the blank at its end
        yield Sample(f"all:{_new(truth.sentences[0][0], seen)}", picture, prompt, truth, truth.where)
        return
    for number, text in truth.sentences:
        name, where = _new(number, seen), f"{truth.where}, sentence {number}"
        try:
            prompt = Prompt(prompts.render("segment", phrase=text), expects_mask=True)
        except PromptError as error:
            problems.report(where, str(error))
            continue
        yield Sample(name, picture, prompt, truth, where)


def true_mask(truth: Reference, reply: Reply) -> np.ndarray:
    """The true mask, bool [H, W]. Raises DataError if the picture is of another size."""
    if truth.size != reply.size:
        raise DataError(f"the annotation is for {truth.size[0]} x {truth.size[1]} pixels, "
                        f"the picture has {reply.size[0]} x {reply.size[1]}")  # fmt: skip
    return truth.mask()


def marked(reply: Reply) -> np.ndarray:
    """Everything that a reply marks, bool [H, W] at the picture's size: all of its masks together."""
    merged = np.zeros((reply.size[1], reply.size[0]), dtype=bool)
    for item in reply.objects:
        if item.mask is not None:
            merged |= item.mask
    return merged


def first_probability(reply: Reply) -> np.ndarray | None:
    """The first mask of a reply, soft where it is known, else as float32 at the picture's size."""
    for item in reply.objects:
        if item.probability is not None:
            return item.probability
        if item.mask is not None:
            return item.mask.astype(np.float32)
    return None


def overlap_scores(rows: list[dict], protocol: str) -> dict[str, float]:
    """cIoU and gIoU of rows that hold "intersection" and "union"; nan for none."""
    pairs = [(row["intersection"], row["union"]) for row in rows]
    formulas = reference if protocol == REFERENCE and pairs else metrics
    return {"cIoU": formulas.ciou(pairs), "gIoU": formulas.giou(pairs)}


def _new(number: str, seen: Counter[str]) -> str:
    seen[number] += 1
    return number if seen[number] == 1 else f"{number}#{seen[number]}"


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=Path, default=Path(), metavar="DIR",
                        help="COCO's train2014 (needed unless --predictions is given)")
    parser.add_argument("--split", help="val, testA, ...; PSALM's files are one split each and need none")
    parser.add_argument("--instances", type=Path, metavar="FILE",
                        help="COCO's instances.json (default: the one beside --data)")
