"""How well a model answers questions about drawn scenes that its training never saw.

Knows how questions are put to a model and how an answer of each kind is scored. Which questions are asked is
left to `scene_questions`, the mask tokenizer alone to `scene_tokenizer`, the bars to `bars`, and what the
results look like on paper to `report`.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .. import geometry, markup
from ..chat import Chat
from ..data.follow_ups import KINDS as FOLLOW_UPS
from ..data.questions import KINDS, MASK, Question
from ..data.world import COLOURS, SHAPES, World
from ..mask_tokenizer import MaskTokenizer
from ..refine import SamRefiner, refine_reply
from ..reply import Reply
from . import metrics
from .scene_questions import Asked

MAX_NEW_TOKENS = 160  # a mask, a box and the words around them take half of it
MOST_NEW_TOKENS = 420  # a list of eight masks with their names
KEPT = 24  # the worst replies, of which pictures are made; others are forgotten but for their scores


@dataclass(frozen=True, eq=False)
class Outcome:
    """One question, the reply and its scores; a score that the kind does not have is None.

    Attributes:
        seed: of the scene. group: which drawings the scene was made of, as of `scene_questions.Asked`.
        overlaps: for each true mask, pixels in the intersection and union with the reply's one.
        box_iou: of the reply's box and the true one, 0..1; 0 where a box was due and none came.
        correct: whether the words (or the number of tokens) are right.
        missing: a mask or box was due and the reply has neither; for `absent`, always False.
    """

    seed: int
    group: str
    question: Question
    reply: Reply
    overlaps: tuple[metrics.Overlap, ...]
    box_iou: float | None
    correct: bool | None
    missing: bool

    @property
    def name(self) -> str:
        """Of its row: the kind of question, and the group where that is a special one."""
        return f"{self.question.kind}, {self.group}" if self.group else self.question.kind

    @property
    def score(self) -> float:
        """The first score that this kind has, 0..1, to find the worst cases by."""
        if self.overlaps:
            return metrics.giou(self.overlaps)
        return float(self.correct) if self.box_iou is None else self.box_iou


@dataclass(frozen=True)
class KindScores:
    """Scores of one kind of question; nan where the kind does not have them.

    mean_iou, ciou: masks. box_iou, box_at_50, box_at_75: mean IoU of boxes and accuracy at two thresholds.
    accuracy: right words or token counts. missing: part of the replies without the mask or box that was due.
    """

    count: int
    mean_iou: float
    ciou: float
    box_iou: float
    box_at_50: float
    box_at_75: float
    accuracy: float
    missing: float


def world_of(concepts: tuple[dict, ...], everything: World | None = None) -> World:
    """The part of the whole world that a model was trained on, by the list that it ships with.

    Args:
        concepts: {"name", "code", "styles"} of a drawing, {"name"} of a plain figure ("blue circle"); an
            empty list stands for everything.
        everything: the whole world, the default one where None.
    """
    world = everything or World()
    if not concepts:
        return world
    styles = {entry["code"]: tuple(entry["styles"]) for entry in concepts if entry.get("code")}
    drawings = tuple(
        replace(concept, styles=tuple(style for style in concept.styles if style in styles[concept.codes[0]]))
        for concept in world.concepts
        if concept.codes[0] in styles
    )
    figures = [entry["name"].split(" ") for entry in concepts if not entry.get("code")]
    return replace(
        world,
        concepts=tuple(concept for concept in drawings if concept.styles),
        shapes=tuple(shape for shape in SHAPES if [shape] in [name[-1:] for name in figures]) or world.shapes,
        colours=tuple(c for c in COLOURS if [c] in [name[:1] for name in figures]) or world.colours,
    )


def answer_all(
    chat: Chat, asked: Iterable[Asked], batch: int, refiner: SamRefiner | None = None
) -> Iterator[tuple[Asked, Reply]]:
    """Asks everything, greedily, `batch` at a time; masks of the replies are refined if there is a refiner.

    A question that leans on earlier turns ends a conversation in which the model hears its own earlier
    answers.
    """
    asked = iter(asked)
    while items := list(itertools.islice(asked, batch)):
        for item, reply in zip(items, _ask(chat, items), strict=True):
            if refiner is not None:
                reply = refine_reply(refiner, item.scene.picture, reply)
            yield item, reply


def _ask(chat: Chat, items: Sequence[Asked]) -> list[Reply]:
    turns = [(*item.earlier, item.question) for item in items]
    prompts = [[_prompt(chat, question) for question in questions] for questions in turns]
    limit = max(_limit(question) for questions in turns for question in questions)
    pictures = [item.scene.picture for item in items]
    return [replies[-1] for replies in chat.converse_batch(pictures, prompts, max_new_tokens=limit)]


def reply_seconds(chat: Chat, asked: Iterable[Asked]) -> list[float]:
    """Wall time of each reply with a mask, one question at a time, from the picture to the last pixel."""
    seconds = []
    for item in asked:
        prompt = _prompt(chat, item.question)
        reply = chat.start(item.scene.picture).ask(prompt, max_new_tokens=MAX_NEW_TOKENS)
        if any(found.mask is not None for found in reply.objects):
            seconds.append(reply.timing.total)
    return seconds


def _prompt(chat: Chat, question: Question) -> str:
    return with_masks(question.prompt, question.prompt_masks, chat.mask_tokenizer)


def _limit(question: Question) -> int:
    return MOST_NEW_TOKENS if len(question.answer_masks) > 1 else MAX_NEW_TOKENS


def with_masks(text: str, masks: tuple[np.ndarray, ...], tokenizer: MaskTokenizer) -> str:
    """Replaces every `<mask>` of a text by the full run of the mask in its place."""
    if not masks:
        return text
    side = tokenizer.config.mask_size
    stretched = np.stack([geometry.stretch_mask(mask, side) for mask in masks])
    for tokens in tokenizer.encode(torch.from_numpy(stretched)).tolist():
        text = text.replace(MASK, markup.mask_run(tokens), 1)
    return text


def score(item: Asked, reply: Reply) -> Outcome:
    """Compares a reply with the truth.

    Of several masks or boxes in a reply the first one counts; where several are due, each true mask is
    compared with the reply's best one that is still free.
    """
    question = item.question
    masks = [found.mask for found in reply.objects if found.mask is not None]
    boxes = [found.box for found in reply.objects if found.box is not None]
    if len(question.answer_masks) == 1:
        masks = masks[:1]
    overlaps = []
    for truth in question.answer_masks:
        pairs = [metrics.overlap(mask, truth) for mask in masks]
        best = max(range(len(pairs)), key=lambda i: metrics.iou(pairs[i]), default=None)
        overlaps.append((0, int(truth.sum())) if best is None else pairs[best])
        if best is not None:
            masks.pop(best)
    box_iou = None
    if "<box>" in question.answer:
        truth_box = item.scene.objects[question.target[0]].box
        box_iou = geometry.box_iou(boxes[0], truth_box) if boxes else 0.0
    drawn = any(found.mask is not None for found in reply.objects)
    missing = (bool(question.answer_masks) and not drawn) or (box_iou is not None and not boxes)
    check = _CHECKS.get(question.kind)
    if check is None and not overlaps and box_iou is None:
        check = _same_text
    correct = None if check is None else check(question, reply)
    return Outcome(
        item.scene.seed, item.group, question, reply, tuple(overlaps), box_iou, correct, missing
    )


def forget_pictures(outcomes: list[Outcome]) -> None:
    """Lets go of the masks of all but the worst outcomes, in place: many of them fill the memory."""
    order = sorted(range(len(outcomes)), key=lambda i: outcomes[i].score)
    for i in order[KEPT:]:
        question = replace(outcomes[i].question, prompt_masks=(), answer_masks=())
        reply = replace(outcomes[i].reply, objects=())
        outcomes[i] = replace(outcomes[i], question=question, reply=reply)


def summarise(outcomes: list[Outcome]) -> dict[str, KindScores]:
    """Scores for every row: special groups of drawings last, kinds in the order of their lists."""
    order = {kind: place for place, kind in enumerate((*KINDS, *FOLLOW_UPS))}
    rows: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.group, order[o.question.kind])):
        rows.setdefault(outcome.name, []).append(outcome)
    return {name: scores_of(found) for name, found in rows.items()}


def scores_of(outcomes: Sequence[Outcome]) -> KindScores:
    """Scores of any outcomes together."""
    overlaps = [pair for outcome in outcomes for pair in outcome.overlaps]
    boxes = [outcome.box_iou for outcome in outcomes if outcome.box_iou is not None]
    return KindScores(
        count=len(outcomes),
        mean_iou=metrics.giou(overlaps),
        ciou=metrics.ciou(overlaps),
        box_iou=metrics.mean(boxes),
        box_at_50=metrics.accuracy_at(boxes, 0.5),
        box_at_75=metrics.accuracy_at(boxes, 0.75),
        accuracy=metrics.mean([outcome.correct for outcome in outcomes if outcome.correct is not None]),
        missing=metrics.mean([outcome.missing for outcome in outcomes]),
    )


def denies(reply: Reply) -> bool:
    """Whether a reply says that there is no such thing."""
    return not reply.objects and re.match(r"There (is|are) no\b", reply.text.strip()) is not None


def _says_none(question: Question, reply: Reply) -> bool:
    return denies(reply)


def _same_number(question: Question, reply: Reply) -> bool:
    if re.search(r"\d", question.answer) is None:
        return _says_none(question, reply)
    return re.findall(r"\d+", reply.text) == re.findall(r"\d+", question.answer)


def _same_first_word(question: Question, reply: Reply) -> bool:
    return re.findall(r"\w+", reply.text)[:1] == re.findall(r"\w+", question.answer)[:1]


def _same_last_word(question: Question, reply: Reply) -> bool:
    return re.findall(r"\w+", reply.text)[-1:] == re.findall(r"\w+", question.answer)[-1:]


def _same_text(question: Question, reply: Reply) -> bool:
    return reply.text.strip() == question.answer


def _same_things(question: Question, reply: Reply) -> bool:
    """The same list in any order."""
    return _listed(reply.text) == _listed(question.answer)


def _listed(text: str) -> list[str]:
    names = text.strip().removeprefix("The picture shows ").removesuffix(".")
    return sorted(re.split(r", | and ", names))


def _same_place(question: Question, reply: Reply) -> bool:
    return reply.text.split("<box>")[0].strip() == question.answer.split("<box>")[0].strip()


def _right_length(question: Question, reply: Reply) -> bool:
    runs = [item.tokens for item in reply.objects if item.tokens]
    return bool(runs) and all(len(tokens) == question.mask_tokens for tokens in runs)


def _same_names(question: Question, reply: Reply) -> bool:
    """The names before the masks, in any order."""
    expected = [span.label for span in markup.parse(question.answer) if isinstance(span, markup.PhraseSpan)]
    return sorted(item.label for item in reply.objects) == sorted(expected)


_CHECKS: dict[str, Callable[[Question, Reply], bool]] = {
    "absent": _says_none,
    "segment_with_length": _right_length,
    "count": _same_number,
    "colour_of": _same_last_word,
    "what_is_at": _same_text,
    "where_is": _same_place,
    "yes_no": _same_first_word,
    "describe": _same_things,
    "mask_perception": _same_first_word,
    "list_masks": _same_names,
    "its_mask_with_length": _right_length,
    "its_colour": _same_last_word,
    "how_many_of_them": _same_number,
}
