"""What a benchmark is to the runner: samples to ask, a row of numbers for each reply, a summary of all rows.

Knows the contract only. Reading files is `data`'s work, asking the model, resuming and writing results
`runner`'s, formulas `metrics`'.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..data.problems import DataProblems
from ..reply import Prompt, Reply

if TYPE_CHECKING:
    from ..chat import Chat

FIELD, REFERENCE = "field", "reference"
PROTOCOLS = (FIELD, REFERENCE)  # the field's convention, or the reference implementation to the last digit


@dataclass(frozen=True, eq=False)
class Sample:
    """One question of a benchmark.

    Attributes:
        id: unique in the data set and the same in every run; what a resumed run knows its rows by.
        picture: the picture's file, or the picture itself where it is generated; None if the task has none.
        prompt: the question, exactly as it goes to the model, unless the task's `prompt` completes it; None
            if the language model is not asked.
        truth: the task's own; masks that are read or drawn only when asked for are fine.
        where: file and line (or file and id), for problems.
    """

    id: str
    picture: Path | Image.Image | None
    prompt: Prompt | None
    truth: object
    where: str


class Task:
    """A benchmark. Subclasses set the attributes and write the methods that raise NotImplementedError.

    An instance serves one run. `samples` is called first, in every process, and must yield the same samples
    in the same order each time.

    Attributes:
        name: as on the command line, and in the result file.
        help: one line for --help.
        max_new_tokens: where an answer is cut off unless --max-new-tokens says otherwise.
    """

    name: str
    help: str
    max_new_tokens: int = 128

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the task's own flags; --data, --limit, --protocol and so on are the runner's."""

    def samples(self, options: argparse.Namespace, problems: DataProblems) -> Iterator[Sample]:
        """All samples of `options.data`; what cannot be used is reported to `problems` and left out.

        Raises DataError if the data set itself is not there or is of another layout.
        """
        raise NotImplementedError

    def prompt(self, sample: Sample, chat: "Chat") -> Prompt:
        """The question as it goes to the model; for questions that hold mask tokens of this very model."""
        return sample.prompt

    def answer(
        self,
        chat: "Chat",
        pictures: Sequence[Image.Image | None],
        samples: Sequence[Sample],
        options: argparse.Namespace,
    ) -> list[Reply]:
        """The model's replies to a batch; only a task that does not ask the language model overrides it."""
        prompts = [self.prompt(sample, chat) for sample in samples]
        return chat.ask_batch(pictures, prompts, options.mask_tokens, options.max_new_tokens)

    def row(self, sample: Sample, reply: Reply, protocol: str) -> dict:
        """The numbers of one sample, ready for JSON: whatever `summary` needs, and "score".

        "score" lies in 0..1 and orders the cases from worst to best. The runner adds the id, the question and
        the reply's text, picture size, masks (COCO RLE), boxes and problems, under "id", "prompt", "reply",
        "size", "masks", "boxes" and "problems".

        Raises DataError (or another HimtokError) if the truth turns out not to be usable, for example a mask
        of another size than the picture; the sample is left out and named.
        """
        raise NotImplementedError

    def summary(self, rows: list[dict], protocol: str) -> dict:
        """The scores of the task from all rows, ready for JSON; nan where there is nothing to score.

        Rows come with what the runner added, in the order of the samples, and may have been read from disk.
        """
        raise NotImplementedError

    def truth_masks(self, sample: Sample) -> list[np.ndarray]:
        """The true masks, bool [H, W] each, to be drawn on the result page; none by default."""
        return []
