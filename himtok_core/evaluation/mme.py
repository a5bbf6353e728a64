"""MME: fourteen sub-tasks of questions that yes or no answers (the supplement, section G)."""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.problems import DataProblems
from ..data.yes_no import MME_COGNITION, MME_PERCEPTION, YesNoQuestion, read_mme
from ..reply import Prompt, Reply
from . import answers, metrics
from .pope import BRIEFLY
from .task import REFERENCE, Sample, Task


class Mme(Task):
    """A score of 0..200 for each sub-task, and their sums for perception and cognition.

    The reference protocol also takes "true" and Chinese words for answers. `other` counts answers that say
    neither yes nor no at their beginning; they are wrong.
    """

    name = "mme"
    help = "MME: yes or no in 14 sub-tasks (folders as published, or lists): score of each, sums"
    max_new_tokens = 20

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--images."""
        parser.add_argument(
            "--images", type=Path, metavar="DIR", help="folder with a folder for each sub-task (for lists)"
        )

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """The questions of all sub-tasks that are there."""
        for question in read_mme(Path(options.data), options.images, problems):
            prompt = Prompt(f"{question.text} {BRIEFLY}")
            yield Sample(question.id, question.picture, prompt, question, question.where)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """What was answered and what is true; the picture's name, since a picture counts as a whole."""
        question: YesNoQuestion = sample.truth
        answer = answers.mme_answer(reply.text, translate=protocol == REFERENCE)
        truth = "yes" if question.yes else "no"
        return {
            "sub_task": question.group,
            "picture": question.picture.name,
            "answer": answer,
            "truth": truth,
            "score": float(answer == truth),
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """The score of each sub-task and both sums; the sums are of those that are there."""
        scores = {}
        for name in (*MME_PERCEPTION, *MME_COGNITION):
            pictures = _pictures([row for row in rows if row["sub_task"] == name])
            if pictures:
                scores[name] = metrics.mme_score(pictures)
        return {
            "perception": _total(scores, MME_PERCEPTION),
            "cognition": _total(scores, MME_COGNITION),
            "sub_tasks": scores,
            "missing": [name for name in (*MME_PERCEPTION, *MME_COGNITION) if name not in scores],
            "other": sum(row["answer"] == "other" for row in rows),
        }


def _total(scores: dict[str, float], names: Sequence[str]) -> float:
    """The sum over the sub-tasks that are there; nan for none."""
    found = [scores[name] for name in names if name in scores]
    return sum(found) if found else math.nan


def _pictures(rows: Sequence[dict]) -> list[list[bool]]:
    """Whether each question of each picture was answered rightly."""
    pictures: dict[str, list[bool]] = {}
    for row in rows:
        pictures.setdefault(row["picture"], []).append(row["score"] == 1)
    return list(pictures.values())
