"""POPE: is an object in the picture, or does the model only imagine it? (the supplement, section G)"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..data.problems import DataProblems
from ..data.yes_no import YesNoQuestion, read_pope
from ..reply import Prompt, Reply
from . import answers, metrics
from .task import Sample, Task

BRIEFLY = "Answer the question using a single word or phrase."


class Pope(Task):
    """Scores for each split as published; the overall F1 is the mean over the splits, as usually reported.

    An answer without "no" or "not" counts as yes by POPE's own rule; `unclear` counts those that say neither.
    Both protocols are the same.
    """

    name = "pope"
    help = "POPE: is there a ...? (coco_pope_*.json): accuracy, precision, recall, F1"
    max_new_tokens = 100

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--images."""
        parser.add_argument(
            "--images", type=Path, metavar="DIR", help="COCO's val2014 (default: beside --data)"
        )

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """All questions of all splits that are there."""
        for question in read_pope(Path(options.data), options.images, problems):
            prompt = Prompt(f"{question.text}\n{BRIEFLY}")
            yield Sample(question.id, question.picture, prompt, question, question.where)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """What was answered, what is true, and whether the answer said either."""
        question: YesNoQuestion = sample.truth
        yes = answers.pope_says_yes(reply.text)
        return {
            "split": question.group,
            "answer": "yes" if yes else "no",
            "truth": "yes" if question.yes else "no",
            "unclear": not answers.says_yes_or_no(reply.text),
            "score": float(yes == question.yes),
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """F1 and accuracy over the splits, and all scores of each."""
        splits = {}
        for split in dict.fromkeys(row["split"] for row in rows):
            pairs = [(row["answer"] == "yes", row["truth"] == "yes") for row in rows if row["split"] == split]
            splits[split] = dataclasses.asdict(metrics.binary_scores(pairs))
        return {
            "f1": metrics.mean([scores["f1"] for scores in splits.values()]),
            "accuracy": metrics.mean([scores["accuracy"] for scores in splits.values()]),
            "unclear": sum(row["unclear"] for row in rows),
            "splits": splits,
        }
