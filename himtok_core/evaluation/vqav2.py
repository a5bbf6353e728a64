"""VQAv2: short answers to open questions, compared with those of ten people (the supplement, section G)."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..data.problems import DataProblems
from ..data.vqa import OpenQuestion, read_vqa
from ..reply import Prompt, Reply
from . import answers, metrics
from .pope import BRIEFLY
from .task import REFERENCE, Sample, Task


class VqaV2(Task):
    """VQA accuracy, overall and for each type of answer.

    Both protocols bring all answers into a normal form first, each by its own rules.
    """

    name = "vqav2"
    help = "VQAv2: short answers (v2_OpenEnded_*_questions.json or JSON Lines): VQA accuracy"
    max_new_tokens = 10

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--annotations and --images."""
        parser.add_argument(
            "--annotations", type=Path, metavar="FILE", help="v2_*_annotations.json (default: beside --data)"
        )
        parser.add_argument("--images", type=Path, metavar="DIR", help="COCO's (default: beside --data)")

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample for each question that has answers."""
        for question in read_vqa(Path(options.data), options.annotations, options.images, problems):
            prompt = Prompt(f"{question.text} {BRIEFLY}")
            yield Sample(question.id, question.picture, prompt, question, question.where)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The answer and the most frequent true one in their normal form."""
        question: OpenQuestion = sample.truth
        reference = protocol == REFERENCE
        answer = answers.vqa_normal_form(reply.text, reference)
        truths = [answers.vqa_normal_form(truth, reference) for truth in question.answers]
        return {
            "kind": question.kind,
            "answer": answer,
            "truth": max(truths, key=truths.count),
            "score": metrics.vqa_accuracy(answer, truths),
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """VQA accuracy of all questions and of each type of answer."""
        kinds = sorted({row["kind"] for row in rows})
        return {
            "accuracy": metrics.mean([row["score"] for row in rows]),
            "kinds": {
                kind: metrics.mean([row["score"] for row in rows if row["kind"] == kind]) for kind in kinds
            },
        }
