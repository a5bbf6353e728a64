"""Conversations about a scene as token ids: what is asked, what is answered, and what may be read of it.

Knows the chat template's words and the vocabulary. How the conversations of a batch lie beside each other is
`packing`'s work, what is learned from them `scene_losses`'.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import markup
from ..data.mask_questions import MAX_TOKENS, WAYS
from ..data.questions import MASK, Question
from ..lmm import HimtokProcessor

IGNORE = -100
COARSE = 8  # tokens of a question's mask after which the model should know where it lies
# Answers to these are about the picture as a whole.
NOT_POINTING = ("absent", "describe", "yes_no")
# Tokens at an answer's beginning that decide it: the letter, "There are 3", and "There" or "The" to what may
# or may not be there. Both weigh the same: a model that hears more of denials denies what it sees.
MAYBE_ABSENT = ("absent", "box", "segment_then_box", *WAYS)
DECIDING = {"mask_perception": 1, "count": 4, "how_many_of_them": 4, **dict.fromkeys(MAYBE_ABSENT, 1)}
NUMBER_SPREAD = 15.0  # how far a coordinate may be off, in thousandths of the picture's side
READING = 0.4  # share of the conversations that go on after a mask in which that mask can be read


@dataclass
class Branch:
    """One conversation about a scene, after the part that all conversations about it share.

    Attributes:
        scene: its index in the batch.
        ids: token ids; where a mask's token belongs, `<|mt_0|>` stands.
        labels: the same where the model speaks, IGNORE elsewhere.
        runs: (place of the first mask token, number of tokens, index of the mask) of each run that is drawn.
        shown: the same of each run that can be read: those of the questions.
        looks: (first place, place after the last, objects) of each answer that is about certain objects, of
            each part of a list, and of the tokens from the ninth on of each mask in a question.
        decisions: places of the tokens that alone are an answer: the end of a mask of so many tokens, and the
            beginnings in DECIDING.
    """

    scene: int
    ids: list[int]
    labels: list[int]
    runs: list[tuple[int, int, int]]
    shown: list[tuple[int, int, int]]
    looks: list[tuple[int, int, tuple[int, ...]]]
    decisions: list[int]

    @property
    def goes_on(self) -> bool:
        """Whether another mask or another turn comes after the first mask that was drawn."""
        if not self.runs:
            return False
        start, length, _ = self.runs[0]
        return len(self.runs) > 1 or IGNORE in self.labels[start + length :]


class QuestionWriter:
    """Questions -> token ids, in the words of the chat template.

    Attributes:
        prefix_ids: what comes before every first question.
        mask_ids: of the mask tokens. box_start, box_end: ids of the tags.
        numbers: ids of "0" to "1000". values: what each of them stands for.
    """

    def __init__(self, processor: HimtokProcessor):
        self.tokenizer = processor.tokenizer
        picture = [{"type": "image"}, {"type": "text", "text": "@question@"}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": picture}], add_generation_prompt=True
        )
        text = text.replace("<IMG_CONTEXT>", processor.picture_text(1), 1)
        before, self.after_question = text.split("@question@")
        self.prefix_ids: list[int] = self._ids(before)
        vocabulary = self.tokenizer.get_vocab()
        codes = sum(token.startswith("<|mt_") and token[5:-2].isdigit() for token in vocabulary)
        self.mask_ids = range(vocabulary["<|mt_0|>"], vocabulary["<|mt_0|>"] + codes)
        self.numbers = [vocabulary[str(number)] for number in range(markup.BOX_SCALE + 1)]
        self.values = {token: value for value, token in enumerate(self.numbers)}
        self.box_start, self.box_end = vocabulary["<box>"], vocabulary["</box>"]

    def _ids(self, text: str) -> list[int]:
        # The library's own call does the same and takes twice as long around it.
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def branch(self, scene: int, first_object: int, turns: list[tuple[Question, list[int]]]) -> Branch:
        """One conversation.

        Args:
            scene: its index in the batch. first_object: the index in the batch of the scene's first object.
            turns: questions, and for each the indices of its masks in the batch: first of the ones that it
                shows, then of its answer's.
        """
        branch = Branch(scene, [], [], [], [], [], [])
        for number, (question, masks) in enumerate(turns):
            mask = iter(masks)
            objects = tuple(first_object + i for i in question.target)
            opening = "\n<|im_start|>user\n" if number else ""
            lengths = [MAX_TOKENS] * len(question.prompt_masks)
            asked = self._ids(opening + fill(question.prompt, lengths) + self.after_question)
            for start, length in self._runs(asked, lengths, len(branch.ids)):
                branch.shown.append((start, length, next(mask)))
                if objects:
                    branch.looks.append((start + COARSE + 1, start + length + 1, objects))
            branch.ids += asked
            branch.labels += [IGNORE] * len(asked)
            lengths = [question.mask_tokens or MAX_TOKENS] * len(question.answer_masks)
            answer = self._ids(fill(question.answer, lengths) + "<|im_end|>")
            begin, ends = len(branch.ids), []  # of the answer, and of its masks
            for start, length in self._runs(answer, lengths, begin):
                branch.runs.append((start, length, next(mask)))
                ends.append(start + length)
            if question.mask_tokens is not None:
                branch.decisions += ends
            branch.decisions += range(begin, begin + DECIDING.get(question.kind, 0))
            if len(ends) == len(objects) > 1:  # a list: what leads to a mask is about that object alone
                begins = [begin, *(end + 1 for end in ends[:-1])]
                parts = zip(begins, ends, objects, strict=True)
                branch.looks += [(first, end + 1, (item,)) for first, end, item in parts]
            elif objects and question.kind not in NOT_POINTING:
                branch.looks.append((begin, begin + len(answer), objects))
            branch.ids += answer
            branch.labels += answer
        return branch

    def _runs(self, ids: list[int], lengths: list[int], offset: int) -> Iterator[tuple[int, int]]:
        """(place of the first token plus `offset`, number of tokens) of each run in a text's ids."""
        place = 0
        for length in lengths:
            place = ids.index(self.mask_ids[0], place)
            yield offset + place, length
            place += length

    def forget_answers(self, branches: list[Branch], rng: np.random.Generator) -> None:
        """Replaces, in place, what the answers' later tokens could read of the truth.

        A mask's tokens become random ones: from true ones the model learns to draw the end of a mask from its
        beginning instead of from the picture, and its own beginning, which it reads when it answers, tells it
        nothing that the picture does not. What comes after a mask should read it, though: which thing has
        been drawn, so which is next, or what "it" is. Therefore some of the conversations that go on after a
        mask keep its tokens, and nothing is learned of drawing from those: their runs are `shown`, and their
        labels of mask tokens are gone.

        Coordinates are moved as far as they may be off, so that the model has met every way in which it may
        begin a box: one that begins with 1 does not go on as a count.
        """
        for branch in branches:
            if branch.goes_on and rng.random() < READING:
                for start, length, _ in branch.runs:
                    branch.labels[start : start + length] = [IGNORE] * length
                branch.shown += branch.runs
                branch.runs = []
            for start, length, _ in branch.runs:
                drawn = rng.integers(self.mask_ids[0], self.mask_ids[-1] + 1, length)
                branch.ids[start : start + length] = drawn.tolist()
            for place in np.flatnonzero(self.inside_boxes(np.array(branch.labels))):
                if (value := self.values.get(branch.labels[place])) is not None:
                    moved = round(rng.normal(value, NUMBER_SPREAD))
                    branch.ids[place] = self.numbers[min(max(moved, 0), len(self.numbers) - 1)]

    def inside_boxes(self, labels: np.ndarray) -> np.ndarray:
        """Where labels (..., T) stand between box tags, the opening one included: bool of the same shape."""
        return (labels == self.box_start).cumsum(-1) > (labels == self.box_end).cumsum(-1)


def fill(text: str, lengths: list[int]) -> str:
    """Put mask runs of so many `<|mt_0|>` where `<mask>` stands."""
    for length in lengths:
        text = text.replace(MASK, markup.mask_run([0] * length), 1)
    return text
