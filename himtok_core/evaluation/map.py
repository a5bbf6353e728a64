"""Mask Perception: which expression means the object under a mask? (the supplement, section E)"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import geometry
from ..data.mask_choices import LETTERS
from ..data.mask_perception import MaskQuestion, read_mask_perception
from ..data.problems import DataProblems
from ..errors import DataError
from ..reply import Prompt, Reply
from . import answers, metrics
from .task import REFERENCE, Sample, Task

if TYPE_CHECKING:
    from ..chat import Chat


class MaskPerception(Task):
    """Accuracy: an answer is right if it names exactly the right letters.

    Masks that the file has are written as tokens of the very model; runs that stand in a question go to the
    model as they are. The reference protocol takes the first letter that stands alone, the article "a" too,
    and A if there is none; the default finds the letters as people write them, and none is wrong.
    """

    name = "map"
    help = "Mask Perception (mask_perception.json): accuracy, one or several right options"
    max_new_tokens = 100

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--images."""
        parser.add_argument("--images", type=Path, metavar="DIR", help="pictures (default: beside --data)")

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """One sample for each item."""
        for question in read_mask_perception(Path(options.data), options.images, problems):
            if not answers.chosen_letters(question.answer, _options(question)):
                problems.report(question.where, f"the answer {question.answer!r} is no letter of an option")
                continue
            yield Sample(question.id, question.picture, Prompt(question.text), question, question.where)

    def prompt(self, sample: Sample, chat: "Chat") -> Prompt:
        """The question with its masks as tokens of this model."""
        from .scenes import with_masks  # torch is not needed to read a command line

        masks = tuple(self.truth_masks(sample))
        return Prompt(with_masks(sample.prompt.text, masks, chat.mask_tokenizer))

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The letters that were answered and those that are right."""
        question: MaskQuestion = sample.truth
        width, height = reply.size
        for mask in question.masks:
            if mask["size"] != [height, width]:
                raise DataError(f"the mask is {mask['size'][1]} x {mask['size'][0]} pixels, "
                                f"the picture {width} x {height}")  # fmt: skip
        right = answers.chosen_letters(question.answer, _options(question))
        chosen = answers.chosen_letters(reply.text, _options(question))
        if protocol == REFERENCE:
            letter = answers.reference_letter(reply.text)
            chosen = frozenset(letter if letter in tuple("ABCD") else "A")
            score = chosen == {answers.reference_letter(question.answer)}
        else:
            score = chosen == right
        return {
            "answer": "".join(sorted(chosen)),
            "truth": "".join(sorted(right)),
            "score": float(score),
        }

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """Accuracy of all items, of those with one right option and of those with several."""
        single = [row["score"] for row in rows if len(row["truth"]) == 1]
        multiple = [row["score"] for row in rows if len(row["truth"]) > 1]
        return {
            "accuracy": metrics.mean([row["score"] for row in rows]),
            "single": {"count": len(single), "accuracy": metrics.mean(single)},
            "multiple": {"count": len(multiple), "accuracy": metrics.mean(multiple)},
            "without a letter": sum(not row["answer"] for row in rows),
        }

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The masks that the file has."""
        return [geometry.rle_to_mask(mask) for mask in sample.truth.masks]


def _options(question: MaskQuestion) -> dict[str, str]:
    """Letter -> expression; the usual letters without words if the question does not list them."""
    return question.options or dict.fromkeys(LETTERS, "")
